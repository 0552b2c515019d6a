"""The HTML report: one self-contained file, whole without its script, made from stored runs."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup

import cspbench
from cspbench.core.files import write_whole
from cspbench.core.statuses import FLAGS
from cspbench.errors import InputError
from cspbench.figures.cases import plain
from cspbench.figures.published import published_values
from cspbench.fleet.views import by_board
from cspbench.report import machine, marks, numbers
from cspbench.report.boards import across
from cspbench.report.data import page_data, published_accuracies, to_script
from cspbench.report.definitions import (
    DEFINITIONS,
    ORIGIN_SYMBOLS,
    ORIGIN_TEXTS,
    Definition,
)
from cspbench.report.explained import explanations
from cspbench.report.paper import has_paper, heading, paper_part
from cspbench.report.plots import draw_all
from cspbench.report.profiles import energy, profiles
from cspbench.report.roofline import roofline
from cspbench.report.rows import CaseRow, case_rows
from cspbench.report.sections import ablation, balance, memory, problems, speed_classes
from cspbench.report.summary import summary
from cspbench.store.rundir import without_collections

if TYPE_CHECKING:
    import jinja2

    from cspbench.views.frames import Run

TEMPLATES = Path(__file__).with_name("templates")


#: Places after which a line may break in an id.
_SIGNS = re.compile(r"(?<=[\[\],@+/])(?=.)|(?<=\.)(?=[a-z])")


class Column(NamedTuple):
    """A column of the case table: its title, what it is sorted by, its definition."""

    title: str
    key: str = ""
    definition: Definition | None = None
    kind: str = "num"


COLUMNS = (
    Column("Network", "model_id", kind=""),
    Column("Backend", "backend", kind=""),
    Column("Latency, ms", "latency_ms", DEFINITIONS["latency_ms"]),
    Column("±95 %", "half_width", DEFINITIONS["interval"]),
    Column("Launches", "", DEFINITIONS["spread"], ""),
    Column("fps", "fps", DEFINITIONS["fps"]),
    Column("p90, ms", "p90_ms", DEFINITIONS["p90_ms"]),
    Column("BFLOPs", "bflops", DEFINITIONS["bflops"]),
    Column("Params, M", "params_m", DEFINITIONS["params_m"]),
    Column("Accuracy, %", "accuracy", DEFINITIONS["accuracy"]),
    Column("Status", "status", kind=""),
)


class Filter(NamedTuple):
    """A choice above the case table."""

    name: str
    key: str
    choices: list[str]


class Tile(NamedTuple):
    """A number of the summary."""

    name: str
    value: str
    of: str = ""


def write_report(runs: Sequence[Run], path: Path) -> Path:
    """Write the report of ``runs`` as one HTML file and return its path.

    Raises:
        InputError: no runs, or the file cannot be written.
    """
    if not runs:
        raise InputError("a report needs at least one run")
    with without_collections():  # they would look through all samples again and again
        page = render(runs, path.stem)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, page.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return path


def render(runs: Sequence[Run], stem: str = "report") -> str:
    """The report as HTML text; the same runs give the same text."""
    stored, runs = runs, [view for run in runs for view in by_board(run)]
    rows = case_rows(runs)
    boards = across(runs, rows)
    pairs, left_out = explanations(runs, rows)
    css, script = _asset("report.css") + _asset("paper.css"), _asset("report.js")
    view = {
        **_header(stored, rows),
        "many_runs": len(runs) > 1,
        "boards": boards,
        "css": Markup(css),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "policy": content_security_policy(script, css),
        "data": Markup(to_script(page_data(runs, rows, plain(stem)))),  # noqa: S704 - escaped
        "file_stem": plain(stem),
        "sentences": summary(rows, published_values("ap50_pct")),
        "tiles": _tiles(rows),
        "findings": machine.findings(runs),
        "machines": [_machine(run) for run in runs],
        "columns": COLUMNS,
        "filters": _filters(rows),
        "rows": _table_rows(rows),
        "classes": speed_classes(rows, published_values("ap50_pct")),
        "ablation": ablation(rows),
        "balance": balance(runs, rows),
        "profiles": profiles(runs, rows),
        "energy": energy(rows),
        "roofline": roofline(runs, rows),
        "memory": memory(rows),
        "problems": problems(rows),
        "csv": csv_address(stored),
        "paper": paper_part(runs),
        "definitions": DEFINITIONS,
        "symbols": ORIGIN_SYMBOLS,
        "origin_texts": ORIGIN_TEXTS,
        "explanations": pairs,
        "explanations_left_out": left_out,
        **draw_all(runs),
    }
    return _environment().get_template("report.html").render(view)


def content_security_policy(script: str, css: str) -> str:
    """Nothing may be loaded; only this script and this style sheet may work."""
    return (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(css)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    return environment


@functools.lru_cache(maxsize=10_000)  # an id stands in several tables
def breakable(text: str) -> Markup:
    """Escape an id and let lines break after its signs, not inside its words."""
    return Markup("<wbr>").join(_SIGNS.split(text))


def _header(runs: Sequence[Run], rows: Sequence[CaseRow]) -> dict[str, Any]:
    first = runs[0].stored.meta
    boards = first["environment"].get("boards")
    where = f"{len(boards)} boards" if boards else "an unknown processor"
    cpu = plain(first["environment"].get("cpu") or where)
    names = ", ".join(plain(run.name) for run in runs)
    about = plain(first["suite"]["description"]) or f"suite {plain(first['suite']['name'])}"
    measured = sum(row.outcome == "measured" for row in rows)
    heads = heading(runs, cpu)
    paper = [("paper", "The paper: claims", None), ("paper-tables", "The paper: tables", None)]
    return {
        "title": names if len(runs) > 1 else plain(first["suite"]["name"]),
        "lead": f"{about[:1].upper()}{about[1:]}. {cpu}, {plain(first['created'])[:10]}. "
        f"Run {names}.",
        "lead_runs": f"run {names}" if len(runs) == 1 else f"{len(runs)} runs",
        "version": cspbench.__version__,
        "sections": [
            ("summary", "What it says", None),
            *(paper if has_paper(runs) else []),
            ("machine", "Machine", None),
            ("cases", "Cases", measured),
            *([("boards", "Across boards", None)] * any(row.board for row in rows)),
            ("accuracy", "Speed and accuracy", None),
            ("ablation", "γ and fusion", None),
            ("layers", "Layers", None),
            ("explain", "Why one is slower", None),
            ("roofline", "Roofline", None),
            ("memory", "Memory", None),
            ("energy", "Energy", None),
            ("failures", "Failed, skipped", len(rows) - measured),
            ("method", "Method notes", None),
            ("data", "Raw data", None),
        ],
        **heads,
    }


def _tiles(rows: Sequence[CaseRow]) -> list[Tile]:
    measured = [row for row in rows if row.outcome == "measured"]
    widths = [row.half_width for row in measured if row.half_width is not None]
    tiles = [
        Tile("cases measured", str(len(measured)), f"of {len(rows)}"),
        Tile("launches", str(sum(row.launches for row in rows))),
        Tile("samples", f"{sum(row.samples for row in rows):,}".replace(",", "\u202f")),
        Tile("median interval", numbers.plus_minus(median(widths) if widths else None)),
        Tile("flagged", str(sum(bool(row.flags) for row in measured))),
        Tile("cannot run here", str(sum(row.outcome == "skipped" for row in rows))),
        Tile("unfinished", str(sum(row.outcome == "unfinished" for row in rows))),
        Tile("failed", str(sum(row.outcome == "failed" for row in rows))),
    ]
    optional = ("median interval", "cannot run here", "unfinished")
    return [tile for tile in tiles if tile.name not in optional or tile.value not in ("0", "–")]


def _machine(run: Run) -> dict[str, Any]:
    meta = run.stored.meta
    measure = meta["suite"]["measure"]
    settings = [(plain(name).replace("_", " "), plain(value)) for name, value in measure.items()]
    return {
        "name": plain(run.name),
        "facts": machine.facts(run),
        "libraries": machine.libraries(run),
        "settings": [
            ("suite", plain(meta["suite"]["path"] or meta["suite"]["name"])),
            *settings,
            *((f"{backend} ran", text) for backend, text in machine.engines([run])),
        ],
    }


def _filters(rows: Sequence[CaseRow]) -> list[Filter]:
    def choices(values: Sequence[str]) -> list[str]:
        return sorted(set(values) - {""})

    return [
        Filter("Backend", "backend", choices([row.backend for row in rows])),
        Filter("Family", "family", choices([row.family for row in rows])),
        Filter(
            "γ",
            "gamma",
            choices([row.gamma for row in rows]),
        ),
        Filter("Status", "status", choices([row.status for row in rows])),
        Filter("Run", "run", choices([row.run for row in rows])),
    ]


def _table_rows(rows: Sequence[CaseRow]) -> list[dict[str, Any]]:
    largest = max((row.fps for row in rows if row.fps is not None), default=0.0)
    accuracies = published_accuracies(rows)
    return [_table_row(row, accuracies.get(row.model_id), largest) for row in rows]


def _table_row(row: CaseRow, accuracy: str | None, largest_fps: float) -> dict[str, Any]:
    params = row.total("params")
    extra = [f"batch {row.batch}"] * (row.batch != 1) + [f"{row.threads} threads"] * (
        row.threads != 1
    )
    return {
        "index": row.index,
        "outcome": row.outcome,
        "run": row.run,
        "model_id": row.model_id,
        "backend": row.backend,
        "extra": ", ".join(extra),
        "latency": numbers.milliseconds(row.latency_ms),
        "plus_minus": numbers.plus_minus(row.half_width),
        "spread": _spread(row),
        "fps": numbers.short(row.fps),
        "fps_bar": "" if row.fps is None else marks.bar(row.fps, largest_fps),
        "p90": numbers.milliseconds(row.p90_ms),
        "bflops": numbers.fixed(row.total("bflops"), 3),
        "params": numbers.fixed(None if params is None else params / 1e6, 3),
        "accuracy": accuracy or numbers.MISSING,
        "status": row.status,
        "flags": [FLAGS[flag] for flag in row.flags],
    }


def _spread(row: CaseRow) -> Markup | str:
    if row.latency_ms is None:
        return ""
    return marks.spread(row.latency_ms, row.latency_low, row.latency_high, row.launch_medians_ms)


def csv_address(runs: Sequence[Run]) -> str:
    """The case tables of all runs as a ``data:`` address, for a download without a script."""
    import pandas as pd

    from cspbench.views.formats import render as render_frame

    frames = [run.cases.assign(run=run.name) for run in runs]
    text = render_frame(pd.concat(frames, ignore_index=True), "csv")
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return f"data:text/csv;charset=utf-8;base64,{encoded}"
