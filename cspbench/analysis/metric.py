"""What a metric is: a pure function and what has to be said about its number.

A file in ``cspbench.analysis.metrics`` (or a module of another distribution named by the entry
point group ``cspbench.metrics``) registers metrics; nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cspbench.analysis.record import Layer, Number
from cspbench.core.registry import Registry


@dataclass(frozen=True)
class Facts:
    """What a total may need besides the layers: counts of the model itself."""

    params: int = 0
    running_statistics: int = 0
    peak_live_bytes: int = 0
    peak_layer: int = -1
    weight_bytes: int = 0


@dataclass(frozen=True)
class LayerMetric:
    """A number of each layer: ``compute(layer)``; it may read facts of the layer only."""

    name: str
    unit: str
    summary: str
    source: str
    compute: Callable[[Layer], Number] = field(compare=False)


@dataclass(frozen=True)
class GraphMetric:
    """A number of each layer that needs its neighbours: ``compute(layers)``, one per layer."""

    name: str
    unit: str
    summary: str
    source: str
    compute: Callable[[Sequence[Layer]], list[Number]] = field(compare=False)


@dataclass(frozen=True)
class TotalMetric:
    """A number of the whole model.

    ``kinds`` are the families that it counts (None: it is not a sum over operators): whatever else
    ran is listed as ignored by this convention.
    """

    name: str
    unit: str
    summary: str
    source: str
    compute: Callable[[Sequence[Layer], Facts], Number] = field(compare=False)
    kinds: frozenset[str] | None = None


LAYER_METRICS: Registry[LayerMetric] = Registry(
    "layer metric", ("cspbench.analysis.metrics",), "cspbench.metrics"
)
GRAPH_METRICS: Registry[GraphMetric] = Registry(
    "graph metric", ("cspbench.analysis.metrics",), "cspbench.metrics"
)
TOTAL_METRICS: Registry[TotalMetric] = Registry(
    "total", ("cspbench.analysis.metrics",), "cspbench.metrics"
)
