"""``cspbench gate``: is the head slower than the base?"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from cspbench.cli.fleet_options import fleet_of, insecure_option, scheduler_option
from cspbench.cli.options import allow_code_option, format_option, only_option, results_option
from cspbench.cli.reporter import Reporter, reporter_options
from cspbench.core.files import write_output
from cspbench.core.output import annotate, say, show
from cspbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cspbench.gating.elsewhere import GateBoard
    from cspbench.gating.report import GateReport
    from cspbench.gating.suites import Rules

_FILE = click.Path(path_type=Path, dir_okay=False)
#: What a self-test can be told, beside what every command can.
OF_SELF_TEST = frozenset(
    ("suite", "only", "allow_code", "self_test", "save", "form", "quiet", "verbose", "log_json")
)


@click.command()
@click.argument("suite", required=False, metavar="[MODEL|SUITE]")
@click.option("--base", "base", metavar="X", help="Side to compare with.")
@click.option(
    "--head", "head", metavar="Y", default="set:", show_default="the suite as it is",
    help="Side to judge.",
)  # fmt: skip
@click.option("--base-env", metavar="PATH", help="Python environment of the base's workers.")
@click.option("--head-env", metavar="PATH", help="Python environment of the head's workers.")
@only_option
@click.option(
    "--strict",
    is_flag=True,
    help="Exit 4 if a case is inconclusive or untrusted, or a rule was not checked.",
)
@click.option(
    "--no-static", is_flag=True, help="Report static changes, but let them block nothing."
)
@click.option("--keep-going", is_flag=True, help="Time the other cases of a blocked suite too.")
@click.option(
    "--measure-identical", is_flag=True,
    help="Time also what runs the same bytes on both sides of a git comparison.",
)  # fmt: skip
@click.option(
    "--rules", type=click.Choice(["base", "head"]), default="base", show_default=True,
    help="Side whose suite decides what is judged, and by which rules.",
)  # fmt: skip
@allow_code_option
@scheduler_option
@click.option(
    "--on", metavar="LABEL", help="Board of --scheduler that measures, by its label or name."
)
@insecure_option
@click.option(
    "--self-test", is_flag=True, help="Measure how small a change the gate finds on this machine."
)
@click.option(
    "--save", is_flag=True, help="Keep what --self-test finds: later gates here print it."
)
@click.option("--markdown", type=_FILE, help="Write a step summary or comment (under 60 kB).")
@click.option("--junit", type=_FILE, help="Write JUnit XML.")
@click.option("--html", type=_FILE, help="Write the compare page.")
@click.option(
    "--site", metavar="ADDRESS",
    help="Folder or web address of a site (cspbench site): the compare page links to histories.",
)  # fmt: skip
@click.option("--annotations", is_flag=True, help="Print GitHub annotations to standard error.")
@results_option
@reporter_options
@format_option
def command(
    suite: str | None,
    base: str | None,
    head: str,
    base_env: str | None,
    head_env: str | None,
    only: tuple[str, ...],
    strict: bool,
    no_static: bool,
    keep_going: bool,
    measure_identical: bool,
    rules: Rules,
    allow_code: bool,
    scheduler: str | None,
    on: str | None,
    insecure: bool,
    self_test: bool,
    save: bool,
    markdown: Path | None,
    junit: Path | None,
    html: Path | None,
    site: str | None,
    annotations: bool,
    results: Path,
    form: str,
    reporter: Reporter,
) -> int:
    """Decide whether MODEL, or a case of SUITE, is slower on side Y than on side X.

    A MODEL is a file or an id; every backend of this machine's processor runs it with one thread.

    A side is set:key=value,... (the suite with other settings), env:PATH (another Python
    environment), a git ref of the repository that holds the suite, or a stored run. Both sides are
    measured in turn, in bursts of about 5 ms; docs/gate.md says how and how sure it is. With
    --scheduler a board of a fleet measures, and this machine only prepares.
    """
    from cspbench.api import gate, suite_file
    from cspbench.gating.report import write_gate

    if save and not self_test:
        raise InputError("--save goes with --self-test: it keeps what the self-test finds")
    if on is not None and scheduler is None:
        raise InputError("--on names a board of a fleet: give its --scheduler, too")
    if site is not None:
        from cspbench.gating.render.page import check_site

        check_site(site)
    if self_test:
        _refuse_beside_self_test()
        return _self_test(suite or "quick", only, form, allow_code, reporter, save)
    if suite is None or base is None:
        raise InputError(
            "name a model or a suite and what to compare with: cspbench gate model.onnx --base main"
        )
    with _board(scheduler, on, reporter, insecure=insecure) as board, _kept(results):
        report = gate(
            suite, base, head, base_env=base_env, head_env=head_env, only=only, strict=strict,
            static=not no_static, keep_going=keep_going, measure_identical=measure_identical,
            allow_code=allow_code, rules=rules, results=results, report=reporter.report,
            board=board,
        )  # fmt: skip
    folder = write_gate(report, results)
    _write_files(report, markdown, junit, html, site)
    if annotations:
        from cspbench.gating.render.annotations import annotations_of
        from cspbench.suite.targets import is_model

        annotate(annotations_of(report, suite if is_model(suite) else str(suite_file(suite))))
    _print(report, form)
    if form == "table":
        say(f"raw data  {folder}")
    return report.exit_code


@contextlib.contextmanager
def _kept(results: Path) -> Iterator[None]:
    """Keep what a gate that is interrupted inside has measured."""
    from cspbench.gating.report import GateInterrupted, write_gate

    try:
        yield
    except GateInterrupted as stopped:
        say(f"raw data  {write_gate(stopped.report, results)}", err=True)
        raise


def _refuse_beside_self_test() -> None:
    """Refuse options that a self-test would ignore: it compares a case of this machine with itself.

    Raises:
        InputError: one was given.
    """
    context = click.get_current_context()
    ignored = [
        option.opts[0]
        for option in context.command.params
        if context.get_parameter_source(option.name or "") is ParameterSource.COMMANDLINE
        and option.name not in OF_SELF_TEST
    ]
    if ignored:
        options = ", ".join(ignored)
        raise InputError(
            f"--self-test is of a case of this machine beside itself: leave out {options}"
        )


@contextlib.contextmanager
def _board(
    scheduler: str | None, on: str | None, reporter: Reporter, *, insecure: bool
) -> Iterator[GateBoard | None]:
    """The board that measures; None for this machine."""
    if scheduler is None:
        yield None
        return
    from cspbench.cli.fleet_run import boards_of

    with fleet_of(scheduler, None, insecure=insecure) as client:
        from cspbench.fleet.gate import BoardOfGate, choose_board

        board = choose_board(boards_of(client), on)
        reporter.report(f"measuring on board {board.name}")
        yield BoardOfGate(client, board, reporter.report)


def _write_files(
    report: GateReport,
    markdown: Path | None,
    junit: Path | None,
    html: Path | None,
    site: str | None,
) -> None:
    from cspbench.gating.render.junit import junit_of
    from cspbench.gating.render.markdown import markdown_of
    from cspbench.gating.render.page import page_of

    for path, render in ((markdown, markdown_of), (junit, junit_of)):
        if path is not None:
            write_output(path, render(report), folder=True)
    if html is not None:
        write_output(html, page_of(report, site), folder=True)


def _print(report: GateReport, form: str) -> None:
    from cspbench.gating.render.terminal import print_report

    if form == "json":
        show(json.dumps(report.as_dict(), allow_nan=False))
    else:
        print_report(report, form)


def _self_test(
    suite: str,
    only: tuple[str, ...],
    form: str,
    allow_code: bool,
    reporter: Reporter,
    save: bool,
) -> int:
    from cspbench.api import gated_suite
    from cspbench.gating.render.terminal import print_self_test
    from cspbench.gating.selftest import run_self_test

    file, content = gated_suite(suite)
    result = run_self_test(file, only, reporter.report, content=content, allow_code=allow_code)
    if form == "json":
        show(json.dumps(result.as_dict(), allow_nan=False))
    else:
        print_self_test(result, form)
    if save:
        from cspbench.gating.sensitivity import keep_sensitivity

        found = result.sensitivity
        if found is None:
            say(f"not saved: {result.doubt or 'nothing was measured'}", err=True)
        else:
            say(f"saved     {keep_sensitivity(found)}", err=True)
    return result.exit_code
