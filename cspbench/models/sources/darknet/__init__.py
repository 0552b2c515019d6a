"""Darknet networks (.cfg, .weights): reader, exact shapes, torch module, weights."""
