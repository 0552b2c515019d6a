"""Matplotlib figures, one file each."""
