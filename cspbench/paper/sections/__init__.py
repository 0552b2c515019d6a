"""The sections of the report that hold the paper against the runs."""
