"""Layer times as a timeline, in the trace event format that Perfetto and Chrome open.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (complete events)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cspbench.core.text import printable, select
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: The name of this form, beside those of tables.
CHROME_TRACE = "chrome-trace"
#: What a viewer shows for the whole file.
_NOTE = (
    "One inference of each case, as cspbench show --layer-times prints it: the entries of the "
    "backend's profiler one after the other. Kernels that ran side by side lie in a row, too."
)
#: Columns of `Run.layer_times` that an event shows when it is selected.
_DETAILS = (
    "entry_op", "share", "layers", "kind", "stage", "macs", "traffic_bytes", "gflops_per_s",
    "gb_per_s", "compute_utilisation", "memory_utilisation",
)  # fmt: skip


def chrome_trace(run: Run) -> str:
    """The layer times of a run as JSON: a process a case, an event an entry of its profile.

    Raises:
        InputError: the run timed no layers.
    """
    events = list(_events(run))
    if not events:
        raise InputError(f"{run.name} holds no layer times: measure with --set measure.layers=true")
    about = {"run": printable(run.name), "note": _NOTE}
    trace = {"traceEvents": events, "displayTimeUnit": "ms", "otherData": about}
    return json.dumps(trace, separators=(",", ":"), allow_nan=False)


def torch_trace(run: Run, pattern: str) -> str:
    """The trace of torch.profiler that the case of a pattern kept, as its JSON.

    Raises:
        InputError: not one case that matches has a trace, or its trace is damaged.
    """
    kept = {one.case: one.result for one in run.stored.launches if one.job == "trace" and one.good}
    found = select([pattern], kept)
    if not kept:
        raise InputError(
            f"{run.name} holds no trace of torch: measure with --set measure.trace=true"
        )
    if len(found) != 1:
        names = ", ".join(map(printable, found or kept))
        raise InputError(f"{pattern!r} matches {len(found)} of the cases with a trace: {names}")
    try:
        text: str = kept[found[0]].text()
    except ValueError as error:
        raise InputError(f"{printable(found[0])}: {error}") from error
    return text


def _events(run: Run) -> Iterator[dict[str, Any]]:
    for process, (case, rows) in enumerate(run.layer_times.groupby("case", sort=False), start=1):
        yield _named("process_name", process, str(case))
        yield _named("thread_name", process, "one inference")
        start = 0.0
        for row in rows.to_dict(orient="records"):
            microseconds = 1000 * row["time_ms"]
            if microseconds < 0:  # between the layers of an engine that runs some side by side
                continue
            yield {
                "ph": "X", "pid": process, "tid": 1, "ts": round(start, 3),
                "dur": round(microseconds, 3), "name": printable(row["entry"]),
                "cat": printable(row["kind"] if isinstance(row["kind"], str) else "layer"),
                "args": {name: _plain(row[name]) for name in _DETAILS if _known(row[name])},
            }  # fmt: skip
            start += microseconds


def _named(what: str, process: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "pid": process, "tid": 1, "name": what, "args": {"name": printable(name)}}


def _known(value: Any) -> bool:
    """True unless a frame has no value there: None, NaN, an empty text or list."""
    return value is not None and value == value and value not in ("", [])  # noqa: PLR0124 - NaN


def _plain(value: Any) -> Any:
    """A value of a frame as JSON has it."""
    if isinstance(value, list):
        return ", ".join(printable(str(one)) for one in value)
    if isinstance(value, str):
        return printable(value)
    return int(value) if float(value).is_integer() else float(value)
