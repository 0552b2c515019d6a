"""Markdown of a gate: a GitHub step summary, or a comment under 60 kB.

The worst cases come first, and good ones are folded.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

from cspbench.core.markdown import code, markdown
from cspbench.core.text import number_of
from cspbench.gating.render.text import SIGNS, change_text, elapsed_text, ms_text, range_text
from cspbench.gating.report import GateReport
from cspbench.gating.verdict import CaseVerdict, Verdict

#: A comment on GitHub may have 65,536 characters; this leaves room for what callers add.
MAX_BYTES = 60_000
#: Rows outside of the fold.
OPEN_ROWS = 20
#: A later run finds its own comment by this marker.
MARKER = "<!-- cspbench gate -->"
_GOOD = (Verdict.SAME, Verdict.FASTER)


def markdown_of(report: GateReport, max_bytes: int = MAX_BYTES) -> str:
    """Render a gate.

    If the rows do not all fit, the best cases are left out and counted.
    """
    rows = report.sorted

    def render(keep: int) -> str:
        return _render(report, rows[:keep], len(rows) - keep)

    def too_long(keep: int) -> bool:
        return len(render(keep).encode()) > max_bytes

    # The most rows that fit: the first number that is too long, less one.
    keep = bisect.bisect_left(range(len(rows) + 1), True, key=too_long) - 1
    whole = render(max(keep, 0)).encode()
    if len(whole) > max_bytes:  # at a line's end: half of a code span would be alive
        whole = whole[: whole.rfind(b"\n", 0, max_bytes) + 1]
    return whole.decode()


def _render(report: GateReport, rows: Sequence[CaseVerdict], left_out: int) -> str:
    bad = [row for row in rows if row.verdict not in _GOOD]
    shown = bad[:OPEN_ROWS]
    folded = rows[len(shown) :]
    parts = [
        MARKER,
        f"### {markdown(report.headline)}",
        _subtitle(report),
    ]
    if report.suite_changes:
        lines = [f"- {markdown(change)}" for change in report.suite_changes[:OPEN_ROWS]]
        parts.append(f"**{markdown(report.suite_headline.capitalize())}**\n\n" + "\n".join(lines))
    if shown:
        parts.append(_table(shown))
        parts.append("\n".join(f"- {code(row.case)}: {markdown(row.sentence)}" for row in shown))
    blocked = [change for change in report.static if change.blocked]
    if blocked:
        lines = [f"- {code(c.model)}: {markdown(c.sentence)}" for c in blocked[:OPEN_ROWS]]
        parts.append("**Blocked by the static gate**\n\n" + "\n".join(lines))
    if folded:
        parts.append(_fold(f"{len(folded)} more cases", _table(folded)))
    if left_out:
        parts.append(f"{left_out} more cases do not fit here; see the artifacts of this job.")
    parts += _details(report)
    return "\n\n".join(parts) + "\n"


def _subtitle(report: GateReport) -> str:
    return (
        f"{code(report.suite)}: head {code(report.head)} against base {code(report.base)}, "
        f"{report.seconds:.0f} s, method: {markdown(report.method)}"
    )


def _details(report: GateReport) -> list[str]:
    parts = []
    allowed = [change for change in report.static if not change.blocked]
    if allowed:
        lines = [f"- {code(c.model)}: {markdown(c.sentence)}" for c in allowed[:OPEN_ROWS]]
        parts.append(_fold(f"{len(allowed)} static changes within the rules", "\n".join(lines)))
    if report.skipped:
        lines = [
            f"- {code(s.case)}: {markdown(s.status)}: {markdown(s.reason)}"
            for s in report.skipped[:OPEN_ROWS]
        ]
        parts.append(_fold(f"{len(report.skipped)} cases not gated", "\n".join(lines)))
    if report.differences:
        lines = ["| fact | base | head |", "| --- | --- | --- |"]
        lines += [
            f"| {markdown(name)} | {markdown(str(old))} | {markdown(str(new))} |"
            for name, (old, new) in list(report.differences.items())[:50]
        ]
        parts.append(_fold("Differences between the sides", "\n".join(lines)))
    notes = [*report.notes[:OPEN_ROWS]]
    if len(report.notes) > OPEN_ROWS:
        notes.append(f"and {number_of(len(report.notes) - OPEN_ROWS, 'more note')}")
    if report.null is not None:
        notes.insert(0, f"{report.null.case}: {report.null.sentence}")
    if notes:
        parts.append("\n".join(f"- {markdown(note)}" for note in notes))
    return parts


def _table(rows: Sequence[CaseVerdict]) -> str:
    beside = any(map(elapsed_text, rows))
    lines = [
        f"| verdict | case | change | 95 % interval |{' elapsed |' * beside} base ms | head ms |",
        f"| --- | --- | ---: | ---: |{' ---: |' * beside} ---: | ---: |",
    ]
    lines += [
        f"| {SIGNS[row.verdict]} {row.verdict} | {code(row.case)} | {change_text(row)} | "
        f"{range_text(row)} |{f' {elapsed_text(row)} |' * beside} {ms_text(row.base_ms)} | "
        f"{ms_text(row.head_ms)} |"
        for row in rows
    ]
    return "\n".join(lines)


def _fold(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"
