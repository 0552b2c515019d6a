"""Specs, blocks, the CSP transform, backbones, necks, detectors and sources."""
