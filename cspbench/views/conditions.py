"""What differs between the conditions of two stored runs, a phrase each."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from cspbench.core.bounds import MOST
from cspbench.core.case import Case
from cspbench.jobs.time import TimeResult
from cspbench.machine.comparability import Severity, Use, differences
from cspbench.store.rundir import StoredRun

#: Load averages that differ by more than this are told: one busy thread is 1.
LOAD_APART = 0.5
#: Clocks that differ by more than this share are told.
CLOCK_APART = 0.03
#: Counts by which two networks are held to be the same.
COUNTS = ("params", "macs", "traffic_bytes", "weight_bytes")
#: Gauges of clocks, and what they are called.
CLOCKS = {
    "cpu_frequency_mhz": "mean clock of the processor",
    "gpu_clock_mhz": "mean clock of the GPU",
    "emc_clock_mhz": "mean clock of the board's memory",
}


def run_conditions(base: StoredRun, head: StoredRun) -> list[str]:
    """All that differs: networks, machine, load and clocks."""
    return [
        *_definitions(base, head),
        *run_differences(base, head, Use.COMPARE),
        *_builds(base, head),
        *_loads(base, head),
        *_clocks(base, head),
    ]


def run_differences(
    base: StoredRun, head: StoredRun, use: Use, severity: Severity | None = None
) -> list[str]:
    """What differs between the machines of two runs; of fleets, board by board.

    With ``severity`` only differences of that; without, all that the use does not ignore.
    """

    def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        facts = differences(old["environment"], new["environment"], use)
        return [str(one) for one in facts if severity in (None, one.severity)]

    phrases = between(base.meta, head.meta)
    for name, old, new in _boards_of_both(base, head):
        own = [phrase for phrase in between(old, new) if phrase not in phrases]
        phrases += [f"{phrase} on board {name}" for phrase in own]
    return phrases


def _definitions(base: StoredRun, head: StoredRun) -> list[str]:
    """Phrases on the cases whose keys differ, by what their counts say."""
    old, new = ({case["id"]: case["key"] for case in run.meta["cases"]} for run in (base, head))
    by_counts: dict[str, list[str]] = {}
    for case in old:
        if case in new and old[case] != new[case]:
            by_counts.setdefault(_counts_say(base, head, case), []).append(case)
    return [
        f"{cases[0] if len(cases) == 1 else f'each of {len(cases)} cases'} had another file, "
        f"weights, code or library that builds it{said}"
        for said, cases in by_counts.items()
    ]


def _counts_say(base: StoredRun, head: StoredRun, case: str) -> str:
    """Whether a case's network has the same exact counts in both runs, where they hold them."""
    before, after = (
        run.meta["analyses"].get(str(Case.parse(case).model_id), {}).get("totals")
        for run in (base, head)
    )
    if not before or not after:
        return ""
    if any(before.get(name) != after.get(name) for name in COUNTS):
        return ", and its counts differ: it is another network"
    return "; its counts are the same"


def _builds(base: StoredRun, head: StoredRun) -> list[str]:
    """Phrases on libraries of one version that hold other files; of fleets, board by board."""
    phrases = _other_builds(base.meta["environment"], head.meta["environment"])
    for name, old, new in _boards_of_both(base, head):
        own = _other_builds(old["environment"], new["environment"])
        phrases += [f"{phrase} on board {name}" for phrase in own if phrase not in phrases]
    return phrases


def _other_builds(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    before, after = (one.get("library_digests") or {} for one in (old, new))
    versions, now = (one.get("libraries") or {} for one in (old, new))
    return [
        f"{name} {version} is another build: its files differ"
        for name, version in versions.items()
        if version == now.get(name)
        and name in before
        and name in after
        and before[name] != after[name]
    ]


def _boards_of_both(
    base: StoredRun, head: StoredRun
) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """Boards that took part in both runs."""
    old, new = ((run.meta.get("fleet") or {}).get("boards", {}) for run in (base, head))
    return [(name, old[name], new[name]) for name in sorted(set(old) & set(new))]


def load_before(run: StoredRun) -> float | None:
    """Load average of the machine before the launches (their median); None if none tells."""
    results = [one.result for one in run.launches if isinstance(one.result, TimeResult)]
    return _median(one.interference.load_1m_before for one in results if one.interference)


def _loads(base: StoredRun, head: StoredRun) -> list[str]:
    """A phrase on the load of the machine before the launches, if it differs."""
    before, after = load_before(base), load_before(head)
    if before is None or after is None or abs(after - before) <= LOAD_APART:
        return []
    return [f"the load average before launches was {before:.1f} and is {after:.1f}"]


def _clocks(base: StoredRun, head: StoredRun) -> list[str]:
    """Phrases on the clocks that sensors read while both runs sampled, where they differ."""
    phrases = []
    for gauge, name in CLOCKS.items():
        before, after = clock(base, gauge), clock(head, gauge)
        if before and after and abs(after / before - 1) > CLOCK_APART:
            phrases.append(f"the {name} was {before:.0f} MHz and is {after:.0f} MHz")
    return phrases


def clock(run: StoredRun, gauge: str) -> float | None:
    """Mean of a gauge of CLOCKS while launches sampled (their median), MHz; None if unknown."""
    sensors = (sensor for one in run.launches for sensor in (one.sensors or {}).values())
    means = (_at(sensor, "gauges", gauge, "mean") for sensor in sensors)
    return _median(mean for mean in means if type(mean) in (int, float) and 0 < mean <= MOST)


def _at(found: Any, *names: str) -> Any:
    """What lies at a path of names; None where the path ends before."""
    for name in names:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _median(values: Any) -> float | None:
    known = list(values)
    return median(known) if known else None
