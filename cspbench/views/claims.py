"""A measured case as one line that stands alone in a paper, an issue or a mail.

A latency without its conditions cannot be repeated, and most that are published lack some. Those
that stand here are what Hoefler & Belli (2015), "Scientific benchmarking of parallel computing
systems" (doi 10.1145/2807591.2807644), ask for, as far as a line holds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from cspbench.backends.precisions import precision_of
from cspbench.backends.spec import BACKENDS, device_of
from cspbench.core.case import Case
from cspbench.core.text import printable, significant
from cspbench.machine.devices.spec import DEVICES
from cspbench.models.build import split_source
from cspbench.models.stated import model_stated
from cspbench.store.blocks import SEPARATE

if TYPE_CHECKING:
    from cspbench.store.records import Record
    from cspbench.views.frames import Run

CLAIM_COLUMNS = ("case", "claim")


def claims(runs: Iterable[Run]) -> list[dict[str, str]]:
    """One row a measured case, with the columns CLAIM_COLUMNS.

    Args:
        runs: of one machine each; of a fleet its boards' (`cspbench.fleet.views.by_board`).
    """
    rows = []
    for run in runs:
        facts = run.cases.to_dict(orient="records")
        for record, row in zip(run.records, facts, strict=True):
            if record.latency_ms is not None:
                rows.append({"case": record.case, "claim": claim(run, record, row)})
    return rows


def claim(run: Run, record: Record, row: Mapping[Any, Any]) -> str:
    """The line of one measured case, of which ``row`` is that of ``run.cases``."""
    case = Case.parse(record.case)
    parts = [
        f"{model_stated(record.case)}, batch {case.batch}: {_latency(case, record, row)}",
        *_ratio(run, record, row),
        _machine(case, run.environment),
        f"{weights_of(case)}, no accuracy measured",
        f"cspbench {run.stored.meta['cspbench']}, {run.stored.meta['created'][:10]}",
    ]
    if row["flags"]:
        parts.append(f"flags: {', '.join(row['flags'])}")
    return printable("; ".join(parts) + ".")


def _latency(case: Case, record: Record, row: Mapping[Any, Any]) -> str:
    latency = record.latency_ms
    assert latency is not None, "the case was measured"
    version = record.times[0].backend.get("version")
    engine = f"{case.backend}{f' {version}' if version else ''}{_precision(case)}"
    threads = f"{case.threads} thread{'s' * (case.threads != 1)}"
    processes = f"{len(record.good)} process{'es' * (len(record.good) != 1)}"
    spread = f"{processes}, no interval"
    if latency.low is not None and latency.high is not None:
        bounds = f"{significant(latency.low, 4)} to {significant(latency.high, 4)}"
        spread = f"95 % interval {bounds}, {processes}"
    ms, fps = significant(latency.estimate, 4), significant(row["fps"], 4)
    return (
        f"{ms} ms an inference ({spread}), {fps} fps, on {engine}, {threads}, scope {row['scope']}"
    )


def _precision(case: Case) -> str:
    """Of what it computes with, where the backend is known here."""
    if case.backend.name not in BACKENDS:
        return ""
    return f", {precision_of(BACKENDS.get(case.backend.name), dict(case.backend.options))}"


def _ratio(run: Run, record: Record, row: Mapping[Any, Any]) -> list[str]:
    ratio, low, high = row["ratio"], row["ratio_low"], row["ratio_high"]
    if run.reference in (None, record.case) or not low > 0:  # NaN where there is none
        return []
    bounds = f"{significant(low, 3)} to {significant(high, 3)}"
    how = SEPARATE if row["ratio_of"] == SEPARATE else "measured in turn"
    return [f"{significant(ratio, 3)} times {run.reference} ({bounds}, {how})"]


def _machine(case: Case, environment: Mapping[str, Any]) -> str:
    """Processor and cores, or the device, and the system."""
    known = environment.get("cpu"), environment.get("os")
    cores = environment.get("cores_usable")
    virtual = "virtual machine" if environment.get("virtualised") else None
    device = None
    if case.backend.name in BACKENDS:
        name = device_of(BACKENDS.get(case.backend.name), dict(case.backend.options))
        if not DEVICES.get(name).on_host:
            device = environment.get("board") or environment.get("gpu")
    facts = [device, known[0], f"{cores} cores" if cores else None, virtual, known[1]]
    return ", ".join(str(fact) for fact in facts if fact) or "an unknown machine"


def weights_of(case: Case) -> str:
    """Where the weights of a case's model come from, in words."""
    file = dict(case.model.options).get("weights")
    if file:
        return f"weights of {PurePath(str(file)).name}"
    source = split_source(case.model.name)
    if source is not None and (source[0].artifact or source[0].runs_code):
        return "the model's own weights"
    return "random weights"
