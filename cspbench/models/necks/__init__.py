"""Necks with their heads, one a file."""
