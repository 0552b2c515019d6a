"""Shared by torch's backends that compile: mode ``compile``, and whether its cache had the model.

Light: torch is imported when a method needs it.
"""

from __future__ import annotations

from cspbench.backends.spec import BackendSpec
from cspbench.core.options import Options, resolve


class InductorSpec(BackendSpec):
    """A spec whose axis ``mode`` has ``compile``."""

    def compiles(self, options: Options) -> bool:
        """Mode compile does."""
        return resolve(self.axes, options)["mode"] == "compile"

    def compiled_from_cache(self) -> bool:
        """True if what this process compiled was in the cache that an earlier one filled."""
        from torch._dynamo.utils import counters

        inductor, autograd = counters["inductor"], counters["aot_autograd"]
        hits = inductor["fxgraph_cache_hit"] + autograd["autograd_cache_hit"]
        return bool(hits) and not inductor["fxgraph_cache_miss"]
