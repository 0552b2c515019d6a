"""Whole detectors, a family a file."""
