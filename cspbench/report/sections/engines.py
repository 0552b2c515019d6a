"""The report's section "Engines": one network on several, layer by layer against the fastest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cspbench.attribution.api import explain_measured
from cspbench.attribution.engines import LayerComparison, LayerPair, same_network, sentences
from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.pairs import MOST_OPEN, Pair, first_explained
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, ReportContext, own_section
from cspbench.views.frames import Run

#: More pairs, and more rows of each, are left to the command line.
MAX_PAIRS, MAX_ROWS = 8, 10


@dataclass(frozen=True)
class LayerLine:
    """Layers of one row as text."""

    name: str
    a: str
    b: str
    difference: str


@dataclass(frozen=True)
class EnginePair:
    """A network on the fastest engine, A, and on another one, B."""

    network: str
    a: str
    b: str
    difference: str
    sentences: tuple[str, ...]
    layers: tuple[LayerLine, ...]
    more: int
    command: str


def engine_pairs(runs: Sequence[Run], rows: Sequence[CaseRow]) -> tuple[list[EnginePair], int]:
    """Every slower engine against the fastest one; also how many pairs were left out."""
    return first_explained(_pairs(runs, rows), MAX_PAIRS, _compared)


def _pairs(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[Pair]:
    found = []
    for run in runs:
        profiled = {id(record) for record in run.records if record.layers and record.good}
        groups: dict[tuple[object, ...], list[CaseRow]] = {}
        for row in rows:
            if id(row.record) in profiled and row.latency_ms is not None:
                place = (row.model_id, row.batch, row.threads, row.board)
                groups.setdefault(place, []).append(row)
        for group in groups.values():
            fastest = min(group, key=lambda row: row.latency_ms or 0.0)
            found += [
                (run, fastest, row)
                for row in group
                if same_network(fastest.record.case, row.record.case)
            ]
    return found


def _compared(run: Run, a: CaseRow, b: CaseRow) -> EnginePair | None:
    cases = (a.record.case, b.record.case)
    compared = explain_measured(run, *cases)
    if not isinstance(compared, LayerComparison):
        return None
    return EnginePair(
        network=b.model_id,
        a=a.setting,
        b=b.setting,
        difference=_ms(compared.difference_ms, compared.low, compared.high),
        sentences=tuple(numbers.minus(plain(sentence)) for sentence in sentences(compared)),
        layers=tuple(_line(pair) for pair in compared.pairs[:MAX_ROWS]),
        more=max(len(compared.pairs) - MAX_ROWS, 0),
        command=plain(shlex.join(["cspbench", "explain", *cases, "--run", run.path.name])),
    )


def _line(pair: LayerPair) -> LayerLine:
    return LayerLine(
        plain(pair.name),
        numbers.minus(f"{pair.a_ms:.3f}"),
        numbers.minus(f"{pair.b_ms:.3f}"),
        _ms(pair.difference_ms, pair.low, pair.high),
    )


def _ms(difference: float, low: float | None, high: float | None) -> str:
    bounds = "" if low is None or high is None else f" ({low:+.3f} to {high:+.3f})"
    return numbers.minus(f"{difference:+.3f}{bounds}")


def data(context: ReportContext) -> Mapping[str, Any]:
    """The pairs that are compared, and how many more there are."""
    pairs, left_out = engine_pairs(context.runs, context.rows)
    return {"engine_pairs": pairs, "engine_pairs_left_out": left_out,
            "most_open": MOST_OPEN}  # fmt: skip


SECTIONS.add(own_section(__file__, 82, "Which layers make an engine slower", data, title="Engines"))
