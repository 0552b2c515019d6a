"""Records: a case with its launches, one status and flags; derived when read, never stored."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from cspbench.core.case import Case
from cspbench.core.statuses import FLAGS, NOT_RUNNABLE, Status
from cspbench.jobs.layers import LayersResult, LayerTimes
from cspbench.jobs.memory import MemoryResult
from cspbench.jobs.spec import JOBS, Policy
from cspbench.jobs.time import TimeResult
from cspbench.measure.memory import MemoryUse
from cspbench.measure.statistics import (
    P99_MIN_SAMPLES,
    Interval,
    between_launches,
    percentile_of_ordered,
)
from cspbench.store.launch import Energy, Launch, counted
from cspbench.store.rundir import StoredRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: With fewer good launches an interval between launches is unreliable.
FEW_LAUNCHES = 3
#: With fewer samples in all launches of a case, for lack of time, none had an interval of its own.
FEW_SAMPLES = 40

#: A case that failed this often in one session is not tried again in it.
MAX_BAD_ENDS = 2
#: A launch that was lost with its machine is repeated more often, because the case did not fail.
MAX_LOST = 5

#: Faults in an inference, and share of its time in the kernel, from which on a case is flagged.
FAULTS, FAULT_SHARE = 100, 0.05

#: A launch with one of these flags is repeated.
DISTURBED = frozenset({"contended", "throttled"})


@dataclass(frozen=True)
class KernelWork:
    """Page faults in an inference, and the share of its time in the kernel; None if unknown.

    With several threads it is the share of the time of all of them.
    """

    faults_per_inference: float | None = None
    system_share: float | None = None

    @property
    def is_faulting(self) -> bool:
        """Whether memory that is given back and taken anew costs a noticeable part of the time."""
        faults, share = self.faults_per_inference, self.system_share
        return bool(faults and share and faults > FAULTS and share > FAULT_SHARE)


@dataclass(frozen=True)
class Record:
    """A case of a run: how it ended and every launch of it.

    ``good`` are the launches that measured; numbers come from them only. ``kernel_work`` is of
    those that tell it.
    """

    case: str
    status: Status
    reason: str
    flags: tuple[str, ...]
    launches: tuple[Launch, ...]
    good: tuple[Launch, ...]
    kernel_work: KernelWork = KernelWork()

    def newest(self, job: str) -> Any:
        """Result of the newest good launch of a kind; None if there is none."""
        good = counted(self.launches, job)
        return good[-1].result if good else None

    @property
    def times(self) -> list[TimeResult]:
        """Results of the launches that count."""
        return [launch.result for launch in self.good]

    @property
    def memory(self) -> MemoryUse | None:
        """Memory use by the newest good memory launch; None if there is none."""
        result: MemoryResult | None = self.newest("memory")
        return result.memory if result else None

    @property
    def layers(self) -> LayerTimes | None:
        """Layer times by the newest good launch that has some; None if there is none."""
        in_turn = [result.layers for result in self.times if result.layers is not None]
        if in_turn:
            return in_turn[-1]
        result: LayersResult | None = self.newest("layers")
        return result.layers if result else None

    @property
    def energy(self) -> Energy | None:
        """Medians over launches of power and of energy per inference, with the method.

        Launches of their own for energy come before timed ones, beside which it was measured.
        Launches whose energy was obtained by another method than the first one's are left out.
        """
        own = counted(self.launches, "energy")
        energies = [launch.energy for launch in own if launch.energy] or [
            launch.energy for launch in self.good if launch.energy
        ]
        if not energies:
            return None
        method = energies[0].energy_method
        alike = [energy for energy in energies if energy.energy_method == method]
        idle = [energy.idle_power_w for energy in alike if energy.idle_power_w is not None]
        return Energy(
            median(energy.energy_per_inference_j for energy in alike),
            median(energy.power_w for energy in alike),
            median(idle) if idle else None,
            method,
        )

    @property
    def latency_ms(self) -> Interval | None:
        """Median over launches of the launch medians with its 95 % interval; None if unmeasured."""
        if not self.good:
            return None
        return between_launches(self.launch_medians_ms)

    @functools.cached_property
    def launch_medians_ms(self) -> tuple[float, ...]:
        """Median of each good launch, in their order."""
        return tuple(percentile_of_ordered(ns, 0.5) / 1e6 for ns in self._ordered_launches)

    @functools.cached_property
    def _ordered_launches(self) -> list[NDArray[np.int64]]:
        import numpy as np  # its sort takes half the time of sorted()

        return [np.sort(np.array(one.latencies_ns, np.int64)) for one in self.times]

    @functools.cached_property
    def _ordered_ns(self) -> NDArray[np.int64]:
        import numpy as np

        return np.sort(np.concatenate(self._ordered_launches))

    def percentile_ms(self, share: float) -> float | None:
        """Percentile over all samples; the 99th only with P99_MIN_SAMPLES samples or more."""
        if not self.good or (share >= 0.99 and len(self._ordered_ns) < P99_MIN_SAMPLES):
            return None
        return percentile_of_ordered(self._ordered_ns, share) / 1e6


def _kernel_work(times: Iterable[TimeResult], threads: int) -> KernelWork:
    in_turn = [(result, result.turns) for result in times if result.turns is not None]
    count = sum(len(result.latencies_ns) for result, _ in in_turn)
    faults = [turns.minor_faults for _, turns in in_turn if turns.minor_faults is not None]
    system = [turns.system_ns for _, turns in in_turn if turns.system_ns is not None]
    if not in_turn or not len(in_turn) == len(faults) == len(system):
        return KernelWork()
    total_ns = sum(sum(result.latencies_ns) for result, _ in in_turn)
    return KernelWork(sum(faults) / count, sum(system) / (threads * total_ns))


def records(run: StoredRun) -> list[Record]:
    """Derive the record of every planned case, in plan order."""
    launches: dict[str, list[Launch]] = {case["id"]: [] for case in run.meta["cases"]}
    for launch in run.launches:
        launches.setdefault(launch.case, []).append(launch)
    rounds = int(run.meta["suite"]["measure"]["rounds"])
    enough = min(rounds, run.meta.get("rounds_in_budget") or rounds)
    return [_record(case, launches[case["id"]], rounds, enough) for case in run.meta["cases"]]


def _record(case: dict[str, Any], launches: Sequence[Launch], rounds: int, enough: int) -> Record:
    good = undisturbed_first(counted(launches, "time"), rounds)
    status, reason = _status(case, launches, len(good), enough)
    threads = Case.parse(case["id"]).threads
    work = _kernel_work([launch.result for launch in good], threads)
    return Record(case["id"], status, reason, _flags(good, work), tuple(launches), good, work)


def decides(job: str) -> bool:
    """True if the status of such a launch counts for its case.

    Additional launches (layers, throughput, ...), what takes turns beside the case, and kinds that
    are not installed do not count.
    """
    return job in JOBS and JOBS.get(job).policy not in (Policy.AFTER, Policy.BESIDE)


def is_disturbed(launch: Launch) -> bool:
    """True if the machine disturbed the launch: it is repeated, and may be replaced."""
    return not DISTURBED.isdisjoint(launch.flags)


def undisturbed_first(measured: Sequence[Launch], rounds: int) -> tuple[Launch, ...]:
    """The launches that count: all undisturbed ones, and disturbed ones where rounds lack them.

    The state of the machine decides whether a launch was disturbed, never its latency, so the
    choice does not bias the numbers.
    """
    clean = [launch for launch in measured if not is_disturbed(launch)]
    disturbed = [launch for launch in measured if is_disturbed(launch)]
    chosen = clean + disturbed[: max(0, rounds - len(clean))]
    return tuple(sorted(chosen, key=lambda launch: launch.number))


def _status(
    case: dict[str, Any], launches: Sequence[Launch], good: int, rounds: int
) -> tuple[Status, str]:
    if case["status"]:
        return Status(case["status"]), case["reason"]
    bad = [launch for launch in launches if not launch.good and decides(launch.job)]
    refused = [launch for launch in bad if launch.status in NOT_RUNNABLE]
    if good >= rounds:
        return Status.OK, _bad_ends(bad)
    if refused:
        return refused[-1].status, refused[-1].reason
    if bad and _given_up(bad):
        return bad[-1].status, bad[-1].reason
    earlier = f"; before that: {bad[-1].reason}" if bad else ""
    return Status.INTERRUPTED, f"the run ended after {good} of {rounds} launches{earlier}"


def _given_up(bad: Sequence[Launch]) -> bool:
    """True if the last session had tried the case as often as it may, or could not any more."""
    last_session = [launch for launch in bad if launch.session == bad[-1].session]
    if last_session[-1].final:
        return True
    if any(launch.job != "time" for launch in last_session):  # no timed launch was reached
        return True
    lost = sum(launch.status is Status.LOST for launch in last_session)
    return bool(lost >= MAX_LOST or len(last_session) - lost >= MAX_BAD_ENDS)


def _bad_ends(bad: Sequence[Launch]) -> str:
    """The reasons why launches of a measured case were repeated."""
    return "; ".join(f"a launch was repeated: {launch.reason}" for launch in bad)


def _flags(good: Sequence[Launch], work: KernelWork) -> tuple[str, ...]:
    flags = {flag for launch in good for flag in launch.flags}
    if len({launch.session for launch in good}) > 1:
        flags.add("resumed")
    if len({launch.board for launch in good if launch.board}) > 1:
        flags.add("moved")
    if work.is_faulting:
        flags.add("page_faults")
    results = [launch.result for launch in good]
    cut_short = any(result.stop == "max_seconds" for result in results)
    samples = sum(len(result.latencies_ns) for result in results)
    if good and (len(good) < FEW_LAUNCHES or (cut_short and samples < FEW_SAMPLES)):
        flags.add("few_samples")
    return tuple(flag for flag in FLAGS if flag in flags)
