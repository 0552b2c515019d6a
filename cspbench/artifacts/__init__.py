"""Models in the form that a backend loads: kinds, identity, cache, export, inputs and outputs."""
