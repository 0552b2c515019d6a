"""``--format``: the one way in which any command prints a frame.

Forms: ``table`` (terminal), ``json`` (records), ``csv``, ``md``, ``latex``, ``parquet`` (needs the
``parquet`` extra and a file). Control characters and formula cells of hostile names are made inert.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.files import write_output
from cspbench.core.markdown import markdown
from cspbench.core.text import fixed, printable
from cspbench.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("table", "json", "csv", "md", "parquet", "latex")
#: Those that are text; parquet needs a file.
PRINTED = tuple(form for form in FORMATS if form != "parquet")
#: A number's format that only says how many decimals it has.
_DECIMALS = re.compile(r"\.(\d+)f")
#: Width of a table that goes to a pipe: content is never folded there.
_UNBOUNDED = 1000
#: A table that would miss more columns than this folds its ids first.
_LEFT_OUT_BEFORE_FOLDING = 3
#: A spreadsheet takes a cell that starts with one of these for a formula.
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def csv_cell(value: object) -> object:
    """Put an apostrophe before text that a spreadsheet would take for a formula."""
    if isinstance(value, list):
        value = ";".join(map(str, value))
    if not isinstance(value, str):
        return value
    return f"'{printable(value)}" if value.startswith(_FORMULA_START) else printable(value)


def render(
    frame: pd.DataFrame,
    form: str,
    numbers: dict[str, str] | None = None,
    low_priority: Sequence[str] = (),
) -> str:
    """Return a frame as text.

    Args:
        frame: what to print.
        form: one of PRINTED.
        numbers: column -> format spec (``.1f``) for the forms that people read.
        low_priority: columns that a narrow terminal leaves out first.

    Raises:
        InputError: parquet, which is not text.
    """
    if form == "parquet":
        raise InputError("parquet is not text: name a file with --out")
    if form == "table":
        return text_table(
            frame.to_dict(orient="records"), list(frame.columns), numbers, low_priority
        )
    return _RENDERERS[form](frame, numbers or {})


def noted(text: str, form: str, notes: Sequence[str]) -> str:
    """A rendered frame with sentences below it, in the forms that people read."""
    if form == "md":
        return "\n\n".join((text, *map(markdown, notes)))
    return "\n".join((text, *notes)) if form == "table" else text


def write(frame: pd.DataFrame, form: str, path: Path, notes: Sequence[str] = ()) -> None:
    """Write a frame to a file in any form, with the notes of `noted`.

    Raises:
        InputError: the file cannot be written, or pyarrow is missing.
    """
    if form != "parquet":
        write_text(noted(render(frame, form), form, notes), path)
        return
    content = io.BytesIO()
    try:
        frame.to_parquet(content, index=False)
    except ImportError:
        raise InputError("parquet needs pyarrow: pip install pyarrow") from None
    write_output(path, content.getvalue())


def write_text(text: str, path: Path) -> None:
    """Write a text and a line end to a file.

    Raises:
        InputError: the file cannot be written.
    """
    write_output(path, f"{text}\n")


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain JSON values; what is missing is None."""
    return [
        {str(key): _plain(value) for key, value in row.items()}
        for row in frame.to_dict(orient="records")
    ]


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _readable(
    rows: Sequence[Mapping[Any, Any]], columns: Sequence[Any], numbers: dict[str, str], missing: str
) -> list[list[str]]:
    """Cells as text: numbers by their format, lists joined, missing values as ``missing``."""

    def text(column: str, value: Any) -> str:
        value = _plain(value)
        if value is None or value == "":
            return missing
        if isinstance(value, list):
            return printable(", ".join(map(str, value))) or missing
        if isinstance(value, (int, float)) and not isinstance(value, bool) and column in numbers:
            # Pandas makes floats of whole numbers where one of the column is missing.
            spec = numbers[column]
            if decimals := _DECIMALS.fullmatch(spec):
                return fixed(value, int(decimals[1]))
            return format(int(value) if spec.endswith("d") else value, spec)
        return printable(str(value))

    return [[text(str(column), row[column]) for column in columns] for row in rows]


def text_table(
    rows: Sequence[Mapping[Any, Any]],
    columns: Sequence[Any],
    numbers: dict[str, str] | None = None,
    low_priority: Sequence[str] = (),
) -> str:
    """A table that fits the terminal; in a pipe or a log it is as wide as its content.

    A terminal that is too narrow shows fewer columns and says which are missing. ``numbers`` and
    ``low_priority`` as in `render`; nothing here needs pandas, whose import takes half a second.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from cspbench.views.table_width import GAP, fold_id, least_width, shown_columns

    # Without colours: no text that a renderer returns may hold a sequence of a terminal.
    console = Console(color_system=None)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(color_system=None, width=_UNBOUNDED)
    numbers, names = numbers or {}, [printable(str(column)) for column in columns]
    cells = _readable(rows, columns, numbers, "-")
    by_column = [list(column) for column in zip(names, *cells, strict=True)]
    folds = [index > 0 and name not in numbers for index, name in enumerate(names)]
    last = [names.index(name) for name in low_priority if name in names]
    kept = shown_columns(by_column, folds, console.width, last)
    if len(names) - len(kept) > _LEFT_OUT_BEFORE_FOLDING:
        by_column[0] = [fold_id(cell) for cell in by_column[0]]
        kept = shown_columns(by_column, folds, console.width, last)
    # Gaps are columns, since older versions of rich count padding into the least width.
    table = Table(box=None, padding=0)
    for index in kept:
        if index:
            table.add_column(width=GAP)
        table.add_column(
            Text(names[index]),
            justify="right" if names[index] in numbers else "left",
            no_wrap=not folds[index],
            overflow="fold",
            min_width=least_width(by_column[index], folds=folds[index]),
        )
    for row in list(zip(*by_column, strict=True))[1:]:
        table.add_row(*[part for index in kept for part in ("", Text(row[index]))][1:])
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    if missing := [name for index, name in enumerate(names) if index not in kept]:
        lines.append(f"(too narrow for {', '.join(missing)}; --format md shows all)")
    return "\n".join(lines)


def _json(frame: pd.DataFrame, numbers: dict[str, str]) -> str:  # noqa: ARG001 - exact values
    return json.dumps(records(frame), indent=1, allow_nan=False)


def _csv(frame: pd.DataFrame, numbers: dict[str, str]) -> str:  # noqa: ARG001 - exact values
    return str(frame.map(csv_cell).to_csv(index=False)).rstrip("\n")


def _markdown(frame: pd.DataFrame, numbers: dict[str, str]) -> str:
    from tabulate import tabulate

    rows = [
        [markdown(cell) for cell in row]
        for row in _readable(frame.to_dict(orient="records"), list(frame.columns), numbers, "")
    ]
    headers = [markdown(str(column)) for column in frame.columns]
    align = ["right" if column in numbers else "left" for column in frame.columns]
    return str(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align))


def _latex(frame: pd.DataFrame, numbers: dict[str, str]) -> str:
    from tabulate import tabulate

    headers = [str(column) for column in frame.columns]
    rows = _readable(frame.to_dict(orient="records"), list(frame.columns), numbers, "")
    return str(tabulate(rows, headers, tablefmt="latex_booktabs", disable_numparse=True))


_RENDERERS: dict[str, Callable[[pd.DataFrame, dict[str, str]], str]] = {
    "json": _json,
    "csv": _csv,
    "md": _markdown,
    "latex": _latex,
}
