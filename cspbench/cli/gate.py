"""``cspbench gate``: is the head slower than the base?"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import allow_code_option, format_option, results_option
from cspbench.cli.reporter import Talk, talk_options
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.gating.report import GateReport
    from cspbench.gating.sides import SideRequest

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("suite", required=False)
@click.option("--base", "base", metavar="X", help="What to compare with.")
@click.option(
    "--head", "head", metavar="Y", default="set:", show_default="the suite as it is",
    help="What to judge.",
)  # fmt: skip
@click.option("--base-env", metavar="PATH", help="Python environment of the base's workers.")
@click.option("--head-env", metavar="PATH", help="Python environment of the head's workers.")
@click.option(
    "--only", multiple=True, metavar="PATTERN", help="Gate only cases whose id matches. Repeatable."
)
@click.option("--strict", is_flag=True, help="Exit 4 if a case is inconclusive or untrusted.")
@click.option("--no-static", is_flag=True, help="Tell static changes, but let them block nothing.")
@click.option("--keep-going", is_flag=True, help="Time the other cases of a blocked suite too.")
@click.option(
    "--measure-identical", is_flag=True,
    help="Time also what runs the very same bytes on both sides of a git comparison.",
)  # fmt: skip
@allow_code_option
@click.option("--self-test", is_flag=True, help="Tell what the gate can see on this machine.")
@click.option("--markdown", type=_FILE, help="Write a step summary or comment (under 60 kB).")
@click.option("--junit", type=_FILE, help="Write JUnit XML.")
@click.option("--html", type=_FILE, help="Write the compare page.")
@click.option("--annotations", is_flag=True, help="Print GitHub annotations to standard error.")
@results_option
@talk_options
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
    allow_code: bool,
    self_test: bool,
    markdown: Path | None,
    junit: Path | None,
    html: Path | None,
    annotations: bool,
    results: Path,
    form: str,
    talk: Talk,
) -> int:
    """Tell whether the cases of SUITE are slower on side Y than on side X.

    A side is set:key=value,... (the suite with other settings), env:PATH (another Python
    environment), a git ref of the repository that holds the suite, or a stored run. Both sides are
    measured in turn, tens of milliseconds apart; docs/gate.md says how and how sure it is.
    """
    from cspbench.gating.job import Settings, run_gate
    from cspbench.gating.report import write_gate
    from cspbench.gating.sides import parse_side
    from cspbench.gating.stored import run_stored_gate
    from cspbench.suite.find import find_suites

    if self_test:
        return _self_test(suite, only, form, allow_code, talk)
    if suite is None or base is None:
        raise InputError("name a suite and what to compare with: cspbench gate SUITE --base main")
    file = _one_suite(find_suites(suite), suite)
    sides = (
        _with_env(parse_side(base, file, results), base_env),
        _with_env(parse_side(head, file, results), head_env),
    )
    settings = Settings(
        strict=strict,
        static=not no_static,
        keep_going=keep_going,
        measure_identical=measure_identical,
        only=only,
        allow_code=allow_code,
        results=results,
    )
    stored = "run" in (sides[0].kind, sides[1].kind)
    judge = run_stored_gate if stored else run_gate
    report = judge(file, *sides, settings, tell=talk.tell)
    folder = write_gate(report, results)
    _write_files(report, markdown, junit, html)
    if annotations:
        from cspbench.gating.render.annotations import annotations_of

        click.echo("\n".join(annotations_of(report, str(file))), err=True)
    _print(report, form)
    if form == "table":
        click.echo(f"raw data  {folder}")
    return report.exit_code


def _one_suite(files: list[Path], name: str) -> Path:
    if len(files) != 1:
        raise InputError(f"{name} holds {len(files)} suites; a gate judges one at a time")
    return files[0]


def _with_env(side: SideRequest, env: str | None) -> SideRequest:
    from cspbench.gating.sides import interpreter

    if env is None:
        return side
    if side.kind not in ("git", "set"):
        raise InputError(f"{side.text} has an environment already; give no other")
    return replace(side, python=interpreter(env))


def _write_files(
    report: GateReport, markdown: Path | None, junit: Path | None, html: Path | None
) -> None:
    from cspbench.gating.render.junit import junit_of
    from cspbench.gating.render.markdown import markdown_of
    from cspbench.gating.render.page import page_of

    for path, render in ((markdown, markdown_of), (junit, junit_of), (html, page_of)):
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(render(report), encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def _print(report: GateReport, form: str) -> None:
    from cspbench.gating.render.terminal import print_report

    if form == "json":
        click.echo(json.dumps(report.as_dict(), allow_nan=False))
    else:
        print_report(report, form)


def _self_test(
    suite: str | None, only: tuple[str, ...], form: str, allow_code: bool, talk: Talk
) -> int:
    from cspbench.gating.render.terminal import print_self_test
    from cspbench.gating.selftest import run_self_test
    from cspbench.suite.find import find_suites

    file = _one_suite(find_suites(suite or "quick"), suite or "quick")
    result = run_self_test(file, only, tell=talk.tell, allow_code=allow_code)
    if form == "json":
        click.echo(json.dumps(result.as_dict(), allow_nan=False))
    else:
        print_self_test(result, form)
    return result.exit_code
