"""The sections of the report that check the paper against the runs."""
