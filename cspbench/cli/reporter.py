"""How much a command that measures reports: ``--quiet``, ``--verbose``, ``--log-json``.

Reports go to standard error, results to standard output. docs/ci.md ("Following a run") lists the
events.
"""

from __future__ import annotations

import datetime
import functools
import json
from collections.abc import Callable
from typing import Any, TextIO

import click

from cspbench.cli.options import at_most_one
from cspbench.core.files import no_follow
from cspbench.core.output import event_stream, say
from cspbench.errors import InputError


class Reporter:
    """Reports what one command does while it works.

    Args:
        quiet: report nothing but errors.
        verbose: one line a launch, also in a terminal.
        log: where each event goes as one JSON line, if anywhere.
    """

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, log: TextIO | None = None
    ) -> None:
        self.quiet = quiet
        self.verbose = verbose
        self._log = log

    def report(self, text: str) -> None:
        """Print a line."""
        self.event("message", text=text)
        if not self.quiet:
            say(text, err=True)

    def event(self, kind: str, **fields: Any) -> None:
        """Log an event with the time at which it happened."""
        if self._log is None:
            return
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
        try:
            self._log.write(json.dumps({"time": now, "event": kind, **fields}) + "\n")
            self._log.flush()
        except OSError:  # its reader left, or the disk is full: the run goes on
            self._log = None


def reporter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the three options to a command, which gets them as one argument ``reporter``."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only the result and errors.")
    @click.option(
        "-v", "--verbose", is_flag=True, help="Print one line a launch, also in a terminal."
    )
    @click.option(
        "--log-json", metavar="FILE",
        help="Append every event as a JSON line; - is standard error, which then has only events.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_reporter(
        *args: Any, quiet: bool, verbose: bool, log_json: str | None, **options: Any
    ) -> Any:
        at_most_one(quiet=quiet, verbose=verbose)
        if log_json is None:
            return command(*args, reporter=Reporter(quiet=quiet, verbose=verbose), **options)
        if log_json == "-":
            return command(*args, reporter=Reporter(quiet=True, log=event_stream()), **options)
        try:
            file = open(log_json, "a", encoding="utf-8", opener=no_follow)  # noqa: SIM115
        except OSError as error:
            raise InputError(f"cannot write {log_json}: {error.strerror}") from error
        with file:
            return command(
                *args, reporter=Reporter(quiet=quiet, verbose=verbose, log=file), **options
            )

    return with_reporter
