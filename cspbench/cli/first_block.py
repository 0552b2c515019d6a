"""The first time of every case, as soon as each has one: what a user need not wait long for."""

from __future__ import annotations

from cspbench.jobs.time import TimeResult
from cspbench.runner.plan import Plan
from cspbench.store.launch import Launch

#: More cases are left to the table at the end.
MOST_LINES = 12


class FirstBlock:
    """Collects the first launch of every case of a run."""

    def __init__(self) -> None:
        self._waiting: set[str] = set()
        self._ms: dict[str, float] = {}

    def started(self, plan: Plan) -> None:
        """Wait for each case that can run."""
        self._waiting = {planned.id for planned in plan.runnable}
        self._ms = {}

    def launched(self, launch: Launch) -> list[str]:
        """The lines to print, with the launch that completes them; else none."""
        if launch.case not in self._waiting:
            return []
        if isinstance(launch.result, TimeResult):
            self._ms[launch.case] = launch.result.median_ms
        elif launch.good:
            return []
        self._waiting.discard(launch.case)
        return [] if self._waiting or len(self._ms) < 2 else self._lines()

    def _lines(self) -> list[str]:
        ordered = sorted(self._ms, key=lambda case: self._ms[case])
        fastest, width = self._ms[ordered[0]], max(map(len, ordered))
        lines = [
            f"  {case:{width}}  {self._ms[case]:9.3f} ms  {self._ms[case] / fastest:6.2f} times"
            for case in ordered[:MOST_LINES]
        ]
        more = len(ordered) - MOST_LINES
        return [
            "each case once, fastest first (no interval yet; the run goes on):",
            *lines,
            *([f"  ... and {more} more"] if more > 0 else []),
        ]
