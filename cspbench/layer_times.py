"""The frame of measured layer times: profiles of a run joined to its analyses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cspbench.measure.layers import LayerRow, join

if TYPE_CHECKING:
    from cspbench.analysis.record import Layer

LAYER_TIME_COLUMNS = (
    "case", "position", "entry", "entry_op", "time_ms", "share", "layers", "index", "kind",
    "stage", "macs", "traffic_bytes", "gflops_per_s", "gb_per_s",
)  # fmt: skip
#: Entry of the time that no layer's profiler entry accounts for.
RESIDUAL = "(between layers)"


def layer_time_rows(
    case: str, found: dict[str, Any], layers: Sequence[Layer]
) -> list[dict[str, Any]]:
    """Rows of one case: every profiler entry in its order, and the residual last.

    ``time_ms`` sums to the median of the profiled inference; ``share`` is of that. ``layers`` are
    the names of the Analysis's layers that an entry computes, ``index`` their indices; both empty
    where the join is not sure. Rates are of those layers' FLOPs (2 x MACs) and fused traffic.
    """
    joined = join(found, layers)
    total = found["total_ns"]
    rows = [_row(case, position, row, layers, total) for position, row in enumerate(joined)]
    residual = LayerRow(RESIDUAL, "", total - sum(row.ns for row in joined))
    return [*rows, _row(case, len(rows), residual, layers, total)]


def _row(
    case: str, position: int, row: LayerRow, layers: Sequence[Layer], total_ns: int
) -> dict[str, Any]:
    mine = [layers[number] for number in row.layers]
    macs = sum(int(layer["macs"]) for layer in mine)
    traffic = sum(int(layer["traffic_bytes_fused"]) for layer in mine)
    timed = bool(mine) and row.ns > 0
    return {
        "case": case,
        "position": position,
        "entry": row.name,
        "entry_op": row.op,
        "time_ms": row.ns / 1e6,
        "share": row.ns / total_ns if total_ns else None,
        "layers": [layer.name for layer in mine],
        "index": [layer.index for layer in mine],
        "kind": mine[0].kind if mine else None,
        "stage": mine[0].stage if mine else None,
        "macs": macs if mine else None,
        "traffic_bytes": traffic if mine else None,
        "gflops_per_s": 2 * macs / row.ns if timed else None,
        "gb_per_s": traffic / row.ns if timed else None,
    }
