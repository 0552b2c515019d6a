"""An arm of a block: a worker that keeps its model loaded and takes a burst when it is asked."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cspbench.core.statuses import Status
from cspbench.errors import CspbenchError
from cspbench.jobs.burst import BurstRequest, BurstResult, ProfileRequest, ProfileResult
from cspbench.jobs.load import Conditions, ConditionsRequest, LoadRequest, LoadResult
from cspbench.jobs.spec import Request
from cspbench.machine.devices.spec import DEVICES
from cspbench.runner.block_request import MEMORY_SHARE, available_bytes
from cspbench.runner.process import NEUTRAL_FOLDER, Outcome, WorkerProcess

#: How long a burst lasts.
BURST_NS = 5_000_000
#: A worker that others wait for hangs if its burst takes so much, and so many times its expected
#: time, longer than that.
BURST_TIMEOUT_SECONDS = 5.0
BURST_TIMEOUT_FACTOR = 50.0
#: A profiler may have to write and read a file of all its events.
PROFILE_TIMEOUT_SECONDS = 120.0


#: Held while a worker loads on a device. Libraries choose algorithms there by timing them, which
#: must not meet another worker's.
_DEVICE = threading.Lock()


class ArmLostError(CspbenchError):
    """An arm cannot go on. It holds the arm's name, a reason code, and what happened."""

    def __init__(self, arm: str, reason: str, outcome: Outcome) -> None:
        self.arm = arm
        self.reason = reason
        self.outcome = outcome
        super().__init__(f"the {arm}'s worker: {outcome.status}: {outcome.reason}")


@dataclass(frozen=True)
class Loaded:
    """A loaded and warm arm: time of an inference, and the conditions that it runs under.

    ``result`` is what its worker reported; None for an invented arm of a test.
    """

    inference_ns: float
    conditions: Conditions
    result: LoadResult | None = None


@dataclass(frozen=True)
class Burst:
    """Inferences in a row: their summed time and number, and the time lost by waiting."""

    ns: float
    count: int
    lost_ns: float | None = None
    result: BurstResult | None = None

    @property
    def inference_ns(self) -> float:
        """Mean time of an inference."""
        return self.ns / self.count

    @property
    def host_ns(self) -> float:
        """The same by the host's clock, where a device's events timed the burst."""
        told = self.result.latencies_ns if self.result is not None else []
        return sum(told) / self.count if told else self.inference_ns

    @property
    def running_ns(self) -> float:
        """The same without the time in which the process was ready but did not run."""
        return max(self.ns - (self.lost_ns or 0.0), 1.0) / self.count


def if_all_told(values: Sequence[int | None]) -> list[int] | None:
    """What each burst told; None if one of them did not."""
    told = [value for value in values if value is not None]
    return told if len(told) == len(values) else None


class Arm(Protocol):
    """A worker of a block. ``start`` returns at once. All methods may raise ArmLostError."""

    def start(self) -> None:
        """Begin a fresh process."""

    def load(self) -> Loaded:
        """Load and warm up."""

    def burst(self, count: int) -> Burst:
        """Run so many inferences."""

    def conditions(self) -> Conditions:
        """Affinity and priority of the process now."""

    def keep_to(self, processors: Sequence[int]) -> Conditions | None:
        """Infer on these processors from now on; None if it works with several threads."""

    def profile(self) -> ProfileResult | None:
        """Times of its layers over all bursts, after which there are none; None if too many."""

    def close(self) -> None:
        """End the process."""


@dataclass(frozen=True)
class ArmSpec:
    """The case and artifact of an arm, and the environment in which its worker runs.

    ``python`` and ``path`` name an environment other than this process's. ``limits`` are keys of
    the worker's job that bound it (``memory_limit_bytes`` ...); without them it may take a share of
    the memory that is free when it loads. A ``patient`` arm has as long for a burst as for any
    other phase of a launch: no other arm waits for it.
    """

    name: str
    request: LoadRequest
    timeout_seconds: float = 300.0
    python: str | None = None
    path: str | None = None
    limits: Mapping[str, Any] | None = None
    patient: bool = False


class WorkerArm:
    """An arm that is a real worker process."""

    def __init__(self, spec: ArmSpec) -> None:
        self._spec = spec
        self._worker: WorkerProcess | None = None
        self._expected_ns = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._worker.pid if self._worker else None

    @property
    def resident_bytes(self) -> int:
        """Resident memory of the process now; 0 if it ended."""
        return self._worker.resident_bytes() if self._worker else 0

    @property
    def memory_bound(self) -> str:
        """What bounds the process's memory."""
        return self._worker.memory_bound if self._worker else ""

    def start(self) -> None:
        """Begin a fresh process."""
        spec = self._spec
        try:
            self._worker = WorkerProcess(
                spec.request.case.threads,
                python=spec.python,
                path=spec.path,
                folder=NEUTRAL_FOLDER,
                extra=spec.request.environment,
            )
        except OSError as error:  # too many files, processes or threads for the system
            reason = f"its worker cannot be started: {error.strerror or error}"
            raise ArmLostError(spec.name, "arm_ended", Outcome(Status.FAILED, reason)) from error

    def load(self) -> Loaded:
        """Load and warm up. The worker checks that its outputs agree with the reference."""
        limits = self._spec.limits
        if limits is None:
            limits = {"memory_limit_bytes": int(MEMORY_SHARE * available_bytes())}
        request = self._spec.request
        on_host = DEVICES.get(request.device).on_host
        with contextlib.nullcontext() if on_host else _DEVICE:
            result: LoadResult = self._ask(request, self._spec.timeout_seconds, limits)
        self._expected_ns = result.inference_ns or BURST_NS
        return Loaded(self._expected_ns, Conditions(result.affinity, result.nice), result)

    def burst(self, count: int) -> Burst:
        """Run so many inferences."""
        expected = count * self._expected_ns / 1e9
        patience = self._spec.timeout_seconds
        if not self._spec.patient:
            patience = min(patience, BURST_TIMEOUT_SECONDS + BURST_TIMEOUT_FACTOR * expected)
        result: BurstResult = self._ask(BurstRequest(count), expected + patience)
        return Burst(result.ns, result.count, result.lost_ns, result)

    def conditions(self) -> Conditions:
        """Affinity and priority of the process now."""
        result: Conditions = self._ask(ConditionsRequest(), BURST_TIMEOUT_SECONDS)
        return result

    def keep_to(self, processors: Sequence[int]) -> Conditions | None:
        """Infer on these processors from now on; None if it works with several threads."""
        request = self._spec.request
        if request.case.threads != 1 or not DEVICES.get(request.device).on_host:
            return None
        result: Conditions = self._ask(ConditionsRequest(list(processors)), BURST_TIMEOUT_SECONDS)
        return result

    def profile(self) -> ProfileResult | None:
        """Times of its layers over all bursts; there are none after it. None if they are too many.

        The launch of the layers alone says why.
        """
        result: ProfileResult | None = self._ask(
            ProfileRequest(), PROFILE_TIMEOUT_SECONDS, may_refuse=True
        )
        return result

    def _ask(
        self,
        request: Request,
        timeout_seconds: float,
        limits: Mapping[str, Any] | None = None,
        may_refuse: bool = False,
    ) -> Any:
        assert self._worker is not None, "start comes first"
        outcome = self._worker.ask({**request.to_json(), **(limits or {})}, timeout_seconds)
        result = outcome.checked(request.job)
        if result is not None or (may_refuse and outcome.status is Status.UNSUPPORTED):
            return result
        outcome.notes["memory_bound"] = self._worker.memory_bound
        reason = "no_answer" if outcome.status is Status.TIMEOUT else "arm_ended"
        raise ArmLostError(self._spec.name, reason, outcome)

    def close(self) -> None:
        """End the process at once: only this block needs it."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.close()
            self._worker = None


def load_once(arm: Arm) -> None:
    """Load an arm and end it, to see whether it can be loaded.

    Raises:
        ArmLostError: it cannot.
    """
    with contextlib.closing(arm):
        arm.start()
        arm.load()
