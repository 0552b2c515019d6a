"""What checking a claim gives: parts that agree or not, and the verdict that follows from them.

1. A part on networks with firm definitions (confirmed, solved) that disagrees settles it: *not
   reproduced*.
2. If anything that the claim needs is missing: *not testable here*, with the reason.
3. If a network's definition is searched or open: *reconstruction only*. The reason still says
   whether our reconstruction agrees.
4. If a difference lies within the interval: *not distinguishable here*.
5. Else *reproduced*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cspbench.measure.statistics import Interval
from cspbench.store.blocks import SEPARATE

ClaimVerdict = Literal[
    "reproduced", "not reproduced", "not distinguishable here", "not testable here",
    "reconstruction only",
]  # fmt: skip
VERDICTS: Mapping[ClaimVerdict, str] = {
    "reproduced": "what we computed or measured here agrees with the paper",
    "not reproduced": "what we computed or measured here disagrees with the paper",
    "not distinguishable here": "the difference lies within the 95 % interval",
    "not testable here": "something that the claim needs is missing; the reason is given",
    "reconstruction only": "the claim was checked on a network whose definition was searched or is "
    "open, which speaks neither for nor against the paper",
}


@dataclass(frozen=True)
class Comparison:
    """One comparison of a claim.

    ``agrees`` is None where the interval does not show it; ``weak`` names the networks in it whose
    definitions are searched or open; ``missing`` says why there is no comparison at all.
    """

    ours: str
    agrees: bool | None = None
    weak: tuple[str, ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class RuleResult:
    """The result of a rule: the parts, and what stands beside them in print.

    ``published`` is the paper's number as text, ``used`` the networks or cases that were compared,
    ``rule`` how the verdict follows, ``note`` anything a reader must know.
    """

    parts: tuple[Comparison, ...]
    published: str
    used: tuple[str, ...]
    rule: str
    origin: Literal["computed", "measured", ""] = "computed"
    note: str = ""


def combine(parts: Sequence[Comparison]) -> tuple[ClaimVerdict, str]:
    """Verdict of a claim's parts (see the module), and its reason in a phrase."""
    compared = [part for part in parts if not part.missing]
    if any(not part.weak and part.agrees is False for part in compared):
        return "not reproduced", ""
    missing = list(dict.fromkeys(part.missing for part in parts if part.missing))
    if missing:
        return "not testable here", "; ".join(missing)
    weak = dict.fromkeys(name for part in compared for name in part.weak)
    if weak:
        return "reconstruction only", f"{_agreement(compared)} ({', '.join(weak)})"
    if any(part.agrees is None for part in compared):
        return "not distinguishable here", ""
    return "reproduced", ""


def _agreement(parts: Sequence[Comparison]) -> str:
    if any(part.agrees is False for part in parts):
        return "our reconstruction does not agree"
    if any(part.agrees is None for part in parts):
        return "the interval does not show whether our reconstruction agrees"
    return "our reconstruction agrees"


@dataclass(frozen=True)
class SpeedRatio(Interval):
    """A ratio of speeds; one that is not ``in_turn`` is of two separate latencies, and weaker.

    One of a run whose reference differs from itself is not ``trusted``, and has no bounds.
    """

    in_turn: bool
    trusted: bool = True


def times(ratio: SpeedRatio) -> str:
    """``×1.40 (1.35 to 1.46)``; a single launch has no interval."""
    bounds = "no interval" if ratio.trusted else "not trusted"
    if ratio.low is not None and ratio.high is not None:
        bounds = f"{ratio.low:.2f} to {ratio.high:.2f}"
    return f"×{ratio.estimate:.2f} ({bounds}{'' if ratio.in_turn else f', {SEPARATE}'})"


def short_name(model: str) -> str:
    """A model id without its input."""
    return model.partition("@")[0]
