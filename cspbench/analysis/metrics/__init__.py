"""Metrics, one topic a file; each a pure function with its source."""
