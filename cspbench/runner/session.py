"""One controller at work on one run directory: prepare, launch in rounds, store each launch."""

from __future__ import annotations

import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cspbench.backends.spec import BACKENDS, LayerProfiler, device_of
from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.jobs.ceilings import CeilingsRequest
from cspbench.jobs.spec import JOBS, Json
from cspbench.jobs.time import TimeRequest, TimeResult
from cspbench.machine.devices.spec import DEVICES
from cspbench.runner.block_request import BlockRequest
from cspbench.runner.blocks import MOST_TIMES, Blocks
from cspbench.runner.ended import case_and_job, is_repeated, launch_of, shared_blocks
from cspbench.runner.executor import Executor
from cspbench.runner.plan import Plan, PlannedCase
from cspbench.runner.prepare import prepare
from cspbench.runner.process import Outcome
from cspbench.runner.progress import Progress
from cspbench.runner.replays import replays_of
from cspbench.runner.tally import Tally
from cspbench.store.ceilings import CeilingsPort, MachineCeilings
from cspbench.store.launch import Launch
from cspbench.store.ratios import InTurn, reference_of, replace_reference
from cspbench.store.records import MAX_LOST
from cspbench.store.rundir import RunDirectory

#: More blocks are for the cases whose interval is at least this share of the widest one.
LEAST_OF_WORST = 0.5


class Session:
    """One controller at work on one run directory.

    Args:
        plan: what to measure.
        directory: where launches are stored, and what is noted in ``run.json``.
        executor: where they happen.
        progress: is told how it goes on.
        ceilings: where a device's ceilings are looked up and kept.
        clock: seconds that the budget is compared with.
    """

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        executor: Executor,
        progress: Progress,
        ceilings: CeilingsPort | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._measure = plan.suite.measure
        self._directory = directory
        self._executor = executor
        self._progress = progress
        self._ceilings = ceilings or MachineCeilings(directory)
        self._name = uuid.uuid4().hex[:8]
        self._blocks = 0
        self._rounds: Counter[int] = Counter()  # that counted, of blocks of so many cases
        self._in_turn = InTurn()  # launches of this session and those before it
        first = next((planned.id for planned in plan.cases), "")
        self._reference = reference_of(directory.meta, first)  # common to the cases of a machine
        self._tally = Tally(plan)
        self._clock = clock
        self._begun = clock()

    def run(self, before: Sequence[Launch]) -> None:
        """Launch what ``before`` does not hold yet."""
        self.recall(before)
        self.measure(self.prepare())

    def recall(self, before: Iterable[Launch]) -> None:
        """Count launches that are on disk already."""
        for launch in before:
            self._tally.add(launch)
            self._in_turn.add(launch)

    def prepare(self) -> list[PlannedCase]:
        """Make what artifacts and analyses are missing; return the cases still to be launched."""
        able = [one for one in self._plan.runnable if not self._tally.is_refused(one.id)]
        rounds = self._measure.rounds
        owed = {one.id for one in able if self._tally.timed(one.id) < rounds}
        # Where the budget ended an earlier session, ratios may have been wider than asked for.
        few = [one.id for one in able if self._tally.timed(one.id) < MOST_TIMES * rounds]
        owed.update(self._scattering(few))
        # Their references take part in their blocks, whether or not these are owed a launch.
        in_blocks = owed | {self._base_of(case_id) for case_id in owed}
        wanted = [one for one in able if one.id in in_blocks or self._tally.extras_left([one.id])]
        found = prepare(
            # What cannot run here can be counted all the same.
            [str(planned.case.model_id) for planned in self._plan.cases],
            [planned.artifact for planned in wanted],
            self._executor,
            self._measure.seed,
            analysed=self._directory.meta["analyses"],
            preparing=self._progress.preparing,
        )
        self._directory.update(lambda meta: meta["analyses"].update(found.analyses))
        for planned in wanted:
            if planned.artifact.key in found.problems:
                problem = found.problems[planned.artifact.key]
                self._progress.launched(self._store(planned.id, "prepare", problem), 0)
        return [planned for planned in wanted if planned.artifact.key not in found.problems]

    def measure(self, ready: Sequence[PlannedCase]) -> None:
        """Launch what is missing of these cases."""
        cases = {planned.id: planned for planned in self._launch_before(ready)}
        self._look_for_ceilings(cases.values())
        self._time(cases)
        for kind, still in self._tally.extras.items():
            for case_id in [case_id for case_id in cases if case_id in still]:
                self._launch_once(cases[case_id], kind, lambda: self._tally.extras_left(cases))

    def _launch_before(self, cases: Sequence[PlannedCase]) -> list[PlannedCase]:
        """Fill the caches of backends that compile, each in a launch that is timed on its own."""
        kinds = self._tally.kinds_before
        return [planned for planned in cases if all(map(self._had(planned), kinds))]

    def _had(self, planned: PlannedCase) -> Callable[[str], bool]:
        """Whether a case has had the launch of a kind; one that has not has it now."""
        ref = planned.case.backend
        backend, options = BACKENDS.get(ref.name), dict(ref.options)

        def had(kind: str) -> bool:
            needed = JOBS.get(kind).needed(backend, options)
            if not needed or self._tally.had_before(kind, planned.id):
                return True
            return self._launch_once(planned, kind, lambda: 0).good

        return had

    def _time(self, cases: Mapping[str, PlannedCase]) -> None:
        """Launch in rounds until every case has its launches, or has failed for good."""
        measure = self._measure
        first = self._clock()
        launched = 0

        def out_of_time() -> bool:
            """Whether the launches that look at something else than time would be late."""
            if measure.budget_seconds is None:
                return False
            now = self._clock()
            reserve = self._tally.extras_left(cases) * (now - first) / max(launched, 1)
            return now - self._begun + reserve > measure.budget_seconds

        def scattering(case_ids: Sequence[str]) -> list[str]:
            """More blocks make no ratio sharper whose reference has failed for good."""
            able = {one for one in cases if not blocks.has_given_up(one)}
            return self._scattering([one for one in case_ids if self._base_of(one) in able])

        blocks = Blocks(
            list(cases),
            measure.rounds,
            measure.seed,
            self._counted(cases),
            together=measure.together,
            scattering=scattering,
            out_of_time=out_of_time,
        )
        left = blocks.remaining().total() + self._tally.extras_left(cases)
        self._progress.started(self._plan, left)
        for case_ids in blocks:
            ended = list(self._block(cases, case_ids, self._reference_of_block(cases, blocks)))
            launched += len(ended)
            owed, in_turn = set(case_ids), shared_blocks(launch for _, _, launch in ended)
            for case_id, outcome, launch in ended:
                # The reference has a launch in each part of a split block, and in those of others:
                # only its bad ends count there.
                if launch.job == "time" and (case_id in owed or not launch.good):
                    owed.discard(case_id)
                    blocks.report(
                        case_id,
                        good=launch.good,
                        final=launch.status in NOT_RUNNABLE or outcome.final,
                        lost=launch.status is Status.LOST,
                        disturbed=is_repeated(launch, in_turn),
                    )
                left = blocks.remaining().total() + self._tally.extras_left(cases)
                self._progress.launched(launch, left)
        if blocks.rounds < measure.rounds:
            self._directory.update(lambda meta: _note_rounds(meta, blocks.rounds))
        # What could not be timed is not worth a look at its memory or its layers.
        self._tally.drop_extras({case_id for case_id in cases if not self._tally.timed(case_id)})

    def _reference_of_block(self, cases: Mapping[str, PlannedCase], blocks: Blocks) -> str | None:
        """The reference, or the first case that can be one in its place; None if there is none.

        It keeps its place once it was timed: ratios to it are there already.
        """
        able = [case_id for case_id in cases if not blocks.has_given_up(case_id)]
        known = self._reference
        if known in able:
            return known
        if known is None or self._tally.timed(known) or len(able) < 2:
            return None
        self._reference = able[0]
        self._directory.update(lambda meta: replace_reference(meta, able[0]))
        return self._reference

    def _base_of(self, case_id: str) -> str:
        """The case that the ratio of a case is relative to; empty without one."""
        return reference_of(self._directory.meta, case_id) or ""

    def _counted(self, cases: Iterable[str]) -> dict[str, int]:
        """Good launches of each case so far; the reference's are no lead over the others.

        It takes part in each block, whichever cases the block is for.
        """
        counted = {case_id: self._tally.timed(case_id) for case_id in cases}
        others = [count for case_id, count in counted.items() if case_id != self._reference]
        if self._reference in counted and others:
            most = max(*others, self._measure.rounds)
            counted[self._reference] = min(counted[self._reference], most)
        return counted

    def _block(
        self, cases: Mapping[str, PlannedCase], case_ids: Sequence[str], reference: str | None
    ) -> Iterator[tuple[str, Outcome, Launch]]:
        """Time cases together, with the reference among them; store each launch."""
        members = list(case_ids)
        if self._measure.together == 1 or len(cases) < 2:
            reference = None
        if reference is not None and reference not in members:
            members.insert(0, reference)
        block = [cases[case_id] for case_id in members]
        # A board has other files than this machine.
        here = "fleet" not in self._directory.meta
        replays = replays_of(block, self._request) if self._measure.replay and here else []
        request = BlockRequest(
            name=str(self._blocks),
            arms=(*map(self._timed_in_turn, block), *replays),
            reference=None if reference is None else members.index(reference),
            seed=f"{self._measure.seed}/{len(members)}",
            skip=self._rounds[len(members)],
            keep=(lambda found: self._keep(request, found)) if here else None,
        )
        self._blocks += 1
        rounds = 0
        if len(members) == 1:
            self._progress.launching(members[0])
        else:
            self._progress.taking_turns(members)
        try:
            for number, outcome in self._executor.block(request, self._measure.timeout_seconds):
                case_id, job = case_and_job(request, number)
                launch = self._store(case_id, job, outcome)
                self._in_turn.add(launch)
                if isinstance(launch.result, TimeResult) and launch.result.turns is not None:
                    rounds = max(rounds, len(launch.result.turns.counts))
                yield case_id, outcome, launch
            self._directory.drop_block()
        except KeyboardInterrupt:
            if rounds:  # its launches are stored
                self._directory.drop_block()
            raise
        self._rounds[len(members)] += rounds

    def _timed_in_turn(self, planned: PlannedCase) -> TimeRequest:
        """A case of a block, with its layers where the suite asks for them."""
        request: TimeRequest = self._request(planned, "time")
        backend = BACKENDS.get(planned.case.backend.name)
        # A device's profiler stays attached to the process: it has a launch of its own.
        on_host = DEVICES.get(_device(planned)).on_host
        profiled = self._measure.layers and on_host and isinstance(backend, LayerProfiler)
        return replace(request, layers=profiled, model_bytes=self._model_bytes(planned))

    def _model_bytes(self, planned: PlannedCase) -> int:
        """Weights, and activations of the batch at their peak; 0 if it was not analysed."""
        analysis = self._directory.meta["analyses"].get(str(planned.case.model_id), {})
        totals = analysis.get("totals", {})
        live = planned.case.batch * int(totals.get("peak_live_bytes", 0))
        return live + int(totals.get("weight_bytes", 0)) if live else 0

    def _scattering(self, case_ids: Sequence[str]) -> list[str]:
        """Those whose ratio is not as sharp as the suite asks for, of these the least sharp.

        A few cases scatter much more than all others (a process of theirs has several modes). More
        blocks for them alone are quick, because few processes have to load.
        """
        references = {one: self._base_of(one) for one in case_ids}
        found = {
            case_id: self._in_turn.ratio(case_id, reference)
            for case_id, reference in references.items()
            if reference not in ("", case_id)
        }
        # One block has no interval; who asks for no more gets no more.
        unknown = math.inf if self._measure.rounds > 1 else 0.0
        widths = {
            case_id: unknown if one.ratio.half_width is None else one.ratio.half_width
            for case_id, one in found.items()
            if one is not None
        }
        widths = {one: width for one, width in widths.items() if width > self._measure.target_ratio}
        least = LEAST_OF_WORST * max(widths.values(), default=0.0)
        return [case_id for case_id, width in widths.items() if width >= least]

    def _look_for_ceilings(self, cases: Iterable[PlannedCase]) -> None:
        """Note the devices' ceilings; measure them where the suite asks and they are unknown."""
        for device, threads in devices_of(cases):
            known = self._ceilings.known(device, threads)
            measured = known is None
            if measured and self._measure.ceilings:
                self._progress.preparing(f"ceilings of {device}", 0, 1)
                request = CeilingsRequest(device, threads)
                timeout = self._measure.timeout_seconds
                found = self._executor.launch(request, threads, timeout).checked(request.job)
                known = found and found.ceilings  # without them there is no roofline, and no harm
            if known is not None:
                self._ceilings.note(device, threads, known, measured=measured)

    def _launch_once(self, planned: PlannedCase, kind: str, left: Callable[[], int]) -> Launch:
        """Launch once; again, within bounds, while the machine is lost with it."""
        for _ in range(MAX_LOST):
            outcome, launch = self._launch(planned, kind)
            self._progress.launched(launch, left())
            if launch.status is not Status.LOST or outcome.final:
                break
        return launch

    def _launch(self, planned: PlannedCase, kind: str) -> tuple[Outcome, Launch]:
        """Do one job in a process of its own, and store how it ended."""
        self._progress.launching(planned.id)
        request = self._request(planned, kind)
        timeout = self._measure.timeout_seconds
        outcome = self._executor.launch(request, planned.case.threads, timeout)
        return outcome, self._store(planned.id, kind, outcome)

    def _request(self, planned: PlannedCase, kind: str) -> Any:
        measure = self._measure
        return JOBS.get(kind).request(
            case=planned.case,
            artifact=planned.artifact.path,
            reference=planned.artifact.reference,
            device=_device(planned),
            seed=measure.seed,
            warmup_seconds=measure.warmup_seconds,
            target_ci=measure.target_ci,
            max_seconds=measure.max_seconds,
            min_seconds=measure.min_seconds,
            sensors=measure.sensors,
        )

    def _keep(self, request: BlockRequest, found: Sequence[tuple[int, Outcome]]) -> None:
        """Hold what a block under way has found, so that a kill does not cost it."""
        launches: list[Launch] = []
        for number, outcome in found:
            case_id, job = case_and_job(request, number)
            before = sum(launch.case == case_id for launch in launches)
            launches.append(self._launch_of(case_id, job, outcome, before))
        self._directory.keep_block([launch.to_json() for launch in launches])

    def _launch_of(self, case_id: str, job: str, outcome: Outcome, before: int = 0) -> Launch:
        """A launch as it is stored; ``before`` are launches of its case that are not stored yet."""
        number = self._tally.next_number(case_id) + before
        return launch_of(outcome, case=case_id, job=job, number=number, session=self._name)

    def _store(self, case_id: str, job: str, outcome: Outcome) -> Launch:
        """Put a launch on disk; on return it is there. Its envelope is written here alone."""
        launch = self._launch_of(case_id, job, outcome)
        try:
            self._directory.append(launch.to_json())
        except ValueError as error:  # the reader of runs would refuse this line
            reason = f"the launch cannot be kept: {error}"
            launch = replace(
                launch, status=Status.FAILED, reason=reason, flags=[], sensors=None, result=None
            )
            self._directory.append(launch.to_json())
        self._tally.add(launch)
        return launch


def devices_of(cases: Iterable[PlannedCase]) -> list[tuple[str, int]]:
    """Devices that cases run on, with their threads; each once, in order."""
    return sorted({(_device(planned), planned.case.threads) for planned in cases})


def _device(planned: PlannedCase) -> str:
    backend = planned.case.backend
    return device_of(BACKENDS.get(backend.name), dict(backend.options))


def _note_rounds(meta: Json, rounds: int) -> None:
    """Note that the budget ended the rounds early; of several boards the shortest counts."""
    meta["rounds_in_budget"] = min(meta.get("rounds_in_budget", rounds), rounds)
