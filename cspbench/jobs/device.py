"""The job that looks at the device's own time: how long it works, how long it waits, for what.

It is apart from timing, because holding the stream back and tracing kernels change what the host's
clock sees.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from cspbench.backends.spec import Kernels
from cspbench.core.bounds import Amount, AtMost, Count
from cspbench.errors import Unsupported
from cspbench.jobs._warm import warmed_up
from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy

if TYPE_CHECKING:
    from cspbench.backends.spec import Backend
    from cspbench.core.case import Case
    from cspbench.core.options import Options

#: Inferences that are timed at most.
MOST = 1000


@dataclass(frozen=True)
class DeviceRequest(CaseRequest):
    """Look at the device's own time of one case."""

    job: ClassVar[str] = "device"


@dataclass(frozen=True)
class DeviceResult:
    """Times of inferences in ns by the device's own events.

    ``device_ns`` are without the gaps in which the device waits for the host to submit the next
    kernel, ``span_ns`` with them; ``enqueue_ns`` is the host's time of submitting. Without ``held``
    the device could not be held back, and ``device_ns`` has the gaps in it, too. ``medians`` are of
    these and of the transfer of an input. ``parts`` are of scope ``end_to_end``.
    """

    device_ns: list[Count]
    span_ns: list[Count]
    enqueue_ns: list[Count]
    medians: Annotated[dict[str, Amount], AtMost(100)]
    held: bool = True
    parts: Annotated[dict[str, Amount], AtMost(100)] = field(default_factory=dict)
    kernels: Kernels | None = None

    @property
    def waiting(self) -> float | None:
        """Share of the span in which the device waited for the host; None if it is not known."""
        device, span = self.medians.get("device_ns"), self.medians.get("span_ns")
        if not self.held or not device or not span:
            return None
        return max(0.0, 1 - device / span)


def perform(request: DeviceRequest, phase: PhaseReport) -> DeviceResult:
    """Look at them in this process.

    Raises:
        Unsupported: the backend's session does not tell the device's own times.
    """
    from cspbench.backends.spec import SamplesDevice, TracesKernels
    from cspbench.measure.scope import INFERENCE, scope_of

    phase("load")
    pool, session = request.inputs(), request.load()
    if not isinstance(session, SamplesDevice):
        raise Unsupported(f"{request.backend.name} does not tell the device's own times")
    phase("warm-up")
    warmed_up(session, request, pool)
    phase("sample")
    samples = session.device_samples(MOST, max(request.min_seconds, min(0.5, request.max_seconds)))
    parts = {} if scope_of(request.options) == INFERENCE else dict(session.parts(pool))
    kernels = session.kernels() if isinstance(session, TracesKernels) else None
    phase("close")
    session.close()
    return DeviceResult(
        device_ns=samples.device_ns,
        span_ns=samples.span_ns,
        enqueue_ns=samples.enqueue_ns,
        medians={name: float(ns) for name, ns in session.medians(samples).items()},
        held=samples.held,
        parts={name: float(ns) for name, ns in parts.items()},
        kernels=kernels,
    )


def on_device(backend: Backend, options: Options) -> bool:
    """Whether the case runs on a device, which has a time of its own."""
    from cspbench.backends.spec import device_of
    from cspbench.machine.devices.spec import DEVICES

    return not DEVICES.get(device_of(backend, options)).on_host


def _ms(_case: Case, result: DeviceResult) -> float | None:
    return result.medians["device_ns"] / 1e6 if result.held else None


def _kernels(name: str, unit: float = 1) -> Any:
    def column(_case: Case, result: DeviceResult) -> float | None:
        return None if result.kernels is None else getattr(result.kernels, name) / unit

    return column


def _found(result: DeviceResult) -> str:
    waiting = result.waiting
    busy = f"{result.medians['device_ns'] / 1e6:.3f} ms on the device"
    return busy if waiting is None else f"{busy}, which waits {waiting:.0%} of its time"


JOBS.add(
    JobKind(
        "device", "the device's own time, its kernels and its waiting", DeviceRequest, DeviceResult,
        perform, policy=Policy.AFTER, setting="device_times", sampling=True, on_board=True,
        applies=on_device, found=_found,
        columns={
            "device_ms": _ms,
            "device_waiting": lambda _case, result: result.waiting,
            "kernels": _kernels("count"),
            "kernel_ms": _kernels("busy_ns", 1e6),
        },
    )
)  # fmt: skip
