"""GitHub annotations: workflow commands that put verdicts beside the suite in a pull request."""

from __future__ import annotations

from cspbench.core.text import printable
from cspbench.gating.report import GateReport
from cspbench.gating.verdict import WAITS_MORE, Verdict

_LEVELS = {
    Verdict.SLOWER: "error",
    Verdict.UNMEASURED: "error",
    Verdict.UNTRUSTED: "warning",
    Verdict.INCONCLUSIVE: "warning",
}
#: GitHub shows ten annotations of each level in a step. The summary holds the others.
MAX_EACH = 10


def annotations_of(report: GateReport, suite_file: str) -> list[str]:
    """Workflow commands: verdicts with a level, worst first; changes of the suite; the result."""
    lines: list[str] = []
    for verdict in report.sorted:
        level = "error" if verdict.reason == WAITS_MORE else _LEVELS.get(verdict.verdict)
        if level is None or sum(line.startswith(f"::{level} ") for line in lines) >= MAX_EACH:
            continue
        title = _property(f"{verdict.verdict}: {verdict.case}")
        lines.append(
            f"::{level} file={_property(suite_file)},title={title}::{_data(verdict.sentence)}"
        )
    title = _property(report.suite_headline)
    lines += [
        f"::warning file={_property(suite_file)},title={title}::{_data(change)}"
        for change in report.suite_changes[:MAX_EACH]
    ]
    lines.append(f"::notice title=cspbench gate::{_data(report.headline)}")
    return lines


def _data(text: str) -> str:
    return printable(text).replace("%", "%25")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
