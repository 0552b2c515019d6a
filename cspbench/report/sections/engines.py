"""The report's section "Engines": one network on several, layer by layer against the fastest."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cspbench.attribution.api import explain_measured
from cspbench.attribution.engines import LayerComparison, LayerPair, same_network, sentences
from cspbench.errors import InputError
from cspbench.figures.cases import plain
from cspbench.report import numbers
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
    sentences: tuple[str, ...]
    layers: tuple[LayerLine, ...]
    more: int
    command: str


def engine_pairs(runs: Sequence[Run], rows: Sequence[CaseRow]) -> tuple[list[EnginePair], int]:
    """Every slower engine against the fastest one; also how many pairs were left out."""
    pairs: list[EnginePair] = []
    left_out = 0
    for run, a, b in _pairs(runs, rows):
        if len(pairs) >= MAX_PAIRS:
            left_out += 1
            continue
        try:
            compared = explain_measured(run, a.record.case, b.record.case)
        except InputError:  # an analysis of another version
            continue
        if isinstance(compared, LayerComparison):
            pairs.append(_pair(run, a, b, compared))
    return pairs, left_out


def _pairs(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[tuple[Run, CaseRow, CaseRow]]:
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


def _pair(run: Run, a: CaseRow, b: CaseRow, compared: LayerComparison) -> EnginePair:
    cases = (a.record.case, b.record.case)
    return EnginePair(
        network=b.model_id,
        a=a.setting,
        b=b.setting,
        sentences=tuple(numbers.minus(plain(sentence)) for sentence in sentences(compared)),
        layers=tuple(_line(pair) for pair in compared.pairs[:MAX_ROWS]),
        more=max(len(compared.pairs) - MAX_ROWS, 0),
        command=plain(shlex.join(["cspbench", "explain", *cases, "--run", run.path.name])),
    )


def _line(pair: LayerPair) -> LayerLine:
    difference = f"{pair.difference_ms:+.3f}"
    if pair.low is not None and pair.high is not None:
        difference += f" ({pair.low:+.3f} to {pair.high:+.3f})"
    return LayerLine(
        plain(pair.name),
        numbers.minus(f"{pair.a_ms:.3f}"),
        numbers.minus(f"{pair.b_ms:.3f}"),
        numbers.minus(difference),
    )


def data(context: ReportContext) -> Mapping[str, Any]:
    """The pairs that are compared, and how many more there are."""
    pairs, left_out = engine_pairs(context.runs, context.rows)
    return {"engine_pairs": pairs, "engine_pairs_left_out": left_out}


SECTIONS.add(own_section(__file__, 82, "Which layers make an engine slower", data, title="Engines"))
