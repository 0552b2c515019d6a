"""What a metric is: a pure function and what has to be said about its number.

A file in ``cspbench.analysis.metrics`` (or a module of another distribution named by the entry
point group ``cspbench.metrics``) registers metrics; nothing else has to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cspbench.analysis.layer import Layer, Number
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


#: What shows totals: tables of ``cspbench analyze`` (the overview, ``--memory``, ``--balance``,
#: ``--compare``, ``--conventions``), the frame ``Run.cases``, and what a gate always compares.
VIEWS = ("overview", "memory", "balance", "compare", "conventions", "cases", "gate")
LAST = 1000


class Place(NamedTuple):
    """A view that shows a total, its position there (equal ones by name), and its decimals."""

    view: str
    position: int = LAST
    decimals: int = 3


def at(**positions: int | tuple[int, int]) -> tuple[Place, ...]:
    """Places by view: a position, or a position and decimals: ``at(overview=1, memory=(1, 2))``."""
    return tuple(
        Place(view, *(place if isinstance(place, tuple) else (place,)))
        for view, place in positions.items()
    )


@dataclass(frozen=True)
class TotalMetric:
    """A number of the whole model, and where it is shown.

    ``kinds`` are the families that it counts (None: it is not a sum over operators): whatever else
    ran is listed as ignored by this convention. ``sum_of`` names the layer metric or fact whose sum
    over the layers of ``kinds`` it is, ``largest`` the one whose largest value it is: they say
    which layers and stages make a change.

    ``places`` are the views that show it. There its ``heading`` (empty: its name) stands above the
    value divided by ``divisor``; programs get the value itself under its name. ``column`` names it
    in ``Run.cases``, where it is divided as well (empty: its name, undivided); ``group`` is the
    quantity of which it is a convention. A gate takes a rule for every total.
    """

    name: str
    unit: str
    summary: str
    source: str
    compute: Callable[[Sequence[Layer], Facts], Number] = field(compare=False)
    kinds: frozenset[str] | None = None
    sum_of: str = ""
    largest: str = ""
    heading: str = ""
    divisor: float = 1
    column: str = ""
    group: str = "other"
    places: tuple[Place, ...] = (
        Place("overview"),
        Place("compare"),
        Place("conventions"),
        Place("cases"),
    )

    def __post_init__(self) -> None:
        unknown = [place.view for place in self.places if place.view not in VIEWS]
        if unknown:
            raise ValueError(f"no view is named {unknown[0]!r}; views: {', '.join(VIEWS)}")

    def of_layer(self, layer: Layer) -> Number:
        """The layer's part of a sum; its MACs for a total that is none."""
        if not self.sum_of:
            return layer["macs"]
        return layer[self.sum_of] if self.kinds is None or layer.kind in self.kinds else 0

    def column_value(self, totals: Mapping[str, float | None]) -> float | None:
        """Its value in ``Run.cases``; None where the totals of a model lack it."""
        value = totals.get(self.name)
        return value / self.divisor if value is not None and self.column else value


LAYER_METRICS: Registry[LayerMetric] = Registry(
    "layer metric", ("cspbench.analysis.metrics",), "cspbench.metrics"
)
GRAPH_METRICS: Registry[GraphMetric] = Registry(
    "graph metric", ("cspbench.analysis.metrics",), "cspbench.metrics"
)
TOTAL_METRICS: Registry[TotalMetric] = Registry(
    "metric", ("cspbench.analysis.metrics",), "cspbench.metrics"
)


def is_builtin(metric: LayerMetric | GraphMetric | TotalMetric) -> bool:
    """True if this distribution defines the metric, so that the digest of its sources names it."""
    return metric.compute.__module__.startswith("cspbench.analysis.metrics.")


def shown_in(view: str) -> list[tuple[TotalMetric, Place]]:
    """The totals that a view shows, in its order: ours by their positions, then the others."""
    pairs = [(total, place) for total in TOTAL_METRICS for place in total.places]
    return sorted(
        (pair for pair in pairs if pair[1].view == view),
        key=lambda pair: (pair[1].position, pair[0].name),
    )
