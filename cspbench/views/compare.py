"""Two stored runs beside each other, and one case over many runs: numbers, no verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from cspbench.core.text import select
from cspbench.errors import InputError
from cspbench.machine.comparability import Severity, Use, differences, refusals
from cspbench.measure.statistics import between_runs
from cspbench.store.records import records
from cspbench.store.rundir import StoredRun

if TYPE_CHECKING:
    import pandas as pd

COMPARE_COLUMNS = ("case", "base_status", "head_status", "base_ms", "head_ms", "ratio",
                   "ratio_low", "ratio_high", "launches")  # fmt: skip
HISTORY_COLUMNS = ("case", "run", "created", "commit", "latency_ms", "latency_ms_low",
                   "latency_ms_high", "change_point", "environment")  # fmt: skip
#: Fewest runs in which a change point is looked for.
FEWEST_RUNS = 6


def run_differences(
    base: StoredRun, head: StoredRun, use: Use, severity: Severity | None = None
) -> list[str]:
    """What differs between the machines of two runs, a phrase each; of fleets, board by board.

    With ``severity`` only differences of that; without, all that the use does not ignore.
    """

    def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
        facts = differences(old["environment"], new["environment"], use)
        return [str(one) for one in facts if severity in (None, one.severity)]

    phrases = between(base.meta, head.meta)
    old, new = ((run.meta.get("fleet") or {}).get("boards", {}) for run in (base, head))
    for name in sorted(set(old) & set(new)):
        own = [phrase for phrase in between(old[name], new[name]) if phrase not in phrases]
        phrases += [f"{phrase} on board {name}" for phrase in own]
    return phrases


class RunComparison(NamedTuple):
    """Two runs beside each other.

    ``table`` has one row a case of either run; ``ratio`` is head / base with the 95 % interval of
    separate runs. ``differences`` says what differs between the two environments, a phrase each.
    """

    table: pd.DataFrame
    differences: list[str]


def compare_runs(base: StoredRun, head: StoredRun) -> RunComparison:
    """Put the cases of two runs beside each other."""
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
        }
        if all(times):
            row["ratio"] = row["head_ms"] / row["base_ms"]
        if min(map(len, times)) >= 2:
            shift = between_runs(times[0], times[1])
            half = shift.reach(0.975)
            row["ratio"] = math.exp(shift.estimate)
            row["ratio_low"], row["ratio_high"] = (
                math.exp(shift.estimate + side) for side in (-half, half)
            )
        rows.append(row)
    table = pd.DataFrame(rows, columns=list(COMPARE_COLUMNS))
    return RunComparison(table, run_differences(base, head, Use.COMPARE))


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
    runs = [run for run in runs if not refusals(run.meta["environment"], here, Use.HISTORY)]
    rows: dict[str, list[dict[str, Any]]] = {}
    latest: dict[str, StoredRun] = {}
    for run in runs:
        for record in records(run):
            interval = record.latency_ms
            if interval is None:
                continue
            before = latest.get(record.case)
            changed = run_differences(before, run, Use.HISTORY) if before else []
            latest[record.case] = run
            rows.setdefault(record.case, []).append(
                {
                    "case": record.case,
                    "run": run.path.name,
                    "created": run.meta["created"],
                    "commit": (run.meta["environment"].get("git_commit") or "")[:12],
                    "latency_ms": interval.estimate,
                    "latency_ms_low": interval.low,
                    "latency_ms_high": interval.high,
                    "environment": "; ".join(changed),
                }
            )
    chosen = select(patterns, rows)
    if not chosen:
        raise InputError(f"no measured case matches {' or '.join(map(repr, patterns)) or 'any'}")
    for case in chosen:
        points = change_points([row["latency_ms"] for row in rows[case]])
        for number, row in enumerate(rows[case]):
            row["change_point"] = None if points is None else number in points
    flat = [row for case in chosen for row in rows[case]]
    return pd.DataFrame(flat, columns=list(HISTORY_COLUMNS))


def change_points(values: Sequence[float]) -> list[int] | None:
    """Where a new level begins, by PELT of the library ruptures on the logarithms.

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
    ends = ruptures.Pelt(model="l2", min_size=2, jump=1).fit(logs.reshape(-1, 1)).predict(penalty)
    return [int(index) for index in ends[:-1]]


def change_sentences(frame: pd.DataFrame) -> list[str]:
    """The change points of a history: from which level to which, and since which run."""
    sentences = []
    for case, rows in frame.groupby("case", sort=False):
        starts = [i for i, new in enumerate(rows["change_point"]) if new is True]
        bounds = [0, *starts, len(rows)]
        times = rows["latency_ms"]
        levels = [times.iloc[a:b].median() for a, b in pairwise(bounds)]
        for start, (old, new) in zip(starts, pairwise(levels), strict=True):
            row = rows.iloc[start]
            where = f" (commit {row['commit']})" if row["commit"] else ""
            also = f"; also changed: {row['environment']}" if row["environment"] else ""
            sentences.append(
                f"{case}: {old:.3f} -> {new:.3f} ms ({(new / old - 1) * 100:+.1f} %) since "
                f"{row['run']}{where}{also}"
            )
    return sentences


def has_ruptures() -> bool:
    """True if change points can be looked for."""
    import importlib.util

    return importlib.util.find_spec("ruptures") is not None
