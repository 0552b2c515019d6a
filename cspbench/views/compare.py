"""Two stored runs beside each other, and one case over many runs: numbers, no verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from cspbench.core.text import select
from cspbench.errors import InputError
from cspbench.machine.comparability import Use, refusals
from cspbench.measure.statistics import Interval, ratio_between_runs
from cspbench.store.records import records
from cspbench.store.rundir import StoredRun
from cspbench.views.conditions import run_conditions, run_differences

if TYPE_CHECKING:
    import pandas as pd

COMPARE_COLUMNS = ("case", "base_status", "head_status", "base_ms", "head_ms", "ratio",
                   "ratio_low", "ratio_high", "launches", "base_flags", "head_flags")  # fmt: skip
HISTORY_COLUMNS = ("case", "run", "created", "commit", "latency_ms", "latency_ms_low",
                   "latency_ms_high", "change_point", "environment")  # fmt: skip
#: Fewest runs in which a change point is looked for.
FEWEST_RUNS = 6


class RunComparison(NamedTuple):
    """Two runs beside each other.

    ``table`` has one row a case of either run; ``ratio`` is ``head_ms`` / ``base_ms`` with the 95 %
    interval of separate runs. With a tolerance ``within`` says whether the interval lies within it
    ("yes"), outside ("no"), or holds one of its ends ("undecided"); None without an interval.
    ``differences`` says what differs between networks, machines, load and clocks, a phrase each.
    """

    table: pd.DataFrame
    differences: list[str]


def compare_runs(base: StoredRun, head: StoredRun, tolerance: float | None = None) -> RunComparison:
    """Put the cases of two runs beside each other.

    Args:
        base: a run.
        head: another one.
        tolerance: share by which a case may differ and count as repeated.
    """
    import pandas as pd

    old, new = ({record.case: record for record in records(run)} for run in (base, head))
    rows = []
    for case in dict.fromkeys([*old, *new]):
        sides = [old.get(case), new.get(case)]
        times = [[one.median_ms for one in side.times] if side else [] for side in sides]
        row: dict[str, Any] = {
            "case": case,
            "base_status": str(sides[0].status) if sides[0] else "absent",
            "head_status": str(sides[1].status) if sides[1] else "absent",
            "base_ms": median(times[0]) if times[0] else None,
            "head_ms": median(times[1]) if times[1] else None,
            "launches": "/".join(str(len(side)) for side in times),
            "base_flags": list(sides[0].flags) if sides[0] else [],
            "head_flags": list(sides[1].flags) if sides[1] else [],
        }
        if all(times):
            ratio = ratio_between_runs(times[0], times[1])
            row |= {"ratio": ratio.estimate, "ratio_low": ratio.low, "ratio_high": ratio.high}
        if min(map(len, times)) >= 2:
            row["within"] = None if tolerance is None else _within(row, tolerance)
        rows.append(row)
    columns = [*COMPARE_COLUMNS, *(["within"] if tolerance is not None else [])]
    return RunComparison(pd.DataFrame(rows, columns=columns), run_conditions(base, head))


def _within(row: Mapping[str, Any], tolerance: float) -> str:
    low, high = 1 / (1 + tolerance), 1 + tolerance
    if low <= row["ratio_low"] and row["ratio_high"] <= high:
        return "yes"
    return "no" if row["ratio_high"] < low or row["ratio_low"] > high else "undecided"


def repeat_sentence(table: pd.DataFrame, tolerance: float) -> str:
    """How many cases of a table with ``within`` repeat within the tolerance, and which do not."""
    found = table.dropna(subset="within")
    counts = found["within"].value_counts()
    parts = [f"{counts.get('yes', 0)} of {len(found)} cases repeat within {tolerance * 100:g} %"]
    outside = list(found[found["within"] == "no"]["case"])
    if outside:
        parts.append(f"{len(outside)} {'do' if len(outside) > 1 else 'does'} not: "
                     + ", ".join(outside))  # fmt: skip
    if counts.get("undecided", 0):
        parts.append(f"of {counts['undecided']} the interval is too wide to tell")
    if len(table) > len(found):
        parts.append(f"{len(table) - len(found)} have no interval in both runs")
    return "; ".join(parts) + "."


#: So many cases that only one run holds are named.
MOST_NAMED = 4


def absent_sentence(table: pd.DataFrame, base: str, head: str) -> str:
    """Which cases only one of the runs holds; empty without any."""
    parts = []
    for here, there, name in (("head", "base", head), ("base", "head", base)):
        only = list(table[table[f"{there}_status"] == "absent"]["case"])
        if only:
            named = ", ".join(only[:MOST_NAMED]) + ", ..." * (len(only) > MOST_NAMED)
            parts.append(f"{len(only)} only in {here} ({name}): {named}")
    return "; ".join(parts)


def history(runs: Sequence[StoredRun], patterns: Sequence[str]) -> pd.DataFrame:
    """Follow cases over runs of one machine, oldest first.

    Args:
        runs: stored runs in the order of time; those of other machines than the newest's are left
            out, because their times are another story.
        patterns: patterns of case ids; all cases without any.

    Returns:
        One row for each case and run that measured it. ``change_point`` is True where a new level
        begins (None where there are too few runs, or ruptures is not installed), ``environment``
        what else changed since the run before.

    Raises:
        InputError: there is no run, or no case matches.
    """
    import pandas as pd

    if not runs:
        raise InputError("there are no stored runs to follow")
    here = runs[-1].meta["environment"]
    measured: dict[str, list[Measurement]] = {}
    for run in runs:
        if refusals(run.meta["environment"], here, Use.HISTORY):
            continue
        for record in records(run):
            if (interval := record.latency_ms) is not None:
                measured.setdefault(record.case, []).append(Measurement(run, interval))
    chosen = select(patterns, measured)
    if not chosen:
        raise InputError(f"no measured case matches {' or '.join(map(repr, patterns)) or 'any'}")
    rows = [row for case in chosen for row in case_history(case, measured[case])]
    return pd.DataFrame(rows, columns=list(HISTORY_COLUMNS))


class Measurement(NamedTuple):
    """A case's latency in ms by one run."""

    run: StoredRun
    latency_ms: Interval


def history_differences(before: StoredRun, after: StoredRun) -> list[str]:
    """What changed on one machine from one run to the next, a phrase each."""
    return run_differences(before, after, Use.HISTORY)


def case_history(
    case: str,
    measured: Sequence[Measurement],
    changed: Callable[[StoredRun, StoredRun], Sequence[str]] = history_differences,
) -> list[dict[str, Any]]:
    """The rows of `history` of one case; ``measured`` are of one machine, oldest first.

    Of the runs only the environments are read, and ``created``.
    """
    points = change_points([one.latency_ms.estimate for one in measured])
    rows = []
    before: StoredRun | None = None
    for number, (run, latency) in enumerate(measured):
        rows.append(
            {
                "case": case,
                "run": run.path.name,
                "created": run.meta["created"],
                "commit": (run.meta["environment"].get("git_commit") or "")[:12],
                "latency_ms": latency.estimate,
                "latency_ms_low": latency.low,
                "latency_ms_high": latency.high,
                "change_point": None if points is None else number in points,
                "environment": "; ".join(changed(before, run)) if before else "",
            }
        )
        before = run
    return rows


def change_points(values: Sequence[float]) -> list[int] | None:
    """Where a new level begins, by PELT on the logarithms (``KernelCPD`` of the library ruptures).

    Killick, Fearnhead & Eckley (2012), "Optimal detection of changepoints with a linear
    computational cost"; squared error, at least two runs a level, penalty ``3 s^2 log n`` with s
    from the median absolute difference of neighbours, which a change of level hardly moves.

    Returns:
        Indices of first runs of new levels; None with fewer than FEWEST_RUNS values, or without
        ruptures (``pip install ruptures``).
    """
    if len(values) < FEWEST_RUNS:
        return None
    try:
        import numpy as np
        import ruptures
    except ImportError:
        return None
    logs = np.log(np.asarray(values, dtype=float))
    # Normal noise: the median absolute difference of neighbours is 0.6745 * sqrt(2) * s.
    noise = float(np.median(np.abs(np.diff(logs)))) / (0.6745 * math.sqrt(2))
    noise = max(noise, 1e-4)  # times that never differ still have a resolution
    penalty = 3 * noise**2 * math.log(len(logs))
    # The linear kernel's cost is the squared error; this is the form of PELT that is compiled, and
    # takes milliseconds for thousands of runs.
    search = ruptures.KernelCPD(kernel="linear", min_size=2).fit(logs.reshape(-1, 1))
    ends = search.predict(pen=penalty)
    return [int(index) for index in ends[:-1]]


class LevelChange(NamedTuple):
    """A new level of a case: both levels in ms, and the number of its first run in the history."""

    number: int
    old_ms: float
    new_ms: float

    @property
    def share(self) -> float:
        """The change as a share of the old level."""
        return self.new_ms / self.old_ms - 1


def level_changes(rows: Sequence[Mapping[Any, Any]]) -> list[LevelChange]:
    """The new levels in the history of one case."""
    starts = [number for number, row in enumerate(rows) if row["change_point"] is True]
    bounds = [0, *starts, len(rows)]
    levels = [median(row["latency_ms"] for row in rows[a:b]) for a, b in pairwise(bounds)]
    pairs = zip(starts, pairwise(levels), strict=True)
    return [LevelChange(start, old, new) for start, (old, new) in pairs]


def change_sentences(frame: pd.DataFrame) -> list[str]:
    """The change points of a history: from which level to which, and since which run."""
    sentences = []
    for case, group in frame.groupby("case", sort=False):
        rows = group.to_dict(orient="records")
        for change in level_changes(rows):
            row = rows[change.number]
            where = f" (commit {row['commit']})" if row["commit"] else ""
            also = f"; also changed: {row['environment']}" if row["environment"] else ""
            sentences.append(
                f"{case}: {change.old_ms:.3f} -> {change.new_ms:.3f} ms "
                f"({change.share * 100:+.1f} %) since {row['run']}{where}{also}"
            )
    return sentences


def has_ruptures() -> bool:
    """True if change points can be looked for."""
    import importlib.util

    return importlib.util.find_spec("ruptures") is not None
