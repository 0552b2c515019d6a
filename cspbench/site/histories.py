"""Cases over the runs of a machine, and what changed from each run to the next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cspbench.measure.statistics import Interval
from cspbench.site.summary import CaseSummary, Json, RunSummary
from cspbench.store.rundir import StoredRun
from cspbench.views.compare import (
    LevelChange,
    Measurement,
    case_history,
    history_differences,
    level_changes,
)


@dataclass
class Machine:
    """A machine with its newest facts and the runs that measured on it, oldest first."""

    key: str
    environment: Json
    ceilings: dict[str, tuple[Json, RunSummary]] = field(default_factory=dict)
    runs: list[RunSummary] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Host and processor."""
        facts = (self.environment.get("host"), self.environment.get("cpu"))
        return ", ".join(str(fact) for fact in facts if fact) or "an unknown machine"


@dataclass
class Series:
    """A case on a machine: the runs that measured it, oldest first, and its rows of a history."""

    case: str
    machine: Machine
    runs: list[RunSummary]
    rows: list[dict[str, Any]]
    newest: CaseSummary

    @cached_property
    def changes(self) -> list[LevelChange]:
        """The new levels, oldest first."""
        return level_changes(self.rows)

    def latency_ms(self, number: int) -> Interval:
        """The latency of a run of the series."""
        row = self.rows[number]
        return Interval(row["latency_ms"], row["latency_ms_low"], row["latency_ms_high"])

    def cause(self, number: int) -> str:
        """What else changed with a run: commit and facts of the machine."""
        commits = [self.rows[at]["commit"] for at in (number - 1, number)] if number else ["", ""]
        moved = f"commit {commits[0] or 'unknown'} to {commits[1] or 'unknown'}"
        parts = [moved] if commits[0] != commits[1] else []
        return "; ".join([*parts, *filter(None, [self.rows[number]["environment"]])])


class _Differences:
    """What differs between two runs; consecutive runs of many cases are the same pair."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], list[str]] = {}

    def __call__(self, before: StoredRun, after: StoredRun) -> list[str]:
        pair = (id(before), id(after))
        if pair not in self._known:
            self._known[pair] = history_differences(before, after)
        return self._known[pair]


def machines_of(summaries: Sequence[RunSummary]) -> dict[str, Machine]:
    """All machines by their keys, with their series; the runs are in the order of time."""
    machines: dict[str, Machine] = {}
    measured: dict[tuple[str, str], list[tuple[RunSummary, CaseSummary]]] = {}
    for run in summaries:
        for key, (environment, ceilings) in _places(run).items():
            machine = machines.setdefault(key, Machine(key, environment))
            machine.environment = environment
            machine.ceilings |= {device: (rates, run) for device, rates in ceilings.items()}
            machine.runs.append(run)
        for case in run.cases:
            if case.ms is not None:
                key = run.machine_keys.get(case.board, run.machine_keys[""])
                machines.setdefault(key, Machine(key, run.environment))
                measured.setdefault((key, case.case), []).append((run, case))
    stored = {run.key: run.as_stored() for run in summaries}
    differences = _Differences()
    for (key, name), pairs in measured.items():
        values = [
            Measurement(stored[run.key], latency)
            for run, case in pairs
            if (latency := case.latency_ms) is not None
        ]
        rows = case_history(name, values, differences)
        runs = [run for run, _ in pairs]
        machines[key].series.append(Series(name, machines[key], runs, rows, pairs[-1][1]))
    return machines


def _places(run: RunSummary) -> dict[str, tuple[Json, Json]]:
    """The machines of a run by their keys, with facts and ceilings."""
    own = {"": {"environment": run.environment, "ceilings": run.ceilings}}
    return {
        run.machine_keys[board]: (place["environment"], place["ceilings"])
        for board, place in (run.boards or own).items()
    }


def machine_keys(run: RunSummary) -> list[str]:
    """The machines of a run."""
    return sorted(_places(run))


def predecessors(summaries: Sequence[RunSummary]) -> dict[str, RunSummary]:
    """By run, the one before it: of the same suite on the same machines."""
    latest: dict[tuple[str, ...], RunSummary] = {}
    before: dict[str, RunSummary] = {}
    for run in summaries:
        kind = (run.suite, *machine_keys(run))
        if kind in latest:
            before[run.key] = latest[kind]
        latest[kind] = run
    return before


def by_case(machines: Iterable[Machine]) -> dict[str, list[Series]]:
    """The series of each case on all machines, in the order of the names."""
    cases: dict[str, list[Series]] = {}
    for machine in machines:
        for series in machine.series:
            cases.setdefault(series.case, []).append(series)
    return dict(sorted(cases.items()))
