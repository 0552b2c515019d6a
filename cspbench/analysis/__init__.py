"""What is known without running: one pass over the model."""

from cspbench.analysis.record import Analysis, Layer

__all__ = ["Analysis", "Layer"]
