"""Anybody's own models: one source a file."""
