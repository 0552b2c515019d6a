"""``cspbench doctor``: what this machine is and what would spoil a measurement."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import emit_rows, table_options
from cspbench.core.output import Styled, say
from cspbench.core.text import number_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cspbench.machine.check_result import CheckResult

_SIGNS = {"good": ("ok", "green"), "warn": ("warn", "yellow"), "info": ("-", "")}


@click.command()
@table_options
def command(form: str, out: Path | None) -> None:
    """Check this machine and print a remedy with every warning. It changes nothing."""
    from cspbench.machine.doctor import examine

    results = [*examine(), *_backends()]
    if form == "table" and out is None:
        _print(results)
        return
    emit_rows([asdict(result) for result in results], form, out)


def _backends() -> Iterator[CheckResult]:
    """Which backends can run here; for the others, what is missing."""
    from cspbench.backends.spec import BACKENDS
    from cspbench.machine.check_result import CheckResult

    for backend in BACKENDS:
        reason = backend.available()
        yield CheckResult(
            f"backend {backend.name}", reason or "available", "info" if reason else "good"
        )


def _print(results: Sequence[CheckResult]) -> None:
    width = max(len(result.check) for result in results)
    for result in results:
        sign, colour = _SIGNS[result.verdict]
        say(Styled(f"{sign:4}", colour), f"  {result.check:{width}}  {result.value}")
        if result.remedy:
            say(" " * (width + 8), Styled(f"-> {result.remedy}", "dim"))
    warnings = sum(result.verdict == "warn" for result in results)
    say(number_of(warnings, "warning"))
