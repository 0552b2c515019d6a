"""The report's checklist of the paper's claims; there if the runs hold a suite of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cspbench.figures.cases import plain
from cspbench.paper.claims import ClaimResult, check_all, models_of_claims
from cspbench.paper.comparison import VERDICTS, ClaimVerdict
from cspbench.paper.evidence import from_runs, with_analyses
from cspbench.paper.suites import PREFIX, has_paper, is_paper, suite_of
from cspbench.report.section import SECTIONS, ReportContext, own_section

TITLE = "The CSPNet paper on this machine"

#: Sign and class of each verdict: they differ in shape, not only in colour.
SIGNS: dict[ClaimVerdict, tuple[str, str]] = {
    "reproduced": ("✓", "good"),
    "not reproduced": ("✕", "bad"),
    "not distinguishable here": ("≈", "warn"),
    "reconstruction only": ("◐", "note"),
    "not testable here": ("–", "soft"),
}
GROUPS = {
    "computation": "Computation",
    "memory": "Memory and memory traffic",
    "speed": "Speed",
    "accuracy": "Accuracy",
}


class Count(NamedTuple):
    """How many claims have a verdict."""

    verdict: ClaimVerdict
    sign: str
    kind: str
    claims: int
    meaning: str


def data(context: ReportContext) -> Mapping[str, Any]:
    """How many claims have each verdict, and the claims by group."""
    results = check_all(with_analyses(from_runs(context.runs), models_of_claims()))
    return {
        "counts": _counts(results),
        "groups": tuple(
            (title, tuple(_line(result) for result in results if result.claim.group == group))
            for group, title in GROUPS.items()
        ),
    }


def head(context: ReportContext) -> Mapping[str, str]:
    """``title`` and ``lead`` of a page about the paper; empty if it has other runs too."""
    runs = context.stored
    if not all(is_paper(run) for run in runs):
        return {}
    suites = ", ".join(dict.fromkeys(plain(suite_of(run).removeprefix(PREFIX)) for run in runs))
    created = plain(runs[0].stored.meta["created"])[:10]
    return {
        "title": TITLE,
        "lead": f"arXiv 1911.11929 checked on {context.machine}, {created}. Measured: {suites}.",
    }


def _counts(results: Sequence[ClaimResult]) -> tuple[Count, ...]:
    return tuple(
        Count(
            verdict, sign, kind, sum(result.verdict == verdict for result in results),
            VERDICTS[verdict],
        )
        for verdict, (sign, kind) in SIGNS.items()
    )  # fmt: skip


def _line(result: ClaimResult) -> dict[str, Any]:
    """A claim as the page shows it; every text is safe to print."""
    sign, kind = SIGNS[result.verdict]
    claim, outcome = result.claim, result.outcome
    return {
        "name": claim.name, "verdict": result.verdict, "sign": sign, "kind": kind,
        "statement": claim.text, "place": claim.place, "published": outcome.published,
        "here": plain(result.ours), "origin": outcome.origin, "reason": plain(result.reason),
        "note": outcome.note, "rule": f"{outcome.rule[:1].upper()}{outcome.rule[1:]}",
        "used": tuple(plain(one) for one in outcome.used),
    }  # fmt: skip


SECTIONS.add(
    own_section(
        __file__, 14, "The paper, claim by claim", data, name="paper", title="The paper: claims",
        applies=lambda context: has_paper(context.runs),
        style=Path(__file__).with_name("paper.css"), head=head,
    )
)  # fmt: skip
