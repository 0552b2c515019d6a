"""The report's section "Why": partial networks explained against the plain ones they come from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cspbench.attribution.api import explain_networks
from cspbench.attribution.causes import DifferencePart
from cspbench.attribution.text import measured, sentences
from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.pairs import MOST_OPEN, Pair, first_explained
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, ReportContext, own_section
from cspbench.views.frames import Run

#: More pairs than this are left to the command line.
MAX_PAIRS = 12


@dataclass(frozen=True)
class PartLine:
    """A cause, or a part of the residual, as text."""

    label: str
    a: str
    b: str
    difference: str
    share: str
    residual: bool


@dataclass(frozen=True)
class Why:
    """One pair: A, B, where they ran, what is to be said, and the parts of the difference.

    ``largest`` is the cause with the largest part in the direction of the difference, if any.
    """

    a: str
    b: str
    setting: str
    verdict: str
    sentences: tuple[str, ...]
    parts: tuple[PartLine, ...]
    largest: PartLine | None
    total: PartLine
    command: str


def explanations(runs: Sequence[Run], rows: Sequence[CaseRow]) -> tuple[list[Why], int]:
    """Explain each partial network against its plain one; also how many pairs were left out.

    A pair is of one run, family, input and setting; of several plain networks the one with the
    same neck is taken. Cases that lack layer times or ceilings are in no pair.
    """
    return first_explained(_pairs(runs, rows), MAX_PAIRS, _why)


def _pairs(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[Pair]:
    pairs = []
    for run in runs:
        records = {id(record) for record in run.records if record.layers and record.good}
        same_setting = [
            row
            for row in rows
            if id(row.record) in records and run.ceilings(row.record.case)[1] is not None
        ]
        for row in same_setting:
            bases = [base for base in same_setting if row.is_form_of(base)]
            if bases:
                bases.sort(key=lambda base: base.neck != row.neck)
                pairs.append((run, bases[0], row))
    return pairs


def _why(run: Run, a: CaseRow, b: CaseRow) -> Why:
    cases = (a.record.case, b.record.case)
    it = explain_networks(run, *cases)
    difference = it.difference_ms

    def line(part: DifferencePart) -> PartLine:
        change = part.difference_ms
        share = round(change / difference, 2) + 0.0 if difference else None  # no -0 %
        return PartLine(
            part.label, _ms(part.a_ms), _ms(part.b_ms), numbers.minus(measured(part)),
            numbers.percent(share), part.residual,
        )  # fmt: skip

    latencies = it.a.latency.estimate, it.b.latency.estimate
    total = DifferencePart("", "Latency", *latencies, low=it.low, high=it.high)

    causes = [
        part for part in it.parts if not part.residual and part.difference_ms * difference > 0
    ]
    largest = max(causes, key=lambda part: abs(part.difference_ms), default=None)

    return Why(
        a=a.model_id,
        b=b.model_id,
        setting=b.setting,
        verdict=it.verdict.value,
        sentences=tuple(numbers.minus(plain(sentence)) for sentence in sentences(it)),
        parts=tuple(line(part) for part in it.parts if part.a_ms or part.b_ms),
        largest=line(largest) if largest else None,
        total=line(total),
        command=plain(shlex.join(["cspbench", "explain", *cases, "--run", run.path.name])),
    )


def _ms(value: float) -> str:
    return numbers.minus(f"{value:.3f}")


def data(context: ReportContext) -> Mapping[str, Any]:
    """The pairs that are explained, and how many more there are."""
    pairs, left_out = explanations(context.runs, context.rows)
    return {"explanations": pairs, "explanations_left_out": left_out,
            "most_open": MOST_OPEN}  # fmt: skip


SECTIONS.add(own_section(__file__, 80, "Why one is slower", data))
