"""The JSON that the page carries: what its script needs, bounded so that the file stays small.

Raw samples stay in the run directory. A case carries a histogram of all its samples and, for each
launch, medians of consecutive samples; a log is cut to its end.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from cspbench.core.statuses import FLAGS
from cspbench.core.text import inert
from cspbench.figures.cases import plain
from cspbench.jobs.time import TimeResult
from cspbench.literature.by_model import everything_of, published_by_model
from cspbench.report.profiles import profile_tables
from cspbench.report.rows import CaseRow
from cspbench.store.launch import Launch
from cspbench.views.frames import CASE_COLUMNS, Run
from cspbench.views.metric_columns import metric_values, other_columns

HISTOGRAM_BINS = 28
TRACE_POINTS = 40
LOG_CHARACTERS = 4000
#: The histogram leaves out the slowest samples beyond this share, which would squeeze the rest.
HISTOGRAM_SHARE = 0.99
#: Layer tables of more models would make the file too large; they are in run.json.
MAX_LAYER_TABLES = 60
CASE_FACTS = (
    "index", "run", "id", "model_id", "family", "backend", "batch", "threads", "gamma", "status",
    "outcome", "reason", "flags", "latency_ms", "latency_low", "latency_high", "half_width",
    "ratio", "ratio_low", "ratio_high", "ratio_of",
    "p90_ms", "p99_ms", "fps", "samples", "max_relative_error", "command",
)  # fmt: skip
LAYER_COLUMNS = (
    "index", "name", "op", "output_shapes", "params", "macs", "bflops", "traffic_bytes",
)  # fmt: skip

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cspbench.analysis import Layer

Json = dict[str, Any]


def page_data(runs: Sequence[Run], rows: Sequence[CaseRow], stem: str) -> Json:
    """Everything that the script shows, as plain JSON values."""
    accuracies = published_accuracies(rows)
    return {
        "stem": stem,
        "runs": [_run(run) for run in runs],
        "cases": [_case(row, accuracies.get(row.model_id)) for row in rows],
        "published": published_tables(rows),
        "flags": {
            name: {"meaning": flag.meaning, "remedy": flag.remedy} for name, flag in FLAGS.items()
        },
        "layers": layer_tables(runs),
        "layer_times": profile_tables(runs, rows),
    }


def to_script(data: Json) -> str:
    """JSON that can stand in a script element: no ``<``, ``>`` or ``&``, ASCII only."""
    text = json.dumps(_inert(data), separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _inert(value: Any) -> Any:
    """The same values, their texts and names inert: the script shows them as they are."""
    if isinstance(value, str):
        return inert(value)
    if isinstance(value, dict):
        return {inert(str(key)): _inert(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_inert(one) for one in value]
    return value


def _run(run: Run) -> Json:
    facts = {key: run.stored.meta[key] for key in ("created", "cspbench", "suite")}
    return {"name": run.name, **facts, "environment": run.environment}


def _case(row: CaseRow, accuracy: str | None) -> Json:
    values = metric_values(row.totals)
    times = [np.array(one.latencies_ns, np.int64) for one in row.record.times]
    samples = np.concatenate(times) / 1e6 if times else np.empty(0)
    facts = {name: getattr(row, name) for name in CASE_FACTS}
    return {name: _rounded(v) if isinstance(v, float) else v for name, v in facts.items()} | {
        "bflops": values["bflops"],
        "params_m": values["params_m"],
        "metrics": {column: values[column] for column in other_columns(CASE_COLUMNS)},
        "accuracy": accuracy,
        "histogram": histogram(samples) if len(samples) else None,
        "launches": [_launch(launch) for launch in row.record.launches],
    }


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{digits}g}")


def _launch(launch: Launch) -> Json:
    summary: Json = {
        "number": launch.number,
        "job": plain(launch.job),
        "status": launch.status.value,
        "reason": plain(launch.reason),
    }
    result = launch.result
    if isinstance(result, TimeResult):
        interference = result.interference
        summary |= {
            "median_ms": _rounded(result.median_ms),
            "samples": len(result.latencies_ns),
            "load_ms": _rounded(result.load_ns / 1e6, 4),
            "first_ms": _rounded(result.first_ns / 1e6, 4),
            "warmup": result.warmup.count,
            "stop": plain(result.stop),
            "steal_s": _rounded(interference.steal_s, 3) if interference else None,
            "foreign_cpu_s": _rounded(interference.foreign_cpu_s, 3) if interference else None,
            "trace": trace(result.latencies_ns),
        }
    if launch.log:
        summary["log"] = log_end(launch.log)
    return summary


def log_end(log: str) -> str:
    """The last characters of a log, its lines kept, other control characters replaced."""
    return "\n".join(plain(line) for line in log[-LOG_CHARACTERS:].splitlines())


def trace(latencies_ns: Sequence[int]) -> list[float]:
    """Latencies in ms in order, thinned to at most TRACE_POINTS medians of equal stretches."""
    size = math.ceil(len(latencies_ns) / TRACE_POINTS)
    whole = len(latencies_ns) // size * size
    medians = np.median(np.array(latencies_ns[:whole]).reshape(-1, size), axis=1).tolist()
    if latencies_ns[whole:]:
        medians.append(median(latencies_ns[whole:]))
    return [float(f"{value / 1e6:.4g}") for value in medians]


def histogram(samples: Sequence[float] | NDArray[np.float64]) -> Json:
    """Counts of samples in HISTOGRAM_BINS equal bins from the fastest to the 99th percentile."""
    ordered = np.sort(np.asarray(samples, np.float64))
    kept = ordered[: max(1, math.ceil(len(ordered) * HISTOGRAM_SHARE))]
    low, high = float(kept[0]), float(kept[-1])
    width = (high - low) / HISTOGRAM_BINS or 1.0
    bins = np.minimum(((kept - low) / width).astype(np.int64), HISTOGRAM_BINS - 1)
    counts = np.bincount(bins, minlength=HISTOGRAM_BINS).tolist()
    return {"low": _rounded(low, 4), "high": _rounded(high, 4), "counts": counts}


def published_accuracies(rows: Sequence[CaseRow]) -> dict[str, str]:
    """``AP50 38.5`` or ``top-1 70.9`` by model id, for those that have one published."""
    metrics = {"AP50": published_by_model("ap50_pct"), "top-1": published_by_model("top1_pct")}
    return {
        row.model_id: f"{name} {printed[row.model_id]}"
        for name, printed in metrics.items()
        for row in rows
        if row.model_id in printed
    }


def published_tables(rows: Sequence[CaseRow]) -> Json:
    """What is published of each system, by model id: metric, value as printed, device, source."""
    tables: Json = {}
    for row in rows:
        if row.model_id not in tables:
            entries = everything_of(row.system, row.side)
            tables[row.model_id] = [
                [entry.metric, str(entry), entry.device or "", entry.source] for entry in entries
            ]
    return {model: table for model, table in tables.items() if table}


def layer_tables(runs: Sequence[Run]) -> Json:
    """Layers of the analysed models as columns and rows, of the first MAX_LAYER_TABLES models."""
    sources = {model: run for run in runs for model in run.analyses}
    tables: Json = {}
    for model, run in list(sources.items())[:MAX_LAYER_TABLES]:
        tables[plain(model)] = {
            "columns": LAYER_COLUMNS,
            "rows": [
                [_cell(layer, name) for name in LAYER_COLUMNS]
                for layer in run.analyses[model].layers
            ],
        }
    return tables


def _cell(layer: Layer, column: str) -> Any:
    if column in layer.values:
        value = layer.values[column]
        return value if isinstance(value, int) else _rounded(value)  # counts stay exact
    fact = getattr(layer, column)
    if isinstance(fact, tuple):
        return ", ".join("x".join(map(str, shape)) for shape in fact)
    return plain(fact) if isinstance(fact, str) else fact
