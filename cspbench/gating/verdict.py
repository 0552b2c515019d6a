"""Verdicts: the meaning of all decisions together, as a word, a reason code and a sentence.

Pure functions from decisions to verdicts. Verdicts and reason codes are closed lists, on which
people and programs can rely.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from cspbench.core.statuses import ExitCode
from cspbench.core.text import percent as share_text
from cspbench.gating.decide import Decision, Finding, confirmed, moving_alike


class Verdict(str, Enum):
    """The gate's verdict on one case, in a word."""

    FASTER = "faster"
    SAME = "same"
    SLOWER = "slower"
    INCONCLUSIVE = "inconclusive"
    UNMEASURED = "unmeasured"
    UNTRUSTED = "untrusted"

    def __str__(self) -> str:
        return self.value


#: Verdicts from worst to best: the order of every output.
WORST_FIRST = (
    Verdict.SLOWER,
    Verdict.UNMEASURED,
    Verdict.UNTRUSTED,
    Verdict.INCONCLUSIVE,
    Verdict.FASTER,
    Verdict.SAME,
)

#: What is neither good nor bad: a failure with ``--strict`` only.
UNSURE = frozenset({Verdict.INCONCLUSIVE, Verdict.UNTRUSTED})
#: Reason code of a finding by itself: it ends a gate like a case that was not measured.
WAITS_MORE = "waits_more"
#: Reason code -> its meaning. Each verdict carries one.
REASONS: dict[str, str] = {
    "confirmed": "slower, or faster, in two independent measurements",
    "static_rule": "costs more than the suite's rule allows; time was not measured",
    "peak_memory": "takes more memory than the suite's rule allows",
    "measured_rule": "grew by more than the suite's rule for a measured number allows",
    "beyond_bounds": "the interval excludes no change; the estimate reaches the smallest effect",
    "within_tolerance": "the whole interval lies within the tolerance",
    "identical": "the sides have the same artifact, settings and environment; no time was measured",
    "last_look": "the last interim analysis did not decide",
    "not_confirmed": "slower, or faster, in the first measurement, but not in the second",
    "arm_ended": "a worker failed or ended",
    "no_answer": "a worker did not answer in time",
    "starved": "one worker waited for a processor longer than the other, which explains the change",
    WAITS_MORE: "the head waited, or blocked, longer than the base, and what changed while it ran "
    "does not outweigh that",
    "unlike_arms": "the two workers did not run under the same conditions",
    "one_side_only": "one side cannot run the case at all",
    "few_launches": "a stored run holds fewer than two good launches of the case",
    "null_moved": "the base against itself moved too, so that this machine is not trusted now",
    "null_unmeasured": "the base against itself could not be measured",
    "machine": "nearly all cases of separate runs moved alike, which points to the machine",
}


@dataclass(frozen=True)
class Unmeasured:
    """A measurement without a result: a reason code and what happened.

    ``shift`` is the size of the log-ratio that what happened may explain, if that is known.
    """

    reason: str
    text: str
    shift: float | None = None


@dataclass(frozen=True)
class CaseVerdict:
    """The verdict on one case.

    ``ratio`` is head / base (1.05: 5 % slower) with its 95 % interval over blocks. ``base_ms`` and
    ``head_ms`` are medians over bursts, for orientation only: the verdict rests on the ratio.
    ``generations`` (blocks, by their name in outputs) and ``seconds`` count both measurements.
    ``ratio_of`` says what the ratio and the medians are of: running or elapsed time.
    ``elapsed_ratio`` is that of elapsed time beside it. ``layers`` of a confirmed slowdown are the
    times of layers on both sides, the largest change first (the fields of `why.LayerShift`).
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
    ratio_of: str | None = None
    elapsed_ratio: float | None = None
    layers: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class MeasuredCase:
    """The measurements of one case: a first one, and a second if the first found that it moved.

    ``of`` says what the decisions rest on, ``elapsed`` is the log-ratio of elapsed time beside it.
    ``throttled_pairs`` of bursts were left out, because the device was throttled.
    """

    case: str
    first: Decision | Unmeasured
    second: Decision | Unmeasured | None = None
    base_ms: float | None = None
    head_ms: float | None = None
    seconds: float = 0.0
    of: str | None = None
    elapsed: float | None = None
    throttled_pairs: int = 0

    @property
    def last(self) -> Decision | Unmeasured:
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
    cases: Sequence[MeasuredCase],
    null: MeasuredCase | None,
    min_effect: float,
    tolerance: float,
) -> list[CaseVerdict]:
    """Verdicts of a gate whose sides took turns.

    Args:
        cases: every measured case; one that was found to move carries its second measurement.
        null: the base against itself in the same job; None if no case was decided.
        min_effect: smallest share that counts as slower.
        tolerance: share within which a change is the same.
    """
    suspects = [case for case in cases if case.second is not None]
    is_confirmed = dict(
        zip((s.case for s in suspects), confirmed([_second_p(s) for s in suspects]), strict=True)
    )
    verdicts = [
        _verdict(case, is_confirmed.get(case.case, False), len(suspects), min_effect, tolerance)
        for case in cases
    ]
    if null is None:
        return verdicts
    (itself,) = judge([null], None, min_effect, tolerance)
    return [_guarded(verdict, null, itself) for verdict in verdicts]


def _second_p(case: MeasuredCase) -> float:
    first, second = case.first, case.second
    if not isinstance(first, Decision) or not isinstance(second, Decision):
        return 1.0
    if second.finding is not first.finding or second.p_moved is None:
        return 1.0
    return second.p_moved


def _verdict(
    case: MeasuredCase, is_confirmed: bool, suspects: int, min_effect: float, tolerance: float
) -> CaseVerdict:
    last = case.last
    if isinstance(last, Unmeasured):
        return _with_numbers(case, Verdict.UNMEASURED, last.reason, last.text)
    verdict = _decided(case, last, is_confirmed, suspects, min_effect, tolerance)
    return _waits_more(verdict, last, min_effect)


def _decided(
    case: MeasuredCase, last: Decision, is_confirmed: bool, suspects: int, min_effect: float,
    tolerance: float,
) -> CaseVerdict:  # fmt: skip
    effect = interval_text(last)
    if isinstance(case.first, Decision) and case.second is not None:
        first = percent(case.first.estimate)
        if is_confirmed:
            sentence = f"{last.finding} by {effect}, after {first} in a first measurement"
            return _with_numbers(case, Verdict(last.finding.value), "confirmed", sentence)
        if case.first.finding is Finding.FASTER and last.finding is Finding.SAME:
            return _moved_or_same(case, last.finding, f"{effect}, after {first}", tolerance)
        level = f", at the level for {suspects} suspects" if suspects > 1 else ""
        sentence = f"a second measurement did not confirm the {first} of the first: {effect}{level}"
        return _with_numbers(case, Verdict.INCONCLUSIVE, "not_confirmed", sentence)
    if last.finding is Finding.SAME:
        return _moved_or_same(case, last.finding, effect, tolerance)
    sentence = (
        f"{effect} after {last.blocks} blocks neither surely reaches {min_effect * 100:g} % "
        f"nor surely lies within {tolerance * 100:g} %"
    )
    return _with_numbers(case, Verdict.INCONCLUSIVE, "last_look", sentence)


def _waits_more(verdict: CaseVerdict, decision: Decision, min_effect: float) -> CaseVerdict:
    """A head that waits longer does not pass, unless it is slower, or faster, by more than that.

    The code may block (a lock, a file, sleep) or something may hold this process back (a quota,
    pinned load). Both take the users' time, and the gate cannot tell them apart. A process that is
    held back also runs slower, because its caches are cold each time that it goes on.
    """
    waited = decision.waiting
    if waited is None or waited < 0:
        return verdict
    sentence = f"{verdict.sentence}; the head also waited longer, which is {percent(waited)} more"
    faster = decision.estimate + waited <= -math.log1p(min_effect)
    slower = verdict.verdict is Verdict.SLOWER and decision.estimate > waited
    if slower or (verdict.verdict is Verdict.FASTER and faster):
        return replace(verdict, sentence=f"{sentence} of elapsed time")
    sentence += " of elapsed time: look for code that blocks, a quota, or pinned load"
    return replace(verdict, verdict=Verdict.INCONCLUSIVE, reason=WAITS_MORE, sentence=sentence)


def _moved_or_same(
    case: MeasuredCase, finding: Finding, effect: str, tolerance: float
) -> CaseVerdict:
    if finding is Finding.SAME:
        sentence = f"the same within {tolerance * 100:g} %: {effect}"
        return _with_numbers(case, Verdict.SAME, "within_tolerance", sentence)
    return _with_numbers(case, Verdict(finding.value), "beyond_bounds", f"{finding}: {effect}")


def _with_numbers(case: MeasuredCase, verdict: Verdict, reason: str, sentence: str) -> CaseVerdict:
    decisions = [d for d in (case.first, case.second) if isinstance(d, Decision)]
    last = case.last
    ratios: dict[str, Any] = {}
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
        generations=sum(decision.blocks for decision in decisions),
        seconds=case.seconds,
        ratio_of=case.of if ratios else None,
        elapsed_ratio=math.exp(case.elapsed) if ratios and case.elapsed is not None else None,
        **ratios,
    )


def _guarded(verdict: CaseVerdict, null: MeasuredCase, itself: CaseVerdict) -> CaseVerdict:
    """Take back a verdict on time if the null case moved twice or could not be measured.

    A finding of more than twice what is wrong with the null case stands: a head that does 55 times
    the work is slower, although this machine moves by some percent.
    """
    if verdict.verdict not in (Verdict.SLOWER, Verdict.FASTER, Verdict.SAME):
        return verdict
    if itself.verdict is Verdict.UNMEASURED:
        reason, why = "null_unmeasured", f"could not be measured: {itself.sentence}"
    elif itself.verdict in (Verdict.SLOWER, Verdict.FASTER):
        reason, why = "null_moved", f"is {itself.sentence}"
    else:
        return verdict
    size = 0.0 if verdict.verdict is Verdict.SAME else abs(math.log(verdict.ratio or 1.0))
    if size > 2 * _most_moved(null):
        sentence = f"{verdict.sentence}; the base against itself {why}, less than half of that"
        return replace(verdict, sentence=sentence)
    sentence = f"{verdict.sentence}; but the base against itself {why}"
    return replace(verdict, verdict=Verdict.UNTRUSTED, reason=reason, sentence=sentence)


def _most_moved(case: MeasuredCase) -> float:
    """The largest log-ratio of its measurements, without its sign; infinite if one has none."""
    sizes = []
    for measured in (case.first, case.second):
        if isinstance(measured, Decision):
            sizes.append(abs(measured.estimate))
        elif measured is not None:
            sizes.append(math.inf if measured.shift is None else measured.shift)
    return max(sizes)


def judge_separate(
    cases: Sequence[MeasuredCase], min_effect: float, tolerance: float
) -> list[CaseVerdict]:
    """Verdicts of two runs that did not take turns, so that the machine may have changed.

    If nearly all cases moved alike, slower and faster cases are ``untrusted``, because between
    separate runs the machine is the more likely cause.
    """
    verdicts = []
    estimates = [case.first.estimate for case in cases if isinstance(case.first, Decision)]
    common = moving_alike(estimates, min_effect)
    for case in cases:
        verdict = _separate(case, tolerance)
        if common is not None and verdict.verdict in (Verdict.SLOWER, Verdict.FASTER):
            sentence = (
                f"{verdict.sentence}; but nearly all {len(estimates)} cases moved by about "
                f"{percent(common)}, which points to the machine and not to the code"
            )
            verdict = replace(
                verdict, verdict=Verdict.UNTRUSTED, reason="machine", sentence=sentence
            )
        verdicts.append(verdict)
    return verdicts


def _separate(case: MeasuredCase, tolerance: float) -> CaseVerdict:
    first = case.first
    if isinstance(first, Unmeasured):
        return _with_numbers(case, Verdict.UNMEASURED, first.reason, first.text)
    effect = f"{interval_text(first)}, wider because the runs did not take turns"
    if first.finding is Finding.INCONCLUSIVE:
        return _with_numbers(case, Verdict.INCONCLUSIVE, "last_look", f"undecided: {effect}")
    return _moved_or_same(case, first.finding, effect, tolerance)


def sorted_worst_first(verdicts: Iterable[CaseVerdict]) -> list[CaseVerdict]:
    """By verdict, then by size of the effect, then by id."""
    return sorted(verdicts, key=lambda v: (WORST_FIRST.index(v.verdict), -(v.ratio or 0.0), v.case))


def exit_code(
    verdicts: Iterable[CaseVerdict], strict: bool = False, *, unchecked: bool = False
) -> ExitCode:
    """Exit code: 1 slower, 3 unmeasured, 4 unsure with ``strict``, else 0.

    A head that waits more may be slower: 3, so that it does not pass in silence. ``unchecked``
    says that a rule of the suite was not checked, which is unsure, too.
    """
    verdicts = list(verdicts)
    seen = {verdict.verdict for verdict in verdicts}
    if Verdict.SLOWER in seen:
        return ExitCode.REGRESSION
    if Verdict.UNMEASURED in seen or any(v.reason == WAITS_MORE for v in verdicts):
        return ExitCode.NOT_MEASURED
    if strict and (unchecked or seen & UNSURE):
        return ExitCode.INCONCLUSIVE
    return ExitCode.OK
