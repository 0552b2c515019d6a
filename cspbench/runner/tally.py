"""What the launches of a run have settled so far: which of them its cases are still to have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.jobs.spec import JOBS, Policy, kinds_with
from cspbench.runner.plan import Plan, applies
from cspbench.store.launch import Launch


class Tally:
    """Counts the launches of a plan's cases, those of earlier sessions among them."""

    def __init__(self, plan: Plan) -> None:
        measure = plan.suite.measure
        self._numbers: Counter[str] = Counter()  # next launch number of a case
        self._timed: Counter[str] = Counter()  # good timing launches of a case
        self._extras = {  # kind of launch -> cases that are still to have theirs
            kind.name: {planned.id for planned in plan.runnable if applies(kind.name, planned.id)}
            for kind in kinds_with(Policy.AFTER)
            if measure.wants(kind.setting)
        }
        self._before = {kind.name: set[str]() for kind in kinds_with(Policy.BEFORE)}
        self._refused: set[str] = set()

    def add(self, launch: Launch) -> None:
        """Count a launch that is on disk, and what it settles for its case."""
        # Not a count: a damaged line of the file leaves a gap.
        self._numbers[launch.case] = max(self._numbers[launch.case], launch.number + 1)
        if launch.status is Status.LOST:
            return  # it settles nothing
        policy = JOBS.get(launch.job).policy if launch.job in JOBS else None
        if policy is Policy.AFTER:
            self._extras.get(launch.job, set()).discard(launch.case)
        elif policy is Policy.BEFORE and launch.good:
            self._before[launch.job].add(launch.case)
        elif policy is Policy.ROUNDS and launch.good:
            self._timed[launch.case] += 1
            if launch.result.layers is not None:  # profiled beside its plain bursts
                self._extras.get("layers", set()).discard(launch.case)
        elif policy not in (None, Policy.BESIDE) and launch.status in NOT_RUNNABLE:
            self._refused.add(launch.case)  # asking again gives the same answer
            self.drop_extras({launch.case})

    def next_number(self, case_id: str) -> int:
        """The number of the next launch of a case."""
        return self._numbers[case_id]

    def timed(self, case_id: str) -> int:
        """How many launches of a case timed it."""
        return self._timed[case_id]

    def is_refused(self, case_id: str) -> bool:
        """Whether the case cannot run here, as one of its launches found."""
        return case_id in self._refused

    @property
    def kinds_before(self) -> Iterable[str]:
        """Kinds of launches that a case has before its first round, if its backend wants it."""
        return self._before

    def had_before(self, kind: str, case_id: str) -> bool:
        """Whether a case has had a good launch of such a kind."""
        return case_id in self._before[kind]

    @property
    def extras(self) -> Mapping[str, Iterable[str]]:
        """Cases that are still to have a launch of a kind after their rounds."""
        return self._extras

    def extras_left(self, case_ids: Iterable[str]) -> int:
        """How many such launches these cases are still to have."""
        return sum(len(still.intersection(case_ids)) for still in self._extras.values())

    def drop_extras(self, case_ids: Iterable[str]) -> None:
        """These cases are not to have them any more."""
        for still in self._extras.values():
            still.difference_update(case_ids)
