"""Runs as people look at them: frames, tables, forms of output."""
