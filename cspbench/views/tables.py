"""Tables of a run as people read them: few columns, one row a case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.views.metric_columns import metric_formats, other_columns

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run

#: Decimals of numbers in the forms that people read.
_BY_DIGITS: dict[int, tuple[str, ...]] = {
    0: ("load_ms", "warmup_count", "samples", "number", "ratio_blocks", "faults_per_inference"),
    1: (
        "fps",
        "peak_mib",
        "loaded_mib",
        "after_first_mib",
        "first_ms",
        "first_times",
        "seconds",
        "gflops_per_s",
        "gb_per_s",
    ),
    2: ("latency_ms", "latency_ms_low", "latency_ms_high", "p90_ms", "p99_ms", "median_ms"),
    3: (
        "time_ms",
        "share",
        "compute_utilisation",
        "memory_utilisation",
        "waiting",
        "system_share",
        "ratio",
        "ratio_low",
        "ratio_high",
        "ratio_all_low",
        "ratio_all_high",
    ),
}
NUMBERS = {column: f".{digits}f" for digits, names in _BY_DIGITS.items() for column in names}
CASE_TABLE = (
    "id", "gamma", "params_m", "macs_g", "bflops", "latency_ms", "interval", "ratio",
    "ratio_interval", "ratio_of", "ratio_group", "p90_ms", "p99_ms", "fps", "peak_mib",
    "flags", "status",
)  # fmt: skip
SOMETIMES = ("ratio", "ratio_interval", "ratio_group", "p99_ms", "peak_mib")
#: What a narrow terminal leaves out first, in this order.
LOW_PRIORITY = (
    "ratio_group", "gamma", "macs_g", "params_m", "first_ms", "load_ms", "stop", "samples",
    "p99_ms", "peak_mib", "bflops", "p90_ms", "seconds", "number",
)  # fmt: skip
LAYER_TIME_TABLE = (
    "case", "entry", "entry_op", "time_ms", "share", "gflops_per_s", "gb_per_s",
    "compute_utilisation", "memory_utilisation", "ceilings",
)  # fmt: skip
LAUNCH_TABLE = (
    "case", "job", "number", "status", "median_ms", "samples", "stop", "load_ms", "first_ms",
    "seconds", "flags", "reason",
)  # fmt: skip


def case_table(run: Run) -> pd.DataFrame:
    """One row a case; ``interval`` is the 95 % interval of the latency around its estimate.

    ``gamma`` is the partial ratio, where the cases differ in it: ids leave its default out.
    ``ratio_interval`` is that of the ratio to the reference, whose own row is A/A. ``ratio_of``,
    of what time a ratio is, is there where rows differ.

    Columns of SOMETIMES that no case has a number for are left out; so are those of metrics and
    launches that `CASE_TABLE` does not place, which otherwise come last.
    """
    from cspbench.models.stated import axis_value
    from cspbench.views.frames import launch_columns
    from cspbench.views.ratios import times_of

    cases = run.cases.copy()
    cases["interval"] = _intervals(cases, "latency_ms")
    cases["ratio_interval"] = _intervals(cases, "ratio")
    gammas = [axis_value(case, "gamma") for case in cases["id"]]
    cases["gamma"] = [one if isinstance(one, (int, float)) else None for one in gammas]
    cases["peak_mib"] = cases["peak_memory_bytes"] / 2**20
    others = (*other_columns(CASE_TABLE), *launch_columns())
    table = cases[[*CASE_TABLE, *others]]
    empty = ["gamma"] if cases["gamma"].nunique() < 2 else []
    empty += ["ratio_of"] if len(times_of(cases["ratio_of"])) < 2 else []
    empty += [column for column in (*SOMETIMES, *others) if table[column].isna().all()]
    return table.drop(columns=empty)


def case_numbers() -> dict[str, str]:
    """How the numbers of a case table are printed."""
    return NUMBERS | metric_formats()


def case_low_priority() -> tuple[str, ...]:
    """What a narrow terminal leaves out of a case table first."""
    from cspbench.views.frames import launch_columns

    return (*other_columns(CASE_TABLE), *launch_columns(), *LOW_PRIORITY)


def reason_groups(run: Run) -> pd.DataFrame:
    """Why cases were not measured: those of a backend that share a reason are one row."""
    import pandas as pd

    cases = run.cases[run.cases["status"] != "ok"]
    groups = cases.groupby(["backend", "status", "reason"], sort=False, dropna=False)["id"]
    rows = [
        (ids.iloc[0] if len(ids) == 1 else f"{len(ids)} cases on {backend}", status, reason)
        for (backend, status, reason), ids in groups
    ]
    return pd.DataFrame(rows, columns=["not measured", "status", "reason"])


def launch_table(run: Run) -> pd.DataFrame:
    """One row a launch."""
    return run.launches[list(LAUNCH_TABLE)]


def layer_time_table(run: Run) -> pd.DataFrame:
    """One row an entry of a layer profile, with what it used of the device."""
    return run.layer_times[list(LAYER_TIME_TABLE)]


def phase_table(phases: pd.DataFrame) -> pd.DataFrame:
    """One row a case from load to steady state, memory in MiB; phases that none has are left out.

    Args:
        phases: the frame of `cspbench.views.phases`.
    """
    table = phases.copy()
    for column in ("loaded_bytes", "after_first_bytes", "peak_memory_bytes"):
        name = column.replace("_memory", "").replace("_bytes", "_mib")
        table[column] = table[column].astype("float64") / 2**20
        table = table.rename(columns={column: name})
    return table.dropna(axis="columns", how="all")


def _intervals(cases: pd.DataFrame, column: str) -> list[str | None]:
    return [
        _interval(float(estimate), float(low), float(high))
        for estimate, low, high in zip(
            cases[column], cases[f"{column}_low"], cases[f"{column}_high"], strict=True
        )
    ]


def _interval(estimate: float, low: float, high: float) -> str | None:
    """``-3/+5 %``: how far the bounds lie from the estimate; None without an interval."""
    if not low > 0:  # also NaN
        return None
    below, above = 100 * (low / estimate - 1), 100 * (high / estimate - 1)
    if above > 100:
        return "over ±100 %"
    return f"{below:+.0f}/{above:+.0f} %" if above >= 10 else f"{below:+.1f}/{above:+.1f} %"
