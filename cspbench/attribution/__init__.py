"""Why is one case slower than another? The measured difference attributed to layers and causes."""

from cspbench.attribution.api import explain, explain_measured
from cspbench.attribution.causes import Explanation
from cspbench.attribution.engines import LayerComparison

__all__ = ["Explanation", "LayerComparison", "explain", "explain_measured"]
