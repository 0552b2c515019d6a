"""Verdicts: what the decisions of all cases together mean, in a word, a code and a sentence.

Pure: decisions in, verdicts out. What a gate may say is a closed list, so that people and programs
can rely on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from cspbench.core.statuses import ExitCode
from cspbench.core.text import percent as share_text
from cspbench.gating.decide import Decision, Finding, confirmed, moving_alike


class Verdict(str, Enum):
    """What the gate says of one case."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    UNMEASURED = "unmeasured"
    UNTRUSTED = "untrusted"
    INCOMPARABLE = "incomparable"

    def __str__(self) -> str:
        return self.value


#: Verdicts from worst to best: the order of every output.
WORST_FIRST = (
    Verdict.INCOMPARABLE,
    Verdict.SLOWER,
    Verdict.UNMEASURED,
    Verdict.UNTRUSTED,
    Verdict.INCONCLUSIVE,
    Verdict.FASTER,
    Verdict.SAME,
)

#: Reason code -> what it means. Each verdict carries one.
REASONS: dict[str, str] = {
    "confirmed": "found slower, measured again from scratch, found slower again",
    "static_rule": "costs more than the suite's rule allows; time was not measured",
    "peak_memory": "takes more memory than the suite's rule allows",
    "measured_rule": "grew by more than the suite's rule for a measured number allows",
    "beyond_bounds": "the whole interval lies beyond no change, by at least the smallest effect",
    "within_tolerance": "the whole interval lies within the tolerance",
    "identical": "same artifact, settings and environment on both sides; time was not measured",
    "last_look": "still undecided after the last look",
    "not_confirmed": "found slower, but not when measured again",
    "arm_ended": "a worker failed or ended",
    "no_answer": "a worker did not answer in time",
    "starved": "one worker was kept waiting for a processor more than the other",
    "unlike_arms": "the two workers did not run under the same conditions",
    "one_side_only": "one side cannot run the case at all",
    "few_launches": "a stored run holds fewer than two good launches of the case",
    "null_moved": "the same code against itself moved too: this machine cannot be trusted now",
    "null_unmeasured": "the same code against itself could not be measured",
    "machine": "nearly all cases of separate runs moved alike: the machine, not the code",
    "conditions": "the two sides were not measured under the same conditions",
}


@dataclass(frozen=True)
class Lost:
    """A measurement that came to nothing: a reason code and what happened."""

    reason: str
    text: str


@dataclass(frozen=True)
class CaseVerdict:
    """The verdict on one case.

    ``ratio`` is head / base (1.05: 5 % slower) with its 95 % interval over generations;
    ``base_ms`` and ``head_ms`` are medians over bursts, for orientation: the ratio is what was
    measured. ``generations`` and ``seconds`` are what it took, a second measurement included.
    """

    case: str
    verdict: Verdict
    reason: str
    sentence: str
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    base_ms: float | None = None
    head_ms: float | None = None
    generations: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Measured:
    """What was measured of one case: once, and again if it was found slower."""

    case: str
    first: Decision | Lost
    second: Decision | Lost | None = None
    base_ms: float | None = None
    head_ms: float | None = None
    seconds: float = 0.0

    @property
    def last(self) -> Decision | Lost:
        """The measurement that counts."""
        return self.first if self.second is None else self.second


def percent(log_ratio: float) -> str:
    """``+5.1 %`` for a log-ratio of 0.05."""
    return share_text(math.expm1(log_ratio), 1, signed=True)


def interval_text(decision: Decision) -> str:
    """``+5.1 % (95 % interval +4.0 to +6.2 %)``."""
    text = percent(decision.estimate)
    if decision.low is None or decision.high is None:
        return text
    low, high = (f"{math.expm1(bound) * 100:+.1f}" for bound in (decision.low, decision.high))
    return f"{text} (95 % interval {low} to {high} %)"


def judge(
    cases: Sequence[Measured],
    null: Decision | Lost | None,
    min_effect: float,
    tolerance: float,
) -> list[CaseVerdict]:
    """Verdicts of a gate whose sides took turns.

    Args:
        cases: every case that was measured; one found slower carries its second measurement.
        null: the base against itself in the same job; None if there was nothing to measure.
        min_effect: smallest share that counts as slower.
        tolerance: share within which a change is the same.
    """
    again = [case for case in cases if case.second is not None]
    stands = dict(
        zip((case.case for case in again), confirmed([_p_again(c) for c in again]), strict=True)
    )
    verdicts = [
        _verdict(case, stands.get(case.case, False), len(again), min_effect, tolerance)
        for case in cases
    ]
    return [_guarded(verdict, null) for verdict in verdicts]


def _p_again(case: Measured) -> float:
    second = case.second
    if not isinstance(second, Decision) or second.finding is not Finding.SLOWER:
        return 1.0
    return 1.0 if second.p_slower is None else second.p_slower


def _verdict(
    case: Measured, stands: bool, measured_again: int, min_effect: float, tolerance: float
) -> CaseVerdict:
    last = case.last
    if isinstance(last, Lost):
        return _numbers(case, Verdict.UNMEASURED, last.reason, last.text)
    found = interval_text(last)
    if isinstance(case.first, Decision) and case.second is not None:
        first = percent(case.first.estimate)
        if stands:
            sentence = f"slower by {found}, after {first} in a first measurement"
            return _numbers(case, Verdict.SLOWER, "confirmed", sentence)
        also = f", at the level for {measured_again} suspects" if measured_again > 1 else ""
        sentence = f"{first} in a first measurement was not confirmed by a second: {found}{also}"
        return _numbers(case, Verdict.INCONCLUSIVE, "not_confirmed", sentence)
    if last.finding is Finding.FASTER:
        return _numbers(case, Verdict.FASTER, "beyond_bounds", f"faster: {found}")
    if last.finding is Finding.SAME:
        sentence = f"the same within {tolerance * 100:g} %: {found}"
        return _numbers(case, Verdict.SAME, "within_tolerance", sentence)
    sentence = (
        f"{found} after {last.generations} generations neither reaches {min_effect * 100:g} % "
        f"with certainty nor surely lies within {tolerance * 100:g} %"
    )
    return _numbers(case, Verdict.INCONCLUSIVE, "last_look", sentence)


def _numbers(case: Measured, verdict: Verdict, reason: str, sentence: str) -> CaseVerdict:
    made = [d for d in (case.first, case.second) if isinstance(d, Decision)]
    last = case.last
    ratios: dict[str, float | None] = {}
    if isinstance(last, Decision):
        ratios = {
            "ratio": math.exp(last.estimate),
            "ratio_low": None if last.low is None else math.exp(last.low),
            "ratio_high": None if last.high is None else math.exp(last.high),
        }
    return CaseVerdict(
        case=case.case,
        verdict=verdict,
        reason=reason,
        sentence=sentence,
        base_ms=case.base_ms,
        head_ms=case.head_ms,
        generations=sum(decision.generations for decision in made),
        seconds=case.seconds,
        **ratios,
    )


def _guarded(verdict: CaseVerdict, null: Decision | Lost | None) -> CaseVerdict:
    """Take back what was found where the null case says that nothing can be found here."""
    if verdict.verdict not in (Verdict.SLOWER, Verdict.FASTER, Verdict.SAME) or null is None:
        return verdict
    if isinstance(null, Lost):
        reason, why = "null_unmeasured", f"could not be measured: {null.text}"
    elif null.finding in (Finding.SLOWER, Finding.FASTER):
        reason, why = "null_moved", f"moved by {interval_text(null)}"
    else:
        return verdict
    sentence = f"{verdict.sentence}; but the base against itself {why}"
    return replace(verdict, verdict=Verdict.UNTRUSTED, reason=reason, sentence=sentence)


def judge_separate(
    cases: Sequence[Measured], min_effect: float, tolerance: float
) -> list[CaseVerdict]:
    """Verdicts of two runs that did not take turns: only as good as the machine held still.

    Where nearly all cases moved alike, slower and faster cases are ``untrusted``: between separate
    runs the machine is the likelier cause.
    """
    verdicts = []
    estimates = [case.first.estimate for case in cases if isinstance(case.first, Decision)]
    common = moving_alike(estimates, min_effect)
    for case in cases:
        verdict = _separate(case, tolerance)
        if common is not None and verdict.verdict in (Verdict.SLOWER, Verdict.FASTER):
            sentence = (
                f"{verdict.sentence}; but nearly all {len(estimates)} cases moved by about "
                f"{percent(common)}: machine, not code"
            )
            verdict = replace(
                verdict, verdict=Verdict.UNTRUSTED, reason="machine", sentence=sentence
            )
        verdicts.append(verdict)
    return verdicts


def _separate(case: Measured, tolerance: float) -> CaseVerdict:
    first = case.first
    if isinstance(first, Lost):
        return _numbers(case, Verdict.UNMEASURED, first.reason, first.text)
    found = f"{interval_text(first)}, wider because the runs did not take turns"
    if first.finding is Finding.SLOWER:
        return _numbers(case, Verdict.SLOWER, "beyond_bounds", f"slower: {found}")
    if first.finding is Finding.FASTER:
        return _numbers(case, Verdict.FASTER, "beyond_bounds", f"faster: {found}")
    if first.finding is Finding.SAME:
        sentence = f"the same within {tolerance * 100:g} %: {found}"
        return _numbers(case, Verdict.SAME, "within_tolerance", sentence)
    return _numbers(case, Verdict.INCONCLUSIVE, "last_look", f"{found} decides nothing")


def common_cause(cases: Sequence[Measured], min_effect: float) -> str | None:
    """A note if nearly all cases of a duet moved alike; their verdicts stand."""
    estimates = [case.last.estimate for case in cases if isinstance(case.last, Decision)]
    common = moving_alike(estimates, min_effect)
    if common is None:
        return None
    return (
        f"nearly all {len(estimates)} cases moved by about {percent(common)}: look for one common "
        "cause (a library, an engine, a setting, this machine) before any single model's code"
    )


def sorted_worst_first(verdicts: Iterable[CaseVerdict]) -> list[CaseVerdict]:
    """By verdict, then by size of the effect, then by id."""
    return sorted(verdicts, key=lambda v: (WORST_FIRST.index(v.verdict), -(v.ratio or 0.0), v.case))


def exit_code(verdicts: Iterable[CaseVerdict], strict: bool = False) -> ExitCode:
    """What the shell is told: 2 incomparable, 1 slower, 3 unmeasured, 4 unsure with ``strict``."""
    seen = {verdict.verdict for verdict in verdicts}
    if Verdict.INCOMPARABLE in seen:
        return ExitCode.USAGE
    if Verdict.SLOWER in seen:
        return ExitCode.REGRESSION
    if Verdict.UNMEASURED in seen:
        return ExitCode.NOT_MEASURED
    if strict and seen & {Verdict.INCONCLUSIVE, Verdict.UNTRUSTED}:
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK
