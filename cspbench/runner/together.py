"""Blocks on this machine: which cases fit together, their turns, and a result for each.

Cases that do not fit together are split into blocks that share the reference, so that their ratios
hold too (`runner/room.py`). While the arms load, the memory that is still free is
watched: a case that finds no room, or that runs out of memory beside others, is measured alone
after its block.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cspbench.core.signals import stops_put_off
from cspbench.core.statuses import Status
from cspbench.jobs.burst import ProfileResult
from cspbench.jobs.load import LoadRequest
from cspbench.jobs.replay import ReplayRequest
from cspbench.jobs.spec import Json, Request
from cspbench.jobs.time import TimeRequest
from cspbench.machine.devices.spec import DEVICES
from cspbench.machine.sensors.monitor import Trace
from cspbench.machine.sensors.proc import CpuTimes, Interference, between, read_cpu_times
from cspbench.measure.drift import relative_drifts
from cspbench.measure.orders import balanced_orders
from cspbench.measure.sampling import MIN_SAMPLES, Drift, Enough
from cspbench.runner.arm_result import arm_outcome, busy_seconds, own_seconds
from cspbench.runner.arms import Arm, ArmLostError, ArmSpec, Burst, Loaded, WorkerArm
from cspbench.runner.block_request import CHECK, BlockRequest
from cspbench.runner.blocks import shuffled
from cspbench.runner.interleaved import Turns, burst_count, run_block
from cspbench.runner.observe import Observer, PowerWindow
from cspbench.runner.process import Outcome
from cspbench.runner.room import (
    SPARE_SHARE,
    Needs,
    free_room,
    has_own_memory,
    packed,
    without_spare,
)
from cspbench.store.lines import MAX_LAUNCH_VALUES

#: Rounds of a block at least, however slow its cases are, and at most.
MIN_ROUNDS, MAX_ROUNDS = 8, 400
#: Rounds before the first that counts: what loading side by side did to caches is over then.
WARM_ROUNDS = 2
#: So often the rounds that are complete are kept (`BlockRequest.keep`): bursts wait for it.
KEEP_SECONDS = 10.0
#: What a launch holds of a burst, beside the times of its inferences (`jobs.time.Turns`).
VALUES_OF_BURST = 8


@dataclass
class Together:
    """The arms of a block request, measured in as few blocks as fit into memory.

    ``timeout_seconds`` bounds every phase of a load, ``limits`` gives the keys of a job that bound
    a worker. ``needs`` knows what the workers of earlier blocks took. ``plain`` are arms that are
    loaded without a profiler, since there is no memory for a second model.
    """

    request: BlockRequest
    timeout_seconds: float
    limits: Callable[[Request], Json]
    observer: Observer
    needs: Needs
    plain: set[int] = field(default_factory=set)

    def run(self) -> Iterator[tuple[int, Outcome]]:
        """Measure block after block.

        Yields:
            number of an arm, or CHECK, and how its launch ended.
        """
        needs = {number: self.needs.of(arm) for number, arm in enumerate(self.request.arms)}
        blocks = packed(needs, self.request.reference, without_spare(self.free()))
        for number, arms in enumerate(blocks):
            block = _Block(self, arms, f"{self.request.name}.{number}")
            yield from block.run()
            if self.request.first_only:
                if len(arms) > 1:
                    return
                del blocks[number + 1 :]
            blocks += [(arm,) for arm in block.without_room]

    def free(self) -> dict[str, int]:
        """Free memory of the machine and of the devices of all arms."""
        return free_room({arm.device for arm in self.request.arms})

    def arm(self, number: int) -> TimeRequest:
        """The request of an arm; CHECK is the reference's.

        It has its profiler at work as well: both are to be treated alike.
        """
        if number == CHECK:
            assert self.request.reference is not None
            number = self.request.reference
        arm = self.request.arms[number]
        return replace(arm, layers=False) if number in self.plain else arm


def least_rounds(arm: TimeRequest, inference_ns: float) -> int:
    """In which a device works for ``min_seconds``, so that its sensors see it; 0 on the host."""
    if DEVICES.get(arm.device).on_host:
        return 0
    return math.ceil(arm.min_seconds * 1e9 / (burst_count(inference_ns) * inference_ns))


@dataclass
class _Block:
    """One block of some arms. ``without_room`` are those that left for lack of memory."""

    of: Together
    numbers: tuple[int, ...]
    name: str
    without_room: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        request = self.of.request
        # Those that start first are a little slower: each block draws who that is.
        order = shuffled(self.numbers, request.seed, self.name)
        self._requests = {self._arm_name(number): self.of.arm(number) for number in order}
        self._workers: dict[str, WorkerArm] = {}
        self._bounds: dict[str, str] = {}
        self._power: dict[str, PowerWindow] = {}
        self._profiles: dict[str, ProfileResult] = {}
        self._loaded: Mapping[str, Loaded] = {}
        self._before: CpuTimes | None = None
        self._alone = len(self.numbers) == 1
        first = self.of.arm(self.numbers[0])
        self._enough = Enough(first.target_ci, first.min_seconds)
        self._most_seconds = first.max_seconds
        self._began = self._kept = 0.0
        self._window: Interference | None = None
        self._traces: Sequence[Trace] = ()

    def _arm_name(self, number: int) -> str:
        arm = self.of.arm(number)
        mark = "again" if number == CHECK else "layers" if isinstance(arm, ReplayRequest) else ""
        return f"{arm.case.id} ({mark})" if mark else arm.case.id

    def run(self) -> Iterator[tuple[int, Outcome]]:
        """Take turns; the outcomes come when all processes have ended."""
        observer = self.of.observer
        for arm in self._requests.values():  # idle power, before anything lives
            self._monitor = observer.monitor(arm)
        self._workers = {name: self._worker(name, arm) for name, arm in self._requests.items()}
        self._free = self.of.free()
        self._started = time.monotonic()
        try:
            turns = run_block(
                self._workers,
                self._orders(),
                self._rounds,
                room=self._room,
                warm_rounds=0 if self._alone else WARM_ROUNDS,
                phase=self._phase,
                enough=self._after_round,
                afterwards=self._afterwards,
            )
        except BaseException:
            self._monitor.stop()
            raise
        with stops_put_off():  # until the session has stored the whole block
            self._monitor.stop()
            whole = max(map(len, turns.bursts.values()), default=0)
            # An arm that is alone is done when it is precise enough, and not before.
            if turns.interrupted and (self._alone or whole < MIN_ROUNDS):
                raise KeyboardInterrupt
            yield from self._outcomes(self.numbers, turns)
        if turns.interrupted or turns.stopped:
            raise KeyboardInterrupt

    def _orders(self) -> Iterator[list[int]]:
        """The order of each round, as numbers of the workers.

        A case keeps its part of the design from block to block, whichever case starts first and in
        whatever order the cases were asked for: blocks of the same cases go on with one design.
        """
        started = list(self._workers)
        place = [started.index(name) for name in sorted(started)]
        for order in balanced_orders(len(place), self.of.request.seed, self.of.request.skip):
            yield [place[part] for part in order]

    def _worker(self, name: str, arm: TimeRequest) -> WorkerArm:
        load = LoadRequest.from_json(arm.to_json())
        return WorkerArm(
            ArmSpec(
                name,
                load,
                self.of.timeout_seconds,
                limits=self.of.limits(arm),
                # Others would wait for a case that hangs.
                patient=self._alone,
            )
        )

    def _room(self, name: str) -> bool:
        """Whether there is memory for one more arm; the reference's is reserved."""
        reference = self.of.request.reference
        asking = [name]
        if reference is not None and reference in self.numbers:
            if name == self._arm_name(reference):
                return True
            if self._workers[self._arm_name(reference)].pid is None:  # it begins later
                asking.append(self._arm_name(reference))
        needs = [self.of.needs.of(self._requests[one]) for one in asking]
        return all(
            left - SPARE_SHARE * self._free.get(memory, 0)
            > sum(needed.get(memory, 0) for needed in needs)
            for memory, left in self.of.free().items()
        )

    def _rounds(self, loaded: Mapping[str, Loaded]) -> int:
        """So many that the block samples for as long as its cases may together."""
        self._loaded = loaded
        for name in loaded:
            worker = self._workers[name]
            self.of.needs.note(self._requests[name], worker.resident_bytes, worker.pid)
            self._bounds[name] = worker.memory_bound
        most = max(burst_count(arm.inference_ns) for arm in loaded.values())
        held = MAX_LAUNCH_VALUES // 2 // (most + VALUES_OF_BURST)
        if self._alone:  # it ends by its time (`_is_over`), at the latest when its launch is full
            return max(MIN_SAMPLES, held)
        seconds = sum(self._requests[name].max_seconds for name in loaded)
        one = sum(
            burst_count(arm.inference_ns) * arm.inference_ns * (2 if self._profiled(name) else 1)
            for name, arm in loaded.items()
        )
        least = [
            least_rounds(self._requests[name], arm.inference_ns) for name, arm in loaded.items()
        ]
        fewest = max([MIN_ROUNDS, *least])
        return min(max(round(seconds * 1e9 / one), fewest), MAX_ROUNDS, max(held, MIN_ROUNDS))

    def _after_round(self, bursts: Mapping[str, Sequence[Burst]]) -> bool:
        """Keep what there is, if it is time to; whether the turns are over."""
        keep, late = self.of.request.keep, time.monotonic() - self._kept >= KEEP_SECONDS
        if keep is not None and late and not self._alone:
            keep(self._so_far(bursts))
            self._kept = time.monotonic()
        return self._is_over(bursts)

    def _so_far(self, bursts: Mapping[str, Sequence[Burst]]) -> list[tuple[int, Outcome]]:
        """The outcomes of arms that live, did the block end now; nothing of a few rounds."""
        whole = max(map(len, bursts.values()))
        if whole < MIN_ROUNDS:
            return []
        live = {name: list(of_arm) for name, of_arm in bursts.items() if len(of_arm) == whole}
        turns = Turns(interrupted=True, loaded=dict(self._loaded), bursts=live)
        numbers = [number for number in self.numbers if self._arm_name(number) in live]
        return list(self._outcomes(numbers, turns))

    def _is_over(self, bursts: Mapping[str, Sequence[Burst]]) -> bool:
        """Whether an arm that is alone sampled long enough; with others all have their rounds."""
        if not self._alone:
            return False
        [of_one] = bursts.values()
        last = of_one[-1].result if of_one else None
        if last is not None and self._enough.add(last.latencies_ns):
            return True
        late = time.monotonic() - self._began >= self._most_seconds
        return late and len(of_one) >= MIN_SAMPLES

    def _profiled(self, name: str) -> bool:
        """Whether profiled bursts of an arm take turns with plain ones."""
        return self._requests[name].layers

    def _phase(self, phase: str) -> None:
        """The turns begin or end: read the sensors and the machine's counters."""
        self._monitor.phase(phase)
        now = read_cpu_times()
        if phase == "sample":
            self._before = now
            self._began = self._kept = time.monotonic()
        else:
            self._window = between(self._before, now)
            self._traces = self._monitor.traces

    def _afterwards(self, name: str, arm: Arm, inference_ns: float) -> None:
        """Read the profile, and measure power.

        A sensor cannot resolve a burst, so the arm works for a while without a pause. A worker
        that is lost meanwhile has its times all the same.
        """
        worker, loaded = self._workers[name], self._loaded[name]
        # The reference's second arm profiles only to be treated like its first.
        wanted = CHECK not in self.numbers or name != self._arm_name(CHECK)
        if loaded.result is not None and loaded.result.profiles and wanted:
            try:
                profile = worker.profile()
            except ArmLostError:
                return
            if profile is not None:
                self._profiles[name] = profile
        if not self.of.observer.powered(self._requests[name]):
            return
        seconds = self.of.observer.power_seconds(self._requests[name], self._traces)
        self._monitor.start()
        try:
            burst = arm.burst(max(1, round(seconds * 1e9 / inference_ns)))
        except ArmLostError:
            return
        finally:
            self._monitor.stop()
        self._power[name] = PowerWindow(self._monitor.traces, burst.ns / 1e9, burst.count)

    def _outcomes(self, numbers: Iterable[int], turns: Turns) -> Iterator[tuple[int, Outcome]]:
        """How the launches of these arms end with the turns as they are."""
        each = (time.monotonic() - self._started) / len(self.numbers)
        drifts = relative_drifts(
            {name: [burst.inference_ns for burst in bursts]
             for name, bursts in turns.bursts.items() if name not in turns.lost}
        )  # fmt: skip
        busy = sum(busy_seconds(bursts) for bursts in turns.bursts.values())
        for number in numbers:
            outcome = self._outcome(number, turns, drifts, busy)
            if outcome is not None:
                outcome.seconds = each
                yield number, outcome

    def _outcome(
        self, number: int, turns: Turns, drifts: Mapping[str, Drift], busy_seconds: float
    ) -> Outcome | None:
        """How an arm's launch ended; None if it is to be tried alone."""
        name = self._arm_name(number)
        request, lost = self._requests[name], turns.lost.get(name)
        lacked = name in turns.left_out or (lost and lost.outcome.status is Status.OOM)
        if lacked and len(self.numbers) > 1:
            if number != CHECK:
                self.without_room.append(number)
            return None
        if lost and lacked and request.layers and number not in self.of.plain:
            self.of.plain.add(number)
            self.without_room.append(number)
            return None
        if lost:
            return lost.outcome
        unread = isinstance(request, ReplayRequest) and name not in self._profiles
        if unread and (turns.interrupted or turns.stopped):
            return None  # the block ended before its layers were read
        bursts, window = turns.bursts[name], self._window
        if window is not None:
            foreign = window.foreign_cpu_s - busy_seconds
            window = replace(
                window, foreign_cpu_s=max(0.0, foreign), own_cpu_s=own_seconds(bursts),
                voluntary_switches=None, involuntary_switches=None,
            )  # fmt: skip
        outcome = arm_outcome(
            request, self.name, turns.loaded[name], bursts, drifts.get(name), window,
            self._profiles.get(name), arms=len(self._loaded), alone=self._alone,
            precise=self._enough.reached,
        )  # fmt: skip
        outcome.notes["memory_bound"] = self._bounds[name]
        if has_own_memory(request.device):
            known = request.device in self._free
            outcome.notes["device_room"] = "estimated" if known else "unknown"
        self.of.observer.add_shared(request, self._traces, self._power.get(name), outcome)
        return outcome
