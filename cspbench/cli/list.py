"""``cspbench list``: one line for each entry of a kind, with the reason if it is unavailable."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cspbench.cli.options import emit_rows, results_option, table_options
from cspbench.core.output import say
from cspbench.core.text import matches

Row = dict[str, Any]
#: What follows a model's name in an id.
_MODEL_NAME = re.compile(r"[\[+@]")


def models(pattern: str, results: Path) -> list[Row]:
    """Networks of the zoo, and how many of their combinations have a published accuracy."""
    from cspbench.literature.by_model import accuracies
    from cspbench.models.spec import MODELS

    known: dict[str, list[str]] = {}
    for name, metric, _ in accuracies():
        known.setdefault(_MODEL_NAME.split(name)[0], []).append(metric)
    return [
        {
            "name": spec.name, "task": spec.task, "input": spec.input,
            "confidence": spec.confidence, "options": [axis.name for axis in spec.axes],
            "published": ", ".join(
                f"{count} {metric}" for metric, count in Counter(known.get(spec.name, ())).items()
            ),
            "summary": spec.summary, "source": spec.source,
        }
        for spec in MODELS if matches(pattern, spec.name)
    ]  # fmt: skip


def published(pattern: str, results: Path) -> list[Row]:
    """Combinations of model, options, neck and input with a published accuracy."""
    from cspbench.literature.by_model import accuracies

    return [
        {"name": name, "metric": metric, "percent": entry.value, "source": entry.source}
        for name, metric, entry in accuracies() if matches(pattern, name)
    ]  # fmt: skip


def necks(pattern: str, results: Path) -> list[Row]:
    """Necks with their heads."""
    from cspbench.models.spec import NECKS

    return [
        {
            "name": spec.name, "confidence": spec.confidence, "scales": spec.scales,
            "options": [axis.name for axis in spec.axes], "summary": spec.summary,
            "source": spec.source,
        }
        for spec in NECKS if matches(pattern, spec.name)
    ]  # fmt: skip


def backends(pattern: str, results: Path) -> list[Row]:
    """Ways to run a model."""
    from cspbench.backends.spec import BACKENDS

    return [
        {
            "name": backend.name,
            "here": backend.available() or "available",
            "options": [axis.name for axis in backend.axes],
            "summary": backend.summary,
        }
        for backend in BACKENDS
        if matches(pattern, backend.name)
    ]


def sensors(pattern: str, results: Path) -> list[Row]:
    """Sources of the machine's state, and which share of a processor reading them takes.

    A sensor that wants to be named is not opened here.
    """
    from cspbench.machine.sensors.monitor import reading_cost_s
    from cspbench.machine.sensors.spec import SENSORS

    rows = []
    for sensor in SENSORS:
        if not matches(pattern, sensor.name):
            continue
        missing = sensor.available()
        cost = None if missing or sensor.on_request else reading_cost_s(sensor)
        rows.append({
            "name": sensor.name,
            "rate_hz": sensor.rate_hz,
            "cost_percent": None if cost is None else round(100 * cost * sensor.rate_hz, 4),
            "here": missing or "available",
            "summary": sensor.summary,
        })  # fmt: skip
    return rows


def metrics(pattern: str, results: Path) -> list[Row]:
    """Totals of an analysis."""
    from cspbench.analysis.metric import TOTAL_METRICS

    return [
        {"name": metric.name, "unit": metric.unit, "summary": metric.summary,
         "source": metric.source}
        for metric in TOTAL_METRICS if matches(pattern, metric.name)
    ]  # fmt: skip


def rules(pattern: str, results: Path) -> list[Row]:
    """What the ``gate:`` section of a suite takes."""
    from cspbench.suite.rules import MeasuredRule
    from cspbench.suite.rules import rules as known

    return [
        {"name": rule.name, "unit": rule.unit,
         "kind": "measured" if isinstance(rule, MeasuredRule) else "static",
         "summary": rule.summary}
        for rule in known().values() if matches(pattern, rule.name)
    ]  # fmt: skip


def suites(pattern: str, results: Path) -> list[Row]:
    """Suites in ./suites and those installed with the package."""
    from cspbench.errors import InputError
    from cspbench.suite.find import list_suites, suite_name
    from cspbench.suite.load import load_suite

    rows = []
    for path in list_suites():
        name = suite_name(path)
        if not matches(pattern, name):
            continue
        try:
            suite = load_suite(path)
            rows.append({"name": name, "cases": len(suite.cases), "summary": suite.description,
                         "path": str(path)})  # fmt: skip
        except InputError as error:
            rows.append({"name": name, "cases": None, "summary": f"broken: {error.problems[0]}",
                         "path": str(path)})  # fmt: skip
    return rows


def runs(pattern: str, results: Path) -> list[Row]:
    """Stored runs, oldest first."""
    from cspbench.errors import InputError
    from cspbench.store.records import records
    from cspbench.store.rundir import list_runs, read_run

    rows: list[Row] = []
    for path in list_runs(results):
        if not matches(pattern, path.name):
            continue
        try:
            stored = read_run(path)
        except InputError as error:
            rows.append({"name": path.name, "suite": f"broken: {error.problems[0]}",
                         "cases": None, "ok": None, "cpu": None})  # fmt: skip
            continue
        statuses = [record.status.value for record in records(stored)]
        rows.append(
            {
                "name": path.name,
                "suite": stored.meta["suite"]["name"],
                "cases": len(statuses),
                "ok": statuses.count("ok"),
                "cpu": stored.meta["environment"].get("cpu"),
            }
        )
    return rows


KINDS: dict[str, Callable[[str, Path], list[Row]]] = {
    "models": models, "published": published, "necks": necks, "backends": backends,
    "sensors": sensors, "metrics": metrics, "rules": rules, "suites": suites, "runs": runs,
}  # fmt: skip


@click.command(name="list")
@click.argument("kind", type=click.Choice(tuple(KINDS)))
@click.argument("pattern", default="*")
@table_options
@results_option
def command(kind: str, pattern: str, form: str, out: Path | None, results: Path) -> None:
    """List all entries of a kind whose name matches PATTERN, in which * and ? are special."""
    rows = KINDS[kind](pattern, results)
    if not rows and form != "json":
        say(f"no {kind} match {pattern!r}" if pattern != "*" else f"no {kind}", err=True)
        return
    if form == "table":  # sources are long: they are in the other forms and in docs/models.md
        rows = [{name: cell for name, cell in row.items() if name != "source"} for row in rows]
    emit_rows(rows, form, out, {"input": "d", "scales": "d", "cases": "d", "ok": "d"})
