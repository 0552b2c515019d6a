"""What changed between two runs: a quotient of two separate latencies, and what it decides."""

from __future__ import annotations

from typing import Literal

from cspbench.measure.statistics import BETWEEN_RUNS_SD, Interval, quotient

#: How far two separate runs of the same code on one machine lie apart in 95 of 100 cases, beyond
#: what their intervals show: a change within it is none.
ALLOWANCE = round(1.96 * BETWEEN_RUNS_SD, 3)

Decision = Literal["worse", "better", "same", "undecided"]


def change(base: Interval | None, head: Interval | None) -> Interval | None:
    """Head / base of two latencies; None where one is missing."""
    return quotient(head, base) if base and head else None


def decide(ratio: Interval, allowance: float = ALLOWANCE) -> Decision:
    """What a ratio says: the whole interval beyond the allowance, or within it."""
    if ratio.low is None or ratio.high is None:
        return "undecided"
    most = 1 + allowance
    if ratio.low > most:
        return "worse"
    if ratio.high < 1 / most:
        return "better"
    return "same" if ratio.low >= 1 / most and ratio.high <= most else "undecided"
