"""Words and numbers that all outputs of a gate share."""

from __future__ import annotations

from cspbench.gating.verdict import CaseVerdict, Verdict
from cspbench.store.blocks import RUNNING

#: A sign for each verdict, so that none depends on colour.
SIGNS = {
    Verdict.SLOWER: "▲",
    Verdict.UNMEASURED: "∅",
    Verdict.UNTRUSTED: "?",
    Verdict.INCONCLUSIVE: "~",
    Verdict.FASTER: "▼",
    Verdict.SAME: "=",
}


def change_text(verdict: CaseVerdict) -> str:
    """``+5.1 %``, or nothing."""
    return _change(verdict.ratio)


def elapsed_text(verdict: CaseVerdict) -> str:
    """The same of elapsed time where the change is of running time, or nothing."""
    return _change(verdict.elapsed_ratio) if verdict.ratio_of == RUNNING else ""


def _change(ratio: float | None) -> str:
    return "" if ratio is None else f"{(ratio - 1) * 100:+.1f} %"


def range_text(verdict: CaseVerdict) -> str:
    """``+4.0 to +6.2 %``, or nothing."""
    if verdict.ratio_low is None or verdict.ratio_high is None:
        return ""
    low, high = ((bound - 1) * 100 for bound in (verdict.ratio_low, verdict.ratio_high))
    return f"{low:+.1f} to {high:+.1f} %"


def ms_text(value: float | None) -> str:
    """``4.21``, or nothing."""
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
