"""Rules of a gate that are no totals of an analysis, one a file."""
