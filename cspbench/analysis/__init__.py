"""What is known without running: one pass over the model."""

from cspbench.analysis.layer import Layer
from cspbench.analysis.record import Analysis

__all__ = ["Analysis", "Layer"]
