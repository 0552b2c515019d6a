"""The values of a case, and of a launch, as one row of a run's frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cspbench.backends.spec import SCOPE
from cspbench.core.case import Case
from cspbench.jobs.spec import JOBS
from cspbench.jobs.time import TimeResult
from cspbench.literature.by_model import published_values
from cspbench.store.launch import Launch
from cspbench.store.records import Record
from cspbench.views.metric_columns import metric_values
from cspbench.views.ratios import CASE_RATIO_COLUMNS, with_ratio_flags

#: Column -> the metric that was published.
PUBLISHED_COLUMNS = {"published_ap50_pct": "ap50_pct", "published_top1_pct": "top1_pct"}
#: Columns that are fields of every launch.
LAUNCH_FACTS = ("case", "job", "number", "session", "board", "ended", "seconds")
INTERFERENCE_COLUMNS = (
    "steal_s", "foreign_cpu_s", "own_cpu_s", "load_1m_before", "load_1m_after",
    "voluntary_switches", "involuntary_switches",
)  # fmt: skip
#: Times by the device's own clock, in ns: column -> name in the launch.
DEVICE_COLUMNS = {
    "device_ms": "device_ns", "enqueue_ms": "enqueue_ns", "transfer_ms": "transfer_ns",
}  # fmt: skip
ENERGY_COLUMNS = ("energy_per_inference_j", "power_w", "idle_power_w", "energy_method")


def case_row(record: Record, totals: dict[str, Any]) -> dict[str, Any]:
    """A case's row; ``totals`` are its model's by convention."""
    case = Case.parse(record.case)
    latency = record.latency_ms
    agreements = [result.agreement for result in record.times]
    worst = max(agreements, key=lambda one: one.max_relative_error, default=None)
    return {
        **metric_values(totals),
        "id": record.case,
        "model": str(case.model),
        "neck": str(case.neck) if case.neck else None,
        "input": "x".join(map(str, case.input)),
        "backend": str(case.backend),
        "batch": case.batch,
        "threads": case.threads,
        "board": case.board,
        "status": record.status.value,
        "reason": record.reason,
        "flags": list(record.flags),
        "latency_ms": latency.estimate if latency else None,
        "latency_ms_low": latency.low if latency else None,
        "latency_ms_high": latency.high if latency else None,
        "p90_ms": record.percentile_ms(0.90),
        "p99_ms": record.percentile_ms(0.99),
        "fps": 1000 * case.batch / latency.estimate if latency else None,
        "launches": len(record.good),
        "samples": sum(len(result.latencies_ns) for result in record.times),
        "max_relative_error": worst and worst.max_relative_error,
        "allowed_error": worst and worst.tolerance,
        "agreement_with": worst and worst.reference,
        **{column: getattr(record.energy, column, None) for column in ENERGY_COLUMNS},
        **vars(record.kernel_work),
        "scope": dict(case.backend.options).get(SCOPE.name, SCOPE.default),
        **_published(case),
        **_of_jobs(record, case),
    }


def _published(case: Case) -> dict[str, float]:
    """Accuracy that papers and their repositories print for this network at this input."""
    model = str(case.model_id)
    return {
        column: value
        for column, metric in PUBLISHED_COLUMNS.items()
        if (value := published_values(metric).get(model)) is not None
    }


def _of_jobs(record: Record, case: Case) -> dict[str, Any]:
    """What the kinds of launches that the case had bring to its row."""
    row: dict[str, Any] = {}
    for kind in JOBS:
        result = record.newest(kind.name) if kind.columns else None
        if result is not None:
            row |= {column: value(case, result) for column, value in kind.columns.items()}
    return row


def add_scaling(rows: Sequence[dict[str, Any]]) -> None:
    """``scaling_efficiency`` = fps(t) / (t x fps(1)), where the same case has 1 thread as well."""

    def same(row: dict[str, Any]) -> str:
        case = Case.parse(row["id"])
        return str(replace(case, threads=1))

    single = {row["id"]: row["fps"] for row in rows if row["threads"] == 1}
    for row in rows:
        base = single.get(same(row))
        if row["fps"] and base:
            row["scaling_efficiency"] = row["fps"] / (row["threads"] * base)


def add_ratios(rows: Sequence[dict[str, Any]], ratios: Sequence[dict[str, Any]]) -> None:
    """Add what the run's ratios say of each case."""
    found = {ratio["case"]: ratio for ratio in ratios}
    for row in rows:
        ratio = found.get(row["id"])
        if ratio is None:
            continue
        row |= {column: ratio.get(column) for column in CASE_RATIO_COLUMNS}
        row["flags"] = with_ratio_flags(row["flags"], ratio)


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def launch_row(launch: Launch, median_ms: float | None) -> dict[str, Any]:
    """A launch's row; ``median_ms`` is its median where the case's row needed it too."""
    row = {column: getattr(launch, column) for column in LAUNCH_FACTS}
    row["status"] = launch.status.value
    row["flags"] = list(launch.flags)
    row["reason"] = launch.reason
    result = launch.result
    if not isinstance(result, TimeResult):
        return row
    row["median_ms"] = result.median_ms if median_ms is None else median_ms
    row["samples"] = len(result.latencies_ns)
    row["stop"] = result.stop
    row["relative_half_width"] = result.relative_half_width
    row["load_ms"] = result.load_ns / 1e6
    row["first_ms"] = result.first_ns / 1e6
    row["warmup_count"] = result.warmup.count
    row["steady"] = result.warmup.steady
    row["drift"] = result.drift.relative if result.drift else None
    row |= {name: getattr(result.interference, name, None) for name in INTERFERENCE_COLUMNS}
    times = result.device or {}
    return row | {column: _scaled(times.get(name), 1e6) for column, name in DEVICE_COLUMNS.items()}
