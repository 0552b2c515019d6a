"""The axis ``mode`` of torch's backends: what each mode does, and what a compiler needs.

Light: torch is imported when a method needs it.
"""

from __future__ import annotations

from dataclasses import dataclass

from cspbench.backends.spec import BackendSpec
from cspbench.core.options import Options, resolve


@dataclass(frozen=True)
class Mode:
    """What is done to a program before it runs.

    ``folded``: batch norms go into the convolutions before them. ``inductor``: the mode of
    ``torch.compile``. ``ahead``: compiled by AOTInductor into a package, which runs without Python.
    ``captured``: its calls are recorded in a CUDA graph, which is replayed.
    """

    folded: bool = True
    inductor: str = ""
    ahead: bool = False
    captured: bool = False

    @property
    def compiles(self) -> bool:
        """True if a compiler must have run before anything is timed."""
        return bool(self.inductor) or self.ahead

    @property
    def single_operators(self) -> bool:
        """True if the graph's own operators run, one by one."""
        return not self.compiles and not self.captured


#: By the name in a suite. Those of ``torch.compile`` are called as there.
MODES = {
    "eager": Mode(folded=False),
    "fused": Mode(),
    "compile": Mode(inductor="default"),
    "reduce-overhead": Mode(inductor="reduce-overhead"),
    "max-autotune": Mode(inductor="max-autotune"),
    "aot": Mode(ahead=True),
    "cudagraph": Mode(captured=True),
    "cudagraph-eager": Mode(folded=False, captured=True),
    "cudagraph-compile": Mode(inductor="default", captured=True),
}


class InductorSpec(BackendSpec):
    """A spec whose axis ``mode`` has names of `MODES`."""

    def mode(self, options: Options) -> Mode:
        """The mode that these options choose."""
        return MODES[str(resolve(self.axes, options)["mode"])]

    def compiles(self, options: Options) -> bool:
        """Modes of Inductor do."""
        return self.mode(options).compiles

    def compiled_from_cache(self) -> bool:
        """True if what this process compiled was in the cache that an earlier one filled."""
        from torch._dynamo.utils import counters

        from cspbench.backends.common.compiled import was_there

        ahead = was_there()
        if ahead is not None:
            return ahead
        inductor, autograd = counters["inductor"], counters["aot_autograd"]
        hits = inductor["fxgraph_cache_hit"] + autograd["autograd_cache_hit"]
        return bool(hits) and not inductor["fxgraph_cache_miss"]
