"""The claims of the paper, each checked against what was computed and measured here.

A claim is data (:func:`cspbench.literature.claims`); its ``test`` names one of the rules of
:mod:`~cspbench.paper.counts` and :mod:`~cspbench.paper.speeds`, a pure function from
:class:`~cspbench.paper.evidence.Evidence`. :mod:`~cspbench.paper.comparison` says how the verdict
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench import literature
from cspbench.literature import Claim
from cspbench.paper import counts, speeds
from cspbench.paper.comparison import ClaimVerdict, Comparison, RuleResult, combine
from cspbench.paper.evidence import Evidence

if TYPE_CHECKING:
    import pandas as pd

CHECKLIST_COLUMNS = (
    "claim", "verdict", "group", "statement", "published", "here", "origin", "reason", "note",
    "rule", "used", "place",
)  # fmt: skip


@dataclass(frozen=True)
class ClaimResult:
    """A claim with its verdict for this machine."""

    claim: Claim
    verdict: ClaimVerdict
    ours: str
    reason: str
    outcome: RuleResult

    @property
    def text(self) -> str:
        """Our numbers as text, or why there are none."""
        return "; ".join(filter(None, (self.ours, self.reason)))


Rule = Callable[[Mapping[str, Any], Evidence], RuleResult]


def _none(test: Mapping[str, Any], _evidence: Evidence) -> RuleResult:
    """What cspbench cannot check anywhere."""
    return RuleResult((Comparison("", missing=test["reason"]),), "", (), "not checked", "")


#: Rules that need analyses.
COMPUTED: Mapping[str, Rule] = {
    "change": counts.change,
    "at_least": counts.at_least,
    "count": counts.count,
    "block_traffic": counts.block_traffic,
}
RULES: Mapping[str, Rule] = {
    **COMPUTED,
    "faster": speeds.faster,
    "ratio": speeds.ratio,
    "order": speeds.order,
    "none": _none,
}


def check_all(evidence: Evidence) -> list[ClaimResult]:
    """Every claim of the paper with its verdict, in the paper's order."""
    return [check(claim, evidence) for claim in literature.claims()]


def models_of_claims() -> list[str]:
    """Ids of the networks whose analyses the claims need."""
    models: list[str] = []
    for claim in literature.claims():
        if claim.test["kind"] in COMPUTED:
            used = RULES[claim.test["kind"]](claim.test, Evidence()).used
            models += used
    return list(dict.fromkeys(models))


def check(claim: Claim, evidence: Evidence) -> ClaimResult:
    """A claim checked against the evidence.

    Raises:
        KeyError: the claim's test names no rule.
    """
    outcome = RULES[claim.test["kind"]](claim.test, evidence)
    verdict, reason = combine(outcome.parts)
    ours = "; ".join(part.ours for part in outcome.parts if part.ours)
    return ClaimResult(claim, verdict, ours, reason, outcome)


def checklist(results: Sequence[ClaimResult]) -> pd.DataFrame:
    """Findings as a frame: one row a claim, all columns text but ``used``, a list of ids."""
    import pandas as pd

    rows = [
        {
            "claim": result.claim.name,
            "verdict": result.verdict,
            "group": result.claim.group,
            "statement": result.claim.text,
            "published": result.outcome.published,
            "here": result.ours,
            "origin": result.outcome.origin,
            "reason": result.reason,
            "note": result.outcome.note,
            "rule": result.outcome.rule,
            "used": list(result.outcome.used),
            "place": result.claim.place,
        }
        for result in results
    ]
    return pd.DataFrame(rows, columns=list(CHECKLIST_COLUMNS))
