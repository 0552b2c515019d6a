"""What bounds a case on an accelerator: launching, transfer, memory or arithmetic. One sentence.

The order of the questions is that of the remedies. A device that waits for the host gains nothing
from faster kernels, and an inference that is mostly copies gains nothing from either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cspbench.analysis.roofline import BANDWIDTH
from cspbench.jobs.device import DeviceResult
from cspbench.views.layer_times import Conditions

#: From this share of its time on, what the device does besides its kernels bounds a case.
LAUNCHING_SHARE, TRANSFER_SHARE = 0.25, 0.5


@dataclass(frozen=True)
class Bound:
    """``by`` launching, transfer, memory, compute or kernels; ``share`` of what, says ``text``."""

    by: str
    share: float | None
    text: str

    def __str__(self) -> str:
        return self.by if self.share is None else f"{self.by} {self.share:.0%}"


@dataclass(frozen=True)
class Work:
    """Of one inference of the whole batch: operations, bytes, and what the device can do at best.

    ``gflops`` and ``bandwidth_gbs`` (1e9 a second) are its measured ceilings in the case's
    precision, None where they are not known.
    """

    flops: float
    traffic_bytes: float
    gflops: float | None
    bandwidth_gbs: float | None


def bound(result: DeviceResult, work: Work | None = None) -> Bound | None:
    """What bounds a case; None where the device's times do not say it."""
    copies = _transfer(result.parts)
    if copies is not None and copies >= TRANSFER_SHARE:
        return Bound("transfer", copies, f"{copies:.0%} of the time copies inputs and outputs")
    waiting = result.waiting
    if waiting is None:
        return None
    if waiting >= LAUNCHING_SHARE:
        return Bound("launching", waiting, _launching(result, waiting))
    device_ns = result.medians["device_ns"]
    if work is None or not work.gflops or not work.bandwidth_gbs:
        text = (
            f"the device works {1 - waiting:.0%} of the time; measured ceilings "
            "(measure.ceilings) would tell memory from arithmetic"
        )
        return Bound("kernels", None, text)
    compute = work.flops / device_ns / work.gflops
    memory = work.traffic_bytes / device_ns / work.bandwidth_gbs
    by, share = ("memory", memory) if memory >= compute else ("compute", compute)
    text = (
        f"kernels reach {compute:.0%} of the measured arithmetic and {memory:.0%} of the measured "
        "bandwidth"
    )
    return Bound(by, share, text)


def _transfer(parts: Mapping[str, float]) -> float | None:
    copies = parts.get("input_ns", 0.0) + parts.get("output_ns", 0.0)
    whole = copies + parts.get("span_ns", 0.0)
    return copies / whole if whole else None


def _launching(result: DeviceResult, waiting: float) -> str:
    kernels = f" of {result.kernels.count} kernels" if result.kernels else ""
    return (
        f"the device waits {waiting:.0%} of the time for the host's launches{kernels}: a captured "
        "graph (mode=cudagraph) or larger batches are the remedy"
    )


def work_of(totals: Mapping[str, Any], conditions: Conditions) -> Work | None:
    """The work of a case from its analysis (per image) and its ceilings; None without analysis.

    Traffic is that of fused layers, weights are read once, whatever the batch.
    """
    moved = totals.get("traffic_bytes_fused")
    if not totals.get("macs") or moved is None:
        return None
    ceilings = conditions.ceilings
    return Work(
        2.0 * conditions.batch * totals["macs"],
        conditions.moved_bytes(moved, totals.get("weight_bytes", 0)),
        ceilings.get("gflops", {}).get(conditions.precision),
        ceilings.get("bandwidth_gbs", {}).get(BANDWIDTH),
    )
