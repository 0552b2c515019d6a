"""Backbones, a family a file."""
