"""``cspbench explain``: why one case is slower or faster than another."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cspbench.cli.options import (
    allow_code_option,
    emit,
    emit_text,
    no_wait_option,
    results_option,
    table_options,
)
from cspbench.cli.reporter import Reporter, reporter_options
from cspbench.core.output import say, show
from cspbench.core.statuses import ExitCode, Status
from cspbench.errors import InputError, StoreError

if TYPE_CHECKING:
    from cspbench.attribution import Explanation
    from cspbench.attribution.ladder import StageLadder
    from cspbench.runner.plan import Plan
    from cspbench.views.frames import Run

#: Rows of the table of groups that a terminal shows.
SHOWN_GROUPS = 12


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--run", "run", metavar="RUN", help="Explain two cases of this stored run.")
@click.option(
    "--by",
    type=click.Choice(("causes", "groups", "layers", "stages")),
    help="Rows of the table: causes, stages and roles, or single layers. stages: measure hybrids "
    "of A and B that exchange one stage at a time.",
)
@click.option(
    "--backend", default="opencv-cpu", show_default=True, help="Backend of model ids, measured now."
)
@click.option(
    "--batch", type=click.IntRange(1), default=1, show_default=True, help="Batch of model ids."
)
@click.option(
    "--threads", type=click.IntRange(1), default=1, show_default=True, help="Threads of model ids."
)
@click.option(
    "--rounds",
    type=click.IntRange(2, 1000),
    default=5,
    show_default=True,
    help="Launches a case, if measured now.",
)
@allow_code_option
@no_wait_option
@reporter_options
@table_options
@results_option
def command(
    a: str, b: str, run: str | None, by: str | None, backend: str, batch: int, threads: int,
    rounds: int, allow_code: bool, no_wait: bool, form: str, out: Path | None, results: Path,
    reporter: Reporter,
) -> int:  # fmt: skip
    """Say why B is slower or faster than A, by cause and by layer.

    With --run, A and B are case ids of that run, or patterns or model ids that one case matches.
    Without it they are model ids or case ids, and both are measured now.
    """
    from cspbench.attribution import api
    from cspbench.store.rundir import find_run
    from cspbench.views.frames import load

    if by == "stages" and run is not None:
        raise InputError("--by stages measures hybrids of A and B: leave out --run")
    if run is not None:
        _refuse_settings()
        _show(api.explain(a, b, load(find_run(run, results))), form, by, out)
        return ExitCode.OK
    from cspbench.attribution.ladder import ladder_times, plan_ladder
    from cspbench.attribution.pair import plan_pair
    from cspbench.models.code import allowing_code

    ladder = None
    try:
        with allowing_code(allow_code):
            settings: Any = {
                "backend": backend, "batch": batch, "threads": threads, "rounds": rounds,
            }  # fmt: skip
            if by == "stages":
                plan, ladder = plan_ladder(a, b, **settings)
            else:
                plan = plan_pair(a, b, **settings)
            stored = _measure(plan, results, reporter, allow_code=allow_code, wait=not no_wait)
    except StoreError as error:
        say(f"error: {error}", err=True)
        return ExitCode.NOT_MEASURED
    reporter.report(f"run {stored.path}")
    if ladder is not None:
        _show_ladder(ladder_times(stored, ladder), form, out)
        return ExitCode.OK
    bad = [record for record in stored.records if record.status is not Status.OK]
    for record in bad:
        say(f"error: {record.case}: {record.status}: {record.reason}", err=True)
    if bad:
        return ExitCode.NOT_MEASURED
    first, second = (record.case for record in stored.records)
    _show(api.explain_measured(stored, first, second), form, by, out)
    return ExitCode.OK


def _refuse_settings() -> None:
    """Refuse settings of a measurement beside ``--run``, which measures nothing."""
    source = click.get_current_context().get_parameter_source
    options = [
        f"--{name}"
        for name in ("backend", "batch", "threads", "rounds")
        if source(name) is ParameterSource.COMMANDLINE
    ]
    if options:
        raise InputError(
            f"{' and '.join(options)}: settings of a new measurement; --run reads a stored run"
        )


def _measure(plan: Plan, results: Path, reporter: Reporter, *, allow_code: bool, wait: bool) -> Run:
    from cspbench.attribution.pair import measure_plan
    from cspbench.cli.progress import display_for
    from cspbench.runner.executor import LocalExecutor

    with contextlib.closing(display_for(reporter)) as display:
        executor = LocalExecutor(allow_code=allow_code)
        return measure_plan(plan, results, executor, display, wait=wait, waiting=reporter.report)


def _show_ladder(ladder: StageLadder, form: str, out: Path | None) -> None:
    import pandas as pd

    from cspbench.attribution import ladder as words
    from cspbench.attribution.text import NUMBERS

    if form == "table" and out is None:
        for sentence in words.sentences(ladder):
            say(sentence)
        say("")
    numbers = NUMBERS | {"from_a_ms": "+.3f", "from_b_ms": "+.3f"}
    emit(pd.DataFrame(ladder.rows(), columns=list(words.STEP_COLUMNS)), form, out, numbers)


def _show(explanation: Explanation, form: str, by: str | None, out: Path | None) -> None:
    from cspbench.attribution import text as words
    from cspbench.views.formats import render

    if form == "json" and by is None:
        emit_text(json.dumps(words.as_dict(explanation), indent=1, allow_nan=False), out)
        return
    if form != "table" or out is not None or by is not None:
        emit(words.frame(explanation, by or "causes"), form, out, words.NUMBERS)
        return
    for sentence in words.sentences(explanation):
        say(sentence)
    say("")
    causes = words.frame(explanation, "causes")
    causes = causes[(causes["a_ms"] != 0) | (causes["b_ms"] != 0)]
    show(render(causes, form, words.NUMBERS), headed=True)
    say("")
    groups = words.frame(explanation, "groups")
    show(render(groups.head(SHOWN_GROUPS), form, words.NUMBERS), headed=True)
    if len(groups) > SHOWN_GROUPS:
        say(f"... and {len(groups) - SHOWN_GROUPS} more: --by groups")
