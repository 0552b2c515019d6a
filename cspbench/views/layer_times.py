"""The frame of measured layer times: profiles of a run joined to its analyses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cspbench.analysis.ops import FOLDABLE_KINDS
from cspbench.analysis.roofline import BANDWIDTH, PRECISION
from cspbench.backends.precisions import PRECISIONS
from cspbench.jobs.layers import LayerTimes
from cspbench.views.layer_join import LayerRow, join

if TYPE_CHECKING:
    from cspbench.analysis.layer import Layer

LAYER_TIME_COLUMNS = (
    "case", "position", "entry", "entry_op", "time_ms", "share", "layers", "index", "kind",
    "stage", "macs", "traffic_bytes", "gflops_per_s", "gb_per_s", "compute_utilisation",
    "memory_utilisation", "ceilings",
)  # fmt: skip
#: Entry of the time that no layer's profiler entry accounts for.
RESIDUAL = "(between layers)"


@dataclass(frozen=True)
class Conditions:
    """What a profile was taken under: images an inference, precision, and the device's ceilings.

    ``ceilings`` are the fields of ``store.ceilings.Ceilings``, empty if they were not measured;
    ``label`` names them, or says what command measures them.
    """

    batch: int = 1
    precision: str = PRECISION
    ceilings: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""

    def macs(self, layer: Layer) -> int:
        """Of the whole batch."""
        return self.batch * int(layer["macs"])

    def traffic_bytes(self, layers: Sequence[Layer]) -> int:
        """Of the whole batch, of layers that ran as one: fused, where their convolution is there.

        A norm or activation that ran alone moves its own input and output.
        """
        alone = not any(layer["traffic_bytes_fused"] for layer in layers)
        own = FOLDABLE_KINDS if alone else frozenset()
        return sum(
            self._moved(layer, "traffic_bytes" if layer.kind in own else "traffic_bytes_fused")
            for layer in layers
        )

    def _moved(self, layer: Layer, metric: str) -> int:
        return int(self.moved_bytes(int(layer[metric]), int(layer.weight_bytes)))

    def moved_bytes(self, moved: float, weights: float) -> float:
        """Of the whole batch, of what an image moves in fp32: weights are read once."""
        weights = min(weights, moved)
        whole = self.batch * (moved - weights) + weights
        return whole * self._element_bytes / 4  # the Analysis counts in fp32

    @property
    def _element_bytes(self) -> float:
        """Of a weight or an activation in this precision."""
        if self.precision not in PRECISIONS:  # of a package that is not installed here
            return 4
        return PRECISIONS.get(self.precision).element_bytes

    def shares(self, gflops: float | None, gb: float | None) -> tuple[float | None, float | None]:
        """Rates as shares of what the device can do; None where that is not known."""
        peak = self.ceilings.get("gflops", {}).get(self.precision)
        flow = self.ceilings.get("bandwidth_gbs", {}).get(BANDWIDTH)
        return (
            gflops / peak if gflops is not None and peak else None,
            gb / flow if gb is not None and flow else None,
        )


def layer_time_rows(
    case: str, profile: LayerTimes, layers: Sequence[Layer], conditions: Conditions | None = None
) -> list[dict[str, Any]]:
    """Rows of one case: every profiler entry in its order, and the residual last.

    ``time_ms`` sums to the median of the profiled inference; ``share`` is of that. ``layers`` are
    the names of the Analysis's layers that an entry computes, ``index`` their indices; both empty
    where the join is not sure. Rates are of those layers' FLOPs (2 x MACs) and fused traffic,
    utilisations are those rates as shares of the ceilings.
    """
    joined = join(profile, layers)
    total = profile.total_ns
    joined.append(LayerRow(RESIDUAL, "", total - sum(row.ns for row in joined)))
    conditions = conditions or Conditions()
    return [
        {"case": case, "position": position, **_row(row, layers, total, conditions)}
        for position, row in enumerate(joined)
    ]


def _row(
    row: LayerRow, layers: Sequence[Layer], total_ns: int, conditions: Conditions
) -> dict[str, Any]:
    own = [layers[number] for number in row.layers]
    macs = sum(conditions.macs(layer) for layer in own)
    traffic = conditions.traffic_bytes(own)
    timed = bool(own) and row.ns > 0
    gflops, gb = (2 * macs / row.ns, traffic / row.ns) if timed else (None, None)
    compute, memory = conditions.shares(gflops, gb)
    return {
        "entry": row.name,
        "entry_op": row.op,
        "time_ms": row.ns / 1e6,
        "share": row.ns / total_ns if total_ns else None,
        "layers": [layer.name for layer in own],
        "index": [layer.index for layer in own],
        "kind": own[0].kind if own else None,
        "stage": own[0].stage if own else None,
        "macs": macs if own else None,
        "traffic_bytes": traffic if own else None,
        "gflops_per_s": gflops,
        "gb_per_s": gb,
        "compute_utilisation": compute,
        "memory_utilisation": memory,
        "ceilings": conditions.label,
    }
