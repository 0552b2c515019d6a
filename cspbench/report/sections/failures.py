"""Failed and skipped cases: reason, remedy, log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from cspbench.core.statuses import Status
from cspbench.report.data import log_end
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, own_section

REMEDIES: dict[str, str] = {
    Status.FAILED.value: "read the log; the backend refused the model or its outputs were wrong",
    Status.TIMEOUT.value: "raise measure.timeout_seconds, or measure fewer or smaller cases",
    Status.OOM.value: "use a smaller input or batch, or a machine with more memory",
    Status.CRASHED.value: "read the log; try another engine or version of the backend",
    Status.LOST.value: "resume the run when the machine can be reached again",
    Status.INTERRUPTED.value: "finish the run: cspbench run --resume",
    Status.UNSUPPORTED.value: "choose another backend or engine for this model",
    Status.UNAVAILABLE.value: "measure on a machine that has it; this is not a failure",
}


@dataclass(frozen=True)
class Problem:
    """Cases that ended the same way for the same reason."""

    status: str
    outcome: str
    reason: str
    remedy: str
    log: str
    cases: tuple[str, ...]


def problems(rows: Sequence[CaseRow]) -> list[Problem]:
    """Failed cases first, then those that cannot run here; cases of one reason together."""
    groups: dict[tuple[str, str], list[CaseRow]] = defaultdict(list)
    for row in rows:
        if row.outcome != "measured":
            groups[(row.status, row.reason)].append(row)
    listed = [
        Problem(
            status=status,
            outcome=members[0].outcome,
            reason=reason or "no reason was given",
            remedy=REMEDIES[status],
            log=_log(members[0]),
            cases=tuple(row.id for row in members),
        )
        for (status, reason), members in groups.items()
    ]
    return sorted(listed, key=lambda problem: problem.outcome != "failed")


def _log(row: CaseRow) -> str:
    logs = [launch.log for launch in row.record.launches if launch.log]
    return log_end(logs[-1]) if logs else ""


SECTIONS.add(
    own_section(
        __file__, 120, "Failed and skipped cases",
        lambda context: {"problems": problems(context.rows)}, title="Failed, skipped",
        count=lambda context: len(context.rows) - len(context.measured),
        applies=lambda context: len(context.rows) > len(context.measured),
    )
)  # fmt: skip
