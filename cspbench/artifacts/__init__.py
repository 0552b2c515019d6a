"""Models in the form that a backend eats: identity, cache, export, inputs and outputs."""
