"""``cspbench explain``: why one case is slower or faster than another."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable, Mapping, Sequence
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
    import pandas as pd

    from cspbench.attribution import Explanation, LayerComparison
    from cspbench.attribution.ladder import StageLadder
    from cspbench.attribution.remedies import Remedy
    from cspbench.runner.plan import Plan
    from cspbench.views.frames import Run

#: Rows of the table of groups that a terminal shows.
SHOWN_GROUPS = 12


@click.command()
@click.argument("a", metavar="A")
@click.argument("b", metavar="[B]", required=False)
@click.option(
    "--run",
    "runs",
    metavar="RUN",
    multiple=True,
    help="Explain two cases of this stored run. Given twice: A of the first, B of the second.",
)
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
@click.option(
    "--try", "try_", is_flag=True, help="Measure the best variants of B, too, in turns with B."
)
@allow_code_option
@no_wait_option
@reporter_options
@table_options
@results_option
def command(
    a: str, b: str | None, runs: tuple[str, ...], by: str | None, backend: str, batch: int,
    threads: int, rounds: int, try_: bool, allow_code: bool, no_wait: bool, form: str,
    out: Path | None, results: Path, reporter: Reporter,
) -> int:  # fmt: skip
    """Say why B is slower or faster than A, by cause and by layer.

    With --run, A and B are case ids of that run, or patterns or model ids that one case matches.
    With --run OLD --run NEW, B may be left out: why does A take another time in the new run?
    Without --run they are model ids or case ids, and both are measured now.
    """
    from cspbench.attribution import explain
    from cspbench.models.code import allowing_code
    from cspbench.store.rundir import find_run
    from cspbench.views.frames import load

    if by == "stages" and runs:
        raise InputError("--by stages measures hybrids of A and B: leave out --run")
    if try_ and by is not None:
        raise InputError(f"--try goes with the whole explanation: leave out --by {by}")
    if len(runs) > 2:
        raise InputError(f"--run was given {len(runs)} times: name one run, or A's and B's")
    if b is None and len(runs) < 2:
        raise InputError("B is missing: name it, or name two runs: --run OLD --run NEW")
    if runs:
        _refuse_settings()
        stored = [load(find_run(run, results)) for run in runs]
        with allowing_code(allow_code):
            it = explain(a, b, stored[0] if len(stored) == 1 else (stored[0], stored[1]))
            alone = len(stored) == 1 and by is None
            _show(it, _remedies(it, stored[0]) if alone else [], form, by, out)
        return ExitCode.OK
    assert b is not None
    measure = functools.partial(
        _measure, results=results, reporter=reporter, allow_code=allow_code, wait=not no_wait
    )
    settings = {"backend": backend, "batch": batch, "threads": threads, "rounds": rounds}
    try:
        with allowing_code(allow_code):
            if by == "stages":
                return _by_stages(a, b, settings, measure, form, out)
            return _by_cause(a, b, settings, measure, form, by, out, try_=try_)
    except StoreError as error:
        say(f"error: {error}", err=True)
        return ExitCode.NOT_MEASURED


def _by_stages(
    a: str, b: str, settings: Mapping[str, Any], measure: Callable[[Plan], Run], form: str,
    out: Path | None,
) -> int:  # fmt: skip
    from cspbench.attribution.ladder import ladder_times, plan_ladder

    plan, ladder = plan_ladder(a, b, **settings)
    _show_ladder(ladder_times(measure(plan), ladder), form, out)
    return ExitCode.OK


def _by_cause(
    a: str, b: str, settings: Mapping[str, Any], measure: Callable[[Plan], Run], form: str,
    by: str | None, out: Path | None, *, try_: bool,
) -> int:  # fmt: skip
    """Measure A and B, with ``try_`` also the best variants of B, and explain their difference."""
    from cspbench.attribution.api import explain_measured
    from cspbench.attribution.pair import plan_pair
    from cspbench.attribution.remedies import plan_trial, with_measured

    run = measure(plan_pair(a, b, **settings))
    if _failed(run):
        return ExitCode.NOT_MEASURED
    first, second = (record.case for record in run.records)
    it = explain_measured(run, first, second)
    remedies = _remedies(it, run) if by is None else []
    if try_ and remedies:
        trial = measure(plan_trial(second, remedies, settings["rounds"]))
        remedies = with_measured(remedies, trial, second)
    _show(it, remedies, form, by, out)
    return ExitCode.OK


def _failed(run: Run) -> bool:
    """Whether a case of a run failed; says which."""
    bad = [record for record in run.records if record.status is not Status.OK]
    for record in bad:
        say(f"error: {record.case}: {record.status}: {record.reason}", err=True)
    return bool(bad)


def _remedies(it: Explanation | LayerComparison, run: Run) -> list[Remedy]:
    from cspbench.attribution import Explanation
    from cspbench.attribution.remedies import remedies_of

    return remedies_of(it, run) if isinstance(it, Explanation) else []


def _refuse_settings() -> None:
    """Refuse settings of a measurement beside ``--run``, which measures nothing."""
    source = click.get_current_context().get_parameter_source
    options = [
        f"--{name.rstrip('_')}"
        for name in ("backend", "batch", "threads", "rounds", "try_")
        if source(name) is ParameterSource.COMMANDLINE
    ]
    if options:
        raise InputError(
            f"{' and '.join(options)}: settings of a new measurement; --run reads a stored run"
        )


def _measure(plan: Plan, results: Path, reporter: Reporter, *, allow_code: bool, wait: bool) -> Run:
    """Measure a plan here, and say where the run is stored."""
    from cspbench.attribution.pair import measure_plan
    from cspbench.cli.progress import display_for
    from cspbench.runner.executor import LocalExecutor

    with contextlib.closing(display_for(reporter)) as display:
        executor = LocalExecutor(allow_code=allow_code)
        run = measure_plan(plan, results, executor, display, wait=wait, waiting=reporter.report)
    reporter.report(f"run {run.path}")
    return run


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


def _show_engines(it: LayerComparison, form: str, by: str | None, out: Path | None) -> None:
    """One network on two engines or in two runs: the layers, or all entries of both."""
    import pandas as pd

    from cspbench.attribution import engines
    from cspbench.attribution.text import NUMBERS

    if by not in (None, "layers"):
        raise InputError(f"--by {by}: one network in two places is compared by layers only")
    if form == "json" and by is None:
        emit_text(json.dumps(engines.as_dict(it), indent=1, allow_nan=False), out)
        return
    layers = pd.DataFrame(engines.rows(it), columns=list(engines.ENGINE_COLUMNS))
    if form != "table" or out is not None or by is not None:
        emit(layers, form, out, NUMBERS)
        return
    for sentence in engines.sentences(it):
        say(sentence)
    say("")
    _show_first(layers, NUMBERS, "layers")


def _show_first(frame: pd.DataFrame, numbers: dict[str, str], by: str) -> None:
    """The first rows of a table, and how many more ``--by`` prints."""
    from cspbench.views.formats import render

    show(render(frame.head(SHOWN_GROUPS), "table", numbers), headed=True)
    if len(frame) > SHOWN_GROUPS:
        say(f"... and {len(frame) - SHOWN_GROUPS} more: --by {by}")


def _show(
    explanation: Explanation | LayerComparison, remedies: Sequence[Remedy], form: str,
    by: str | None, out: Path | None,
) -> None:  # fmt: skip
    from cspbench.attribution import LayerComparison
    from cspbench.attribution import remedies as help_
    from cspbench.attribution import text as words
    from cspbench.views.formats import render

    if isinstance(explanation, LayerComparison):
        _show_engines(explanation, form, by, out)
        return

    if form == "json" and by is None:
        whole = words.as_dict(explanation) | {"remedies": help_.rows(remedies)}
        emit_text(json.dumps(whole, indent=1, allow_nan=False), out)
        return
    if form != "table" or out is not None or by is not None:
        emit(words.frame(explanation, by or "causes"), form, out, words.NUMBERS)
        return
    for sentence in (*words.sentences(explanation), *help_.sentences(remedies)):
        say(sentence)
    say("")
    causes = words.frame(explanation, "causes")
    causes = causes[(causes["a_ms"] != 0) | (causes["b_ms"] != 0)]
    show(render(causes, form, words.NUMBERS), headed=True)
    say("")
    groups = words.frame(explanation, "groups")
    _show_first(groups, words.NUMBERS, "groups")
