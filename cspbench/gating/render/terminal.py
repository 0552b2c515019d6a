"""Tables of a gate, in any ``--format``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.core.output import say, show
from cspbench.gating.render.text import SIGNS, change_text, elapsed_text, range_text
from cspbench.gating.static import CHANGED_LAYERS
from cspbench.views.formats import render

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.gating.report import GateReport
    from cspbench.gating.selftest import SelfTest

NUMBERS = {"base_ms": ".3f", "head_ms": ".3f", "generations": "d", "seconds": ".0f"}


def print_report(report: GateReport, form: str) -> None:
    """Print the verdicts; as a table also static changes, measured rules and notes."""
    frame = _terminal_frame(report) if form == "table" else verdict_frame(report)
    if len(frame) or form != "table":
        show(render(frame, form, NUMBERS), headed=form == "table")
    if form != "table":
        return
    for verdict in report.sorted:
        say(f"{SIGNS[verdict.verdict]} {verdict.case}: {verdict.sentence}")
    for sentence in report.suite_changes:
        say(f"suite: {sentence}")
    for change in report.static:
        sign = "blocked" if change.blocked else "static"
        text = change.sentence if change.metric == CHANGED_LAYERS else change.short
        say(f"{sign}: {change.model}: {text}")
    for measured in report.measured:
        say(f"{measured.job}: {measured.case}: {measured.sentence}")
    for skipped in report.skipped:
        say(f"not gated: {skipped.case}: {skipped.status}: {skipped.reason}")
    if report.null is not None:
        say(f"{report.null.case}: {report.null.sentence}")
    for note in report.notes:
        say(f"note: {note}")
    say(f"{report.headline}, {report.seconds:.0f} s")


def verdict_frame(report: GateReport) -> pd.DataFrame:
    """One row a case, worst first; the columns are those of a verdict in docs/gate.md."""
    import pandas as pd

    columns = ["case", "verdict", "reason", "ratio", "ratio_low", "ratio_high", "base_ms",
               "head_ms", "generations", "seconds", "ratio_of", "elapsed_ratio",
               "sentence"]  # fmt: skip
    return pd.DataFrame(report.rows(), columns=columns)


def _terminal_frame(report: GateReport) -> pd.DataFrame:
    import pandas as pd

    rows = [
        (v.case, f"{SIGNS[v.verdict]} {v.verdict}", change_text(v), range_text(v), elapsed_text(v),
         v.base_ms, v.head_ms, v.seconds)
        for v in report.sorted
    ]  # fmt: skip
    columns = ["case", "verdict", "change", "95 % interval", "elapsed", "base_ms", "head_ms",
               "seconds"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=columns)
    return frame if any(frame["elapsed"]) else frame.drop(columns="elapsed")


def print_self_test(result: SelfTest, form: str) -> None:
    """Print one row for each injected slowdown, then sentences on the whole."""
    import pandas as pd

    frame = pd.DataFrame(result.rows())
    numbers = {"injected": ".1f", "found": ".0f", "gates": ".0f"}
    show(render(frame, form, numbers), headed=form == "table")
    if form == "table":
        for sentence in result.sentences():
            say(sentence)
