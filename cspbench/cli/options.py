"""Options that several commands share."""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.core.files import RESULTS
from cspbench.core.output import say, show
from cspbench.errors import InputError
from cspbench.views.formats import FORMATS, PRINTED, noted, render, write, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from cspbench.core.registry import Registry
    from cspbench.views.frames import Run

#: Where reports and figures go unless the user says otherwise.
REPORTS = Path("reports")

#: For commands that only print; those that write a file as well take `table_options`.
format_option = click.option(
    "--format", "form", type=click.Choice(PRINTED), default="table", show_default=True,
    help="Form of the output.",
)  # fmt: skip

results_option = click.option(
    "--results", type=click.Path(path_type=Path, file_okay=False), default=RESULTS,
    show_default=True, help="Directory that holds the runs.",
)  # fmt: skip

reports_option = click.option(
    "--reports", type=click.Path(path_type=Path, file_okay=False), default=REPORTS,
    show_default=True, help="Directory for reports and figures.",
)  # fmt: skip

only_option = click.option(
    "--only", multiple=True, metavar="PATTERN",
    help="Take only cases whose id matches; * and ? are special. Repeatable.",
)  # fmt: skip

set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE",
    help="Change a setting of the suite, such as threads=2. Repeatable.",
)  # fmt: skip

no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Refuse to start while another run measures on this machine."
)

allow_code_option = click.option(
    "--allow-code", is_flag=True, help="Allow models that run code which is not cspbench's."
)


class RegistryChoice(click.ParamType):  # type: ignore[type-arg] # old ones take none
    """The name of an entry of a registry, which is read only for a value or for the help."""

    name = "choice"

    def __init__(self, registry: Registry[Any]) -> None:
        self._registry = registry

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(self._registry.names())}]"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self._registry:
            names = ", ".join(map(repr, self._registry.names()))
            self.fail(f"{value!r} is not one of {names}.", param, ctx)
        return value


def table_forms(*more: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--format``, in every form of a table and ``more``, and ``--out``.

    A command gets them as ``form`` and ``out``. A form that is not text is refused without a file
    for it, before the command does anything.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(
            "--format", "form", type=click.Choice((*FORMATS, *more)), default="table",
            show_default=True, help="Form of the output; parquet needs --out.",
        )  # fmt: skip
        @click.option(
            "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write to this file."
        )
        @functools.wraps(command)
        def with_table(*args: Any, form: str, out: Path | None, **options: Any) -> Any:
            if form not in (*PRINTED, *more) and out is None:
                raise InputError(f"{form} is not text: name a file with --out")
            return command(*args, form=form, out=out, **options)

        return with_table

    return decorate


#: For commands that print a table and nothing else.
table_options = table_forms()


def folder_was_out(new: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Take ``--out`` as the old name of the folder option ``new`` for one release.

    ``--out`` is a file wherever a table or a page is written.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--out", "old", type=click.Path(path_type=Path, file_okay=False), hidden=True)
        @functools.wraps(command)
        def with_old_name(*args: Any, old: Path | None, **options: Any) -> Any:
            if old is not None:
                reporter = options.get("reporter")
                report = reporter.report if reporter else functools.partial(say, err=True)
                report(f"--out is deprecated and goes with the next release: use --{new}")
                options[new] = old
            return command(*args, **options)

        return with_old_name

    return decorate


def _memory_size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Callback of an option: bytes from ``500M``, ``8G``, ``1.5GiB`` (powers of 1024)."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
    size = float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " ") if match else 0.0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a memory size; write 500M or 8G", ctx, param)
    return int(size)


def share_option(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Callback of an option: 0.05 from ``5%`` or ``0.05``."""
    if value is None:
        return None
    from cspbench.suite.schema import as_share

    number: object = value
    with contextlib.suppress(ValueError):
        number = float(value)
    try:
        return as_share(number)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


memory_limit_option = click.option(
    "--memory-limit", callback=_memory_size, metavar="SIZE",
    help="Bound of a worker's memory, such as 8G.  [default: 80 % of what is free]",
)  # fmt: skip


def parse_overrides(settings: Sequence[str]) -> dict[str, object]:
    """Split ``--set key=value`` options; the suite reads the values as YAML.

    Raises:
        InputError: one without ``=``.
    """
    overrides: dict[str, object] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key.strip() or not equals:
            raise InputError(f"--set {setting}: write key=value, such as threads=2")
        overrides[key.strip()] = value
    return overrides


def at_most_one(**chosen: bool) -> None:
    """Refuse flags that exclude each other; ``chosen`` holds them by the command's argument.

    Raises:
        InputError: more than one is given.
    """
    names = sorted(f"--{name.replace('_', '-')}" for name, there in chosen.items() if there)
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} exclude each other: use one of them")


def load_runs(names: Sequence[str], results: Path) -> list[Run]:
    """The stored runs that the arguments of a command name.

    Raises:
        InputError: there is no such run.
    """
    from cspbench.store.rundir import find_run
    from cspbench.views.frames import load

    return [load(find_run(name, results)) for name in names]


def emit_text(text: str, out: Path | None) -> None:
    """Print a text, or write it to ``out`` and say where it is."""
    if out is None:
        show(text)
    else:
        write_text(text, out)
        say(str(out))


def emit(
    frame: pd.DataFrame,
    form: str,
    out: Path | None,
    numbers: dict[str, str] | None = None,
    low_priority: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> None:
    """Print a frame, or write it to ``out``, with sentences below it where people read it.

    The other arguments are those of formats.render.
    """
    if out is not None:
        write(frame, form, out, notes)
        say(str(out))
    else:
        text = render(frame, form, numbers, low_priority)
        show(noted(text, form, notes), headed=form == "table")


def emit_rows(
    rows: Sequence[dict[str, Any]],
    form: str,
    out: Path | None,
    numbers: dict[str, str] | None = None,
    low_priority: Sequence[str] = (),
) -> None:
    """Print rows, all with the same keys, or write them to ``out``.

    As a table or as JSON without pandas, which a board of a fleet may lack.

    Raises:
        InputError: the form needs pandas.
    """
    if form == "json":
        emit_text(json.dumps(rows, indent=1), out)
    elif form == "table":
        from cspbench.views.formats import text_table

        text = text_table(rows, list(rows[0]), numbers, low_priority)
        if out is None:
            show(text, headed=True)
        else:
            emit_text(text, out)
    else:
        try:
            import pandas as pd
        except ImportError:
            raise InputError(
                f"--format {form} needs pandas: pip install pandas, or use table or json"
            ) from None
        emit(pd.DataFrame(rows), form, out, numbers, low_priority)


def emit_cases(run: Run, form: str, out: Path | None = None) -> None:
    """Print the case table of a run; people get what was measured first, then why the rest was not.

    The other forms hold every case, for a file has no width.
    """
    from cspbench.views.ratios import ratio_notes
    from cspbench.views.tables import case_low_priority, case_numbers, case_table, reason_groups

    table, numbers = case_table(run), case_numbers()
    notes = [*ratio_notes(run.cases["ratio_of"]), *run.distrust]
    if form != "table" or out is not None:
        emit(table, form, out, numbers, notes=notes)
        return
    timed = table[table["latency_ms"].notna()]
    reasons = reason_groups(run)
    if len(timed):
        emit(timed.drop(columns=[] if len(set(timed["status"])) > 1 else "status"), form, None,
             numbers, case_low_priority(), notes)  # fmt: skip
    if len(timed) and len(reasons):
        say("")
    if len(reasons):
        emit(reasons, form, None)
