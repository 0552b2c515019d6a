"""What it is to time a case, and what comes of it.

No worker does this as one job: it loads the case (`cspbench.jobs.load`), and takes bursts of
inferences when its controller asks for them (`cspbench.jobs.burst`), alone or in turn with others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Annotated, Any, ClassVar

from cspbench.core.bounds import (
    Amount,
    AtMost,
    Checked,
    Count,
    Latencies,
    Positive,
    not_empty,
    short,
)
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, Policy
from cspbench.machine.sensors.proc import Interference
from cspbench.measure.agreement import Agreement
from cspbench.measure.sampling import Drift, WarmUp

#: A launch of whose bursts a larger share was throttled is flagged, and repeated.
THROTTLED_BURSTS = 0.05


@dataclass(frozen=True)
class TimeRequest(CaseRequest):
    """Time one case.

    With ``layers`` bursts with the backend's profiler alternate with plain ones. ``model_bytes``
    are the weights and, at their peak, the live activations by the analysis; 0 if it was not
    analysed. What fits into a device's memory together is guessed by them.
    """

    job: ClassVar[str] = "time"
    layers: bool = False
    model_bytes: int = 0


@dataclass(frozen=True)
class Turns:
    """The bursts of a launch; item i belongs to round i of its block.

    ``block`` names the block: launches with the same name took turns. ``counts`` are the inferences
    of each burst, which divide ``latencies_ns``. ``lost_ns`` is how long the process was ready in
    each but did not run; None where the system does not tell. ``running_ns`` are the times that the
    inferences themselves ran, with one thread on a processor. ``device_ns`` are the bursts' times
    by the device's events, where it has some. ``minor_faults`` (pages that the kernel put in place)
    and ``system_ns`` (time in the kernel) are sums over all bursts. ``profiled`` is, for bursts
    beside a profiled one, how many times longer an inference took with the profiler at work.
    ``clock_mhz`` and ``throttled_ns`` are an accelerator's clock at the end of each burst, and how
    long it was throttled up to there since the end of the burst before. ``began_ns`` is when each
    burst began, by the one clock of all processes of the machine. ``arms`` is how many processes
    took turns in the block; older runs do not tell.
    """

    block: Annotated[str, Checked(short)]
    counts: Annotated[list[Positive], Checked(not_empty)]
    lost_ns: list[Count] | None = None
    running_ns: list[Count] | None = None
    device_ns: list[Count] | None = None
    minor_faults: Count | None = None
    system_ns: Count | None = None
    profiled: list[Amount] | None = None
    clock_mhz: list[Amount | None] | None = None
    throttled_ns: list[Count] | None = None
    began_ns: list[Count] | None = None
    arms: Positive | None = None

    def __post_init__(self) -> None:
        of_bursts = (self.lost_ns, self.device_ns, self.clock_mhz, self.throttled_ns, self.began_ns)
        for values in of_bursts:
            if values is not None and len(values) != len(self.counts):
                raise ValueError("the bursts of a block have different numbers of values")
        if self.running_ns is not None and len(self.running_ns) != sum(self.counts):
            raise ValueError("the bursts of a block hold another number of inferences")

    @property
    def throttled_share(self) -> float:
        """Share of the bursts in which the accelerator was throttled."""
        held = self.throttled_ns or []
        return sum(ns > 0 for ns in held) / len(held) if held else 0.0


@dataclass(frozen=True)
class TimeResult:
    """What a timing launch measured.

    ``latencies_ns`` are the samples in order. The first inference (``first_ns``) and the check are
    those of a plain inference, whatever the scope. ``stop`` says why sampling stopped. ``device``
    holds medians in ns by what they are of, where the device has a clock of its own. ``turns`` says
    how the samples divide into bursts (runs of older versions have launches without), ``layers``
    what the backend's profiler saw meanwhile.
    """

    latencies_ns: Latencies
    load_ns: Count
    first_ns: Count
    warmup: WarmUp
    agreement: Agreement
    sample_seconds: Amount | None = None
    scope: str = "inference"
    stop: str = ""
    relative_half_width: Amount | None = None
    backend: dict[str, Any] = field(default_factory=dict)
    interference: Interference | None = None
    drift: Drift | None = None
    device: Annotated[dict[str, Amount | None], AtMost(1000)] | None = None
    turns: Turns | None = None
    layers: LayerTimes | None = None

    def __post_init__(self) -> None:
        if self.turns is not None and sum(self.turns.counts) != len(self.latencies_ns):
            raise ValueError("the bursts do not hold all samples")

    @property
    def median_ms(self) -> float:
        """Median of the samples."""
        return median(self.latencies_ns) / 1e6


def flags(result: TimeResult) -> list[str]:
    """What may have spoilt the latencies, as the worker saw it."""
    drift, interference, turns = result.drift, result.interference, result.turns
    spoilt = {
        "throttled": turns is not None and turns.throttled_share > THROTTLED_BURSTS,
        "not_steady": not result.warmup.steady or (drift is not None and drift.slow),
        "contended": interference is not None and interference.contended(),
        "fallback_engine": "fallback" in result.backend,
        "frozen_branch": result.agreement.frozen_branch,
    }
    return [flag for flag, holds in spoilt.items() if holds]


JOBS.add(
    JobKind(
        "check", "the reference case once more in its block", TimeRequest, TimeResult,
        policy=Policy.BESIDE, observed=True, flags=flags,
        found=lambda result: f"{result.median_ms:.2f} ms",
    )
)  # fmt: skip
JOBS.add(
    JobKind(
        "time", "latencies of one case", TimeRequest, TimeResult,
        policy=Policy.ROUNDS, observed=True, on_board=True, flags=flags,
        found=lambda result: f"{result.median_ms:.2f} ms",
    )
)  # fmt: skip
