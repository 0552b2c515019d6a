"""A fleet: one suite over many boards, on Dask distributed (the extra ``fleet``)."""
