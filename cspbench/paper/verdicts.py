"""The claims of the paper, each held against what was computed and measured here.

A claim is data (:func:`cspbench.literature.claims`); its ``test`` names one of the rules of
:mod:`~cspbench.paper.counts` and :mod:`~cspbench.paper.speeds`, a pure function from
:class:`~cspbench.paper.evidence.Evidence`. :mod:`~cspbench.paper.outcome` says how the verdict
follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench import literature
from cspbench.literature import Claim
from cspbench.paper import counts, speeds
from cspbench.paper.evidence import Evidence
from cspbench.paper.outcome import Outcome, Part, Verdict, combine

if TYPE_CHECKING:
    import pandas as pd

CHECKLIST_COLUMNS = (
    "claim", "verdict", "group", "statement", "published", "here", "origin", "reason", "note",
    "rule", "used", "place",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A claim with its verdict for this machine."""

    claim: Claim
    verdict: Verdict
    ours: str
    reason: str
    outcome: Outcome

    @property
    def text(self) -> str:
        """What we found, or why nothing."""
        return "; ".join(filter(None, (self.ours, self.reason)))


Rule = Callable[[Mapping[str, Any], Evidence], Outcome]


def _none(test: Mapping[str, Any], _evidence: Evidence) -> Outcome:
    """What cspbench cannot check anywhere."""
    return Outcome((Part("", missing=test["reason"]),), "", (), "not checked", "")


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


def check_all(evidence: Evidence) -> list[Finding]:
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


def check(claim: Claim, evidence: Evidence) -> Finding:
    """A claim held against the evidence.

    Raises:
        KeyError: the claim's test names no rule.
    """
    outcome = RULES[claim.test["kind"]](claim.test, evidence)
    verdict, reason = combine(outcome.parts)
    ours = "; ".join(part.ours for part in outcome.parts if part.ours)
    return Finding(claim, verdict, ours, reason, outcome)


def checklist(findings: Sequence[Finding]) -> pd.DataFrame:
    """Findings as a frame: one row a claim, all columns text but ``used``, a list of ids."""
    import pandas as pd

    rows = [
        {
            "claim": finding.claim.name,
            "verdict": finding.verdict,
            "group": finding.claim.group,
            "statement": finding.claim.text,
            "published": finding.outcome.published,
            "here": finding.ours,
            "origin": finding.outcome.origin,
            "reason": finding.reason,
            "note": finding.outcome.note,
            "rule": finding.outcome.rule,
            "used": list(finding.outcome.used),
            "place": finding.claim.place,
        }
        for finding in findings
    ]
    return pd.DataFrame(rows, columns=list(CHECKLIST_COLUMNS))
