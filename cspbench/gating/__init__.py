"""The performance gate: decides between two sides of a comparison (``docs/gate.md``)."""
