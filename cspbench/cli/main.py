"""The ``cspbench`` command: finds subcommands by name and imports only the one that runs."""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import os
import sys
from typing import Any

import click

import cspbench
from cspbench.cli.last_resort import drop_unwritten, exit_code_of, print_error
from cspbench.core.output import inert_streams
from cspbench.core.statuses import ExitCode
from cspbench.errors import BusyError, InputError

#: Subcommand -> what it does in one line. Each lives in ``cspbench/cli/<name>.py`` as ``command``
#: (``-`` becomes ``_``); the line is here so that ``--help`` imports none of them.
COMMANDS = {
    "run": "Measure a suite on this machine and report.",
    "agent": "Let a fleet measure on this machine (extra: fleet).",
    "fleet": "List the boards of a fleet: what they do, and how they differ (extra: fleet).",
    "plan": "Show the cases of a suite, which can run here, and how long they take.",
    "list": "List models, necks, backends, sensors, metrics, rules, suites or runs.",
    "show": "Print the tables of a stored run.",
    "report": "Write the HTML report of stored runs.",
    "site": "Write a static site over all stored runs.",
    "figures": "Draw the figures of stored runs, for pages, slides, papers or posters.",
    "paper": "Check the CSPNet paper's claims and tables against stored runs.",
    "show-model": "Show a model's stages, published numbers beside ours, and sources.",
    "analyze": "Compute what can be known of a model without running it.",
    "explain": "Say why one case is slower than another, by cause and by layer.",
    "ceilings": "Measure what this machine can do at best, for the roofline.",
    "export": "Write the exact artifact that a backend measures.",
    "schema": "Print the JSON Schema of suites, for editors.",
    "fsck": "Check a stored run; --repair moves damaged lines out of the way.",
    "gate": "Decide whether one side is slower than another, for CI.",
    "compare": "Put two stored runs beside each other, without a verdict.",
    "history": "Follow a case over stored runs; change points are advisory.",
    "doctor": "Say what this machine is and what would spoil a measurement.",
}


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of COMMANDS."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a subcommand."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"cspbench.cli.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        command.short_help = COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for an unknown one."""
        from cspbench.core.text import nearest

        if args and args[0] not in COMMANDS:
            ctx.fail(f"no such command {args[0]!r}{nearest(args[0], list(COMMANDS))}")
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(cspbench.__version__, prog_name="cspbench")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Benchmarks that explain themselves, for CNNs on CUDA, CPU-OpenCV and Jetson.

    Exit codes: 0 good; 1 confirmed regression; 2 wrong usage or input; 3 something that should
    have run could not be measured; 4 inconclusive gate with --strict; 70 a fault of cspbench;
    130 interrupted; 141 the reader of the output left.
    """
    if os.environ.get("NO_COLOR"):  # https://no-color.org; rich follows it, click does not
        ctx.color = False


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; whatever happens, it ends with a sentence and an exit code of ours."""
    # pydantic would look for plugins in every installed distribution; ours has none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if "_CSPBENCH_COMPLETE" in os.environ:  # a shell asks what can follow
        cli.main(prog_name="cspbench")
    with inert_streams():
        try:
            code = _run(arguments)
        except BaseException as error:
            code = exit_code_of(error)
    drop_unwritten()
    atexit.register(gc.freeze)  # else Python looks for cycles in all of torch, for 1 to 2 s
    sys.exit(code)


def _run(arguments: list[str] | None) -> int:
    """Run the command line; deliberate errors become one line a problem and exit code 2."""
    try:
        result = _invoke(arguments)
        if sys.stdout is not None:  # None if it was closed from the start
            sys.stdout.flush()
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return ExitCode.USAGE
    except InputError as error:
        for problem in error.problems:
            print_error(f"error: {problem}")
        return ExitCode.USAGE
    except BusyError as error:
        print_error(f"error: {error}")
        return ExitCode.NOT_MEASURED
    except (click.Abort, KeyboardInterrupt):
        print_error("")  # below the terminal's ^C
        print_error("interrupted")
        return ExitCode.INTERRUPTED
    return result if isinstance(result, int) else ExitCode.OK


def _invoke(arguments: list[str] | None) -> Any:
    """What click's own ``main`` does, but that ends with 1 where the reader of a pipe left."""
    words = sys.argv[1:] if arguments is None else arguments
    with cli.make_context("cspbench", list(words)) as ctx:
        return cli.invoke(ctx)


if __name__ == "__main__":
    main()
