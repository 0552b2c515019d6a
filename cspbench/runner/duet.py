"""Schedule ``duet``: two live workers take bursts of inferences in turn.

A burst lasts about 40 ms. Bursts alternate in ABBA order, so that each pair of neighbours is one
burst of each side, a few tens of milliseconds apart, and disturbances of the machine affect both
sides alike. Thirty pairs are a *block*. Then both processes are replaced, and the other side starts
first. The schedule only measures; ``cspbench.gating`` decides when there are enough blocks.

If two models do not fit into memory together, the schedule is ``pairs``: whole processes in ABBA
order, one alive at a time. Its pairs are seconds apart and therefore less precise.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from cspbench.core.statuses import Status
from cspbench.errors import CspbenchError
from cspbench.jobs.burst import (
    BurstRequest,
    BurstResult,
    Conditions,
    ConditionsRequest,
    LoadRequest,
    LoadResult,
)
from cspbench.jobs.spec import Request, to_plain
from cspbench.runner.executor import MEMORY_SHARE
from cspbench.runner.process import NEUTRAL_FOLDER, Outcome, WorkerProcess

#: Pairs of bursts in a block, and how long a burst of the slower side lasts.
PAIRS = 30
BURST_NS = 40_000_000
#: A worker hangs if its burst takes longer than this plus this multiple of its expected time.
BURST_TIMEOUT_SECONDS = 5.0
BURST_TIMEOUT_FACTOR = 50.0

Schedule = Literal["duet", "pairs"]
Side = Literal["base", "head"]
SIDES: tuple[Side, Side] = ("base", "head")


class ArmLostError(CspbenchError):
    """An arm cannot go on. It holds the side, a reason code of the gate, and what happened."""

    def __init__(self, side: str, reason: str, outcome: Outcome) -> None:
        self.side = side
        self.reason = reason
        self.outcome = outcome
        super().__init__(f"the {side}'s worker: {outcome.status}: {outcome.reason}")


@dataclass(frozen=True)
class Loaded:
    """A loaded and warm arm: time of an inference, and the conditions that it runs under."""

    inference_ns: float
    conditions: Conditions
    facts: dict[str, Any]


@dataclass(frozen=True)
class Burst:
    """Inferences in a row: their summed time and number, and the time lost by waiting."""

    ns: float
    count: int
    lost_ns: float = 0.0

    @property
    def inference_ns(self) -> float:
        """Mean time of an inference."""
        return self.ns / self.count

    @property
    def running_ns(self) -> float:
        """The same without the time in which the process was ready but did not run."""
        return max(self.ns - self.lost_ns, 1.0) / self.count


class Arm(Protocol):
    """The worker of one side. ``start`` returns at once. The other methods raise ArmLostError."""

    def start(self) -> None:
        """Begin a fresh process."""

    def load(self) -> Loaded:
        """Load and warm up."""

    def burst(self, count: int) -> Burst:
        """Run so many inferences."""

    def conditions(self) -> Conditions:
        """Affinity and priority of the process now."""

    def close(self) -> None:
        """End the process."""


@dataclass(frozen=True)
class ArmSpec:
    """The case and artifact of a side, and the environment in which its worker runs.

    ``python`` and ``path`` name an environment other than this process's.
    """

    side: Side
    request: LoadRequest
    timeout_seconds: float = 300.0
    python: str | None = None
    path: str | None = None


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

    def start(self) -> None:
        """Begin a fresh process."""
        spec = self._spec
        self._worker = WorkerProcess(
            spec.request.case.threads, python=spec.python, path=spec.path, folder=NEUTRAL_FOLDER
        )

    def load(self) -> Loaded:
        """Load and warm up. The worker checks that its outputs agree with the reference."""
        from psutil import virtual_memory

        limit = int(MEMORY_SHARE * virtual_memory().available)
        result: LoadResult = self._ask(
            self._spec.request, self._spec.timeout_seconds, memory_limit_bytes=limit
        )
        self._expected_ns = result.inference_ns or BURST_NS
        conditions = Conditions(result.affinity, result.nice)
        return Loaded(self._expected_ns, conditions, to_plain(result))

    def burst(self, count: int) -> Burst:
        """Run so many inferences."""
        expected = count * self._expected_ns / 1e9
        timeout = BURST_TIMEOUT_SECONDS + BURST_TIMEOUT_FACTOR * expected
        result: BurstResult = self._ask(BurstRequest(count), timeout)
        return Burst(result.ns, result.count, result.lost_ns or 0.0)

    def conditions(self) -> Conditions:
        """Affinity and priority of the process now."""
        result: Conditions = self._ask(ConditionsRequest(), BURST_TIMEOUT_SECONDS)
        return result

    def _ask(self, request: Request, timeout_seconds: float, **limits: int) -> Any:
        assert self._worker is not None, "start comes first"
        outcome = self._worker.ask({**request.to_json(), **limits}, timeout_seconds)
        result = outcome.checked(request.job)
        if result is not None:
            return result
        reason = "no_answer" if outcome.status is Status.TIMEOUT else "arm_ended"
        raise ArmLostError(self._spec.side, reason, outcome)

    def close(self) -> None:
        """End the process at once: only this duet needs it."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.close()
            self._worker = None


@dataclass(frozen=True)
class Block:
    """One pair of processes: their bursts, item i of the base beside item i of the head.

    ``first`` is the side that was started first. ``facts`` are those that the workers reported.
    """

    number: int
    first: Side
    schedule: Schedule
    base: tuple[Burst, ...]
    head: tuple[Burst, ...]
    seconds: float
    facts: dict[str, dict[str, Any]]

    def inference_ns(self, side: Side) -> list[float]:
        """Mean time of an inference in each burst of a side."""
        return [burst.inference_ns for burst in getattr(self, side)]

    def running_ns(self, side: Side) -> list[float]:
        """The same without the time in which the process was ready but did not run."""
        return [burst.running_ns for burst in getattr(self, side)]


#: Makes the arm of a side; called anew for each process.
MakeArm = Callable[[Side], Arm]


def measure_blocks(make_arm: MakeArm, pairs: int = PAIRS) -> Iterator[Block]:
    """Measure block after block, as long as the caller asks for more.

    If the two sides do not fit into memory together, the schedule is ``pairs`` from then on.

    Args:
        make_arm: makes a side's arm. This function starts and ends the processes.
        pairs: pairs of bursts in a block.

    Raises:
        ArmLostError: an arm failed, ended, hung, or runs under other conditions than its partner.
    """
    schedule: Schedule = "duet"
    number = 0
    while True:
        order = SIDES if number % 2 == 0 else SIDES[::-1]
        started = time.monotonic()
        try:
            measure = _duet if schedule == "duet" else _process_pairs
            bursts, loaded = measure(make_arm, order, pairs)
        except ArmLostError as lost:
            if lost.outcome.status is not Status.OOM or schedule == "pairs":
                raise
            schedule = "pairs"
            continue
        yield Block(
            number, order[0], schedule, tuple(bursts["base"]), tuple(bursts["head"]),
            time.monotonic() - started, {side: loaded[side].facts for side in SIDES},
        )  # fmt: skip
        number += 1


#: Bursts and loaded arms of one block, by side.
_BlockParts = tuple[dict[Side, list[Burst]], dict[Side, Loaded]]


def _burst_count(loaded: Iterable[Loaded]) -> int:
    """Inferences in a burst, so that a burst of the slower side lasts about BURST_NS."""
    return max(1, round(BURST_NS / max(item.inference_ns for item in loaded)))


def _abba(order: tuple[Side, Side], pairs: int) -> Iterator[Side]:
    for pair in range(pairs):
        yield from order if pair % 2 == 0 else order[::-1]


def _duet(make_arm: MakeArm, order: tuple[Side, Side], pairs: int) -> _BlockParts:
    """One block with both processes alive."""
    with contextlib.ExitStack() as stack:
        arms: dict[Side, Arm] = {}
        for side in order:
            arms[side] = make_arm(side)
            stack.callback(arms[side].close)
            arms[side].start()
        loaded = {side: arms[side].load() for side in order}
        _check_alike(loaded)
        count = _burst_count(loaded.values())
        bursts: dict[Side, list[Burst]] = {side: [] for side in SIDES}
        for side in _abba(order, pairs):
            bursts[side].append(arms[side].burst(count))
        _check_unchanged(arms, loaded)
    return bursts, loaded


def _process_pairs(make_arm: MakeArm, order: tuple[Side, Side], pairs: int) -> _BlockParts:
    """One block of four processes in ABBA order, each with half of its side's bursts.

    Each process has its own number of inferences in a burst, because it runs alone.
    """
    bursts: dict[Side, list[Burst]] = {side: [] for side in SIDES}
    loaded: dict[Side, Loaded] = {}
    for side in _abba(order, 2):
        arm = make_arm(side)
        with contextlib.closing(arm):
            arm.start()
            loaded[side] = arm.load()
            count = _burst_count([loaded[side]])
            bursts[side] += [arm.burst(count) for _ in range(max(1, pairs // 2))]
    _check_alike(loaded)
    return bursts, loaded


def _check_alike(loaded: dict[Side, Loaded]) -> None:
    base, head = loaded["base"].conditions, loaded["head"].conditions
    if base != head:
        raise _unlike("head", f"runs under {_text(head)}, the base's under {_text(base)}")


def _text(conditions: Conditions) -> str:
    return f"affinity {conditions.affinity} and nice {conditions.nice}"


def _check_unchanged(arms: dict[Side, Arm], loaded: dict[Side, Loaded]) -> None:
    for side, arm in arms.items():
        now = arm.conditions()
        if now != loaded[side].conditions:
            raise _unlike(
                side, f"began under {_text(loaded[side].conditions)} and ended under {_text(now)}"
            )


def _unlike(side: Side, text: str) -> ArmLostError:
    return ArmLostError(side, "unlike_arms", Outcome(Status.FAILED, text))
