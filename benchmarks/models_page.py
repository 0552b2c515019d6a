"""Write the tables of docs/models.md: what the zoo has, computed beside published counts.

The prose of the page is written by hand; between ``<!-- table: NAME -->`` and ``<!-- end -->``
are the tables that this script makes. Run it after a change of the zoo:
``python benchmarks/models_page.py``. A test fails while the page is behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from cspbench import literature
from cspbench.analysis.api import analyze_id
from cspbench.models.build import default_input
from cspbench.models.spec import MODELS, NECKS
from cspbench.paper.published_counts import BFLOPS, PARAMS

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
_BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

_PARAMS = tuple(counted.metric for counted in PARAMS)


def _number(value: float) -> str:
    return f"{value:.3f}"


def _computed(name: str, side: int) -> dict[str, float]:
    totals = analyze_id(f"{name}@{side}").totals
    return {counted.metric: totals[counted.total] / counted.unit for counted in (*PARAMS, BFLOPS)}


def _pair(name: str, side: int, metrics: Iterable[str], ours: dict[str, float]) -> list[str]:
    """Published value (or "not found"), ours, and the residual in percent."""
    for metric in metrics:
        entry = literature.find(name, metric, input_side=side)
        if entry is not None:
            value = ours[metric]
            residual = "equal" if entry.agrees(value) else f"{entry.residual(value):+.1%}"
            note = f" ({entry.note})" if entry.note else ""
            return [entry.text or "", _number(value), residual + note]
    value = ours[next(iter(metrics))]
    return [literature.NOT_FOUND, _number(value), ""]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: list[str], body: Iterable[list[str]]) -> str:
    lines = [_row(head), _row("---" for _ in head), *(_row(cells) for cells in body)]
    return "\n".join(lines) + "\n"


_HEAD = [
    "input", "params M: published", "ours", "residual", "BFLOPs: published", "ours", "residual",
]  # fmt: skip


def _cells(name: str, side: int) -> list[str]:
    ours = _computed(name, side)
    return [str(side), *_pair(name, side, _PARAMS, ours), *_pair(name, side, ("bflops",), ours)]


def systems() -> str:
    """A row for each named system."""
    body = []
    for spec in MODELS:
        head = [f"`{spec.name}`", spec.summary, spec.confidence]
        body.append([*head, *_cells(spec.name, spec.input), spec.source])
    return _table(["name", "definition", "label", *_HEAD, "source"], body)


def necks() -> str:
    """A row for each neck."""
    body = [
        [f"`{neck.name}`", neck.summary, neck.confidence, str(neck.scales), neck.source]
        for neck in NECKS
    ]
    return _table(["name", "definition", "label", "features read", "source"], body)


def variants() -> str:
    """Published systems that are options or a neck on a named one."""
    seen: dict[tuple[str, int], None] = {}
    for entry in literature.everything():
        if entry.name and ("+" in entry.name or "[" in entry.name):
            side = entry.input or default_input(entry.name)[0]
            seen[(entry.name, side)] = None
    body = [[f"`{name}`", *_cells(name, side)] for name, side in sorted(seen)]
    return _table(["system", *_HEAD], body)


def timm() -> str:
    """pytorch-image-models beside ours."""
    body = []
    for row in literature.rows("timm"):
        ours = ""
        if row["name"]:
            ours = _number(_computed(row["name"], row["input"])["params_m"])
        gmacs, relation = row["gmacs"], row["relation"] or "not built here"
        body.append([row["label"], str(row["input"]), row["params_m"], ours, gmacs, relation])
    return _table(["timm name", "input", "params M", "ours", "GMACs", "relation"], body)


_TABLES = {"systems": systems, "necks": necks, "variants": variants, "timm": timm}


def rendered(text: str) -> str:
    """The page with its tables made again."""
    return _BLOCK.sub(lambda block: block[1] + _TABLES[block[2]]() + block[3], text)


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text("utf-8")), "utf-8")
