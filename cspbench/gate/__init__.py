"""Decide between two sides."""
