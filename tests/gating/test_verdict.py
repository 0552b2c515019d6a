import itertools
import math
from dataclasses import replace

import pytest

from cspbench.core.statuses import ExitCode
from cspbench.gating.decide import Decision, Finding
from cspbench.gating.notes import common_cause, what_ratios_are_of, what_was_left_out
from cspbench.gating.verdict import (
    REASONS,
    CaseVerdict,
    MeasuredCase,
    Unmeasured,
    Verdict,
    exit_code,
    judge,
    judge_separate,
    sorted_worst_first,
)
from cspbench.store.blocks import DEVICE, ELAPSED, RUNNING


def decision(finding, change=0.0, p=1.0, blocks=4):
    estimate = math.log1p(change)
    return Decision(finding, estimate, estimate - 0.01, estimate + 0.01, p, blocks)


SLOWER = decision(Finding.SLOWER, 0.06, 1e-4)
FASTER = decision(Finding.FASTER, -0.06)
FASTER_TOO = decision(Finding.FASTER, -0.06, 1e-4)
SAME = decision(Finding.SAME)
OPEN = decision(Finding.INCONCLUSIVE, 0.02, 0.2, 16)
QUIET = decision(Finding.SAME)
DEAD = Unmeasured("arm_ended", "the head's worker was ended by SIGKILL")


def itself(first, second=None):
    """The base against itself."""
    return MeasuredCase("null", first, second)


def only(case, null=QUIET):
    (verdict,) = judge([case], itself(null), 0.03, 0.05)
    assert verdict.reason in REASONS
    return verdict


def waiting(finding, percent):
    """A finding of 6 % by running time whose head also waits so much longer."""
    return replace(finding, waiting=math.log1p(percent / 100))


def test_a_slowdown_that_is_larger_than_the_wait_stays_one():
    """A process that is held back runs slower, too: its caches are cold each time."""
    verdict = only(MeasuredCase("a", SLOWER, waiting(SLOWER, 4)))
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "confirmed")
    assert verdict.sentence.endswith(
        "; the head also waited longer, which is +4.0 % more of elapsed time"
    )
    held = only(MeasuredCase("a", SLOWER, waiting(SLOWER, 12)))
    assert (held.verdict, held.reason) == (Verdict.INCONCLUSIVE, "waits_more")


def test_a_head_that_is_faster_by_more_than_it_waits_stays_faster():
    # 0.94 x 1.03 = 0.968: elapsed time, too, is more than 3 % shorter. 0.94 x 1.12 = 1.05 is not.
    less = only(MeasuredCase("a", FASTER, waiting(FASTER_TOO, 3)))
    assert (less.verdict, less.reason) == (Verdict.FASTER, "confirmed")
    more = only(MeasuredCase("a", FASTER, waiting(FASTER_TOO, 12)))
    assert (more.verdict, more.reason) == (Verdict.INCONCLUSIVE, "waits_more")


def test_what_changes_are_of_is_told_unless_it_is_elapsed_time():
    of = [MeasuredCase("a", QUIET, of=text) for text in (DEVICE, RUNNING, ELAPSED)]
    assert what_ratios_are_of(of[2:]) == []
    assert what_ratios_are_of(of[:1]) == [
        "change, base ms and head ms are of the device's own time, by its events"
    ]
    running, device = what_ratios_are_of(of)
    assert running.startswith("change, base ms and head ms of 1 of 3 cases are of running time")
    assert "1 of 3" in device


def test_pairs_of_a_throttled_device_are_told():
    assert what_was_left_out([MeasuredCase("a", QUIET)]) == []
    held = [MeasuredCase("a", QUIET, throttled_pairs=2), MeasuredCase("b", QUIET)]
    assert what_was_left_out(held) == [
        "2 pairs of bursts of 1 case did not count: the device was throttled in one of the two"
    ]


def test_slower_counts_when_found_twice():
    verdict = only(MeasuredCase("a", SLOWER, SLOWER))
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "confirmed")
    assert verdict.ratio == pytest.approx(1.06)
    assert verdict.generations == 8
    assert verdict.sentence == (
        "slower by +6.0 % (95 % interval +4.9 to +7.1 %), after +6.0 % in a first measurement"
    )


@pytest.mark.parametrize("second", [SAME, OPEN, FASTER])
def test_slower_found_once_is_inconclusive(second):
    verdict = only(MeasuredCase("a", SLOWER, second))
    assert (verdict.verdict, verdict.reason) == (Verdict.INCONCLUSIVE, "not_confirmed")


def test_a_weak_second_finding_falls_among_many_suspects():
    weak = decision(Finding.SLOWER, 0.04, 0.03)
    assert only(MeasuredCase("a", SLOWER, weak)).verdict is Verdict.SLOWER
    # Two suspects: Holm holds the smaller p = 0.03 against 0.05 / 2 = 0.025.
    many = judge(
        [MeasuredCase("a", SLOWER, weak), MeasuredCase("b", SLOWER, SAME)],
        itself(QUIET),
        0.03,
        0.05,
    )
    assert [v.verdict for v in many] == [Verdict.INCONCLUSIVE] * 2
    assert "2 suspects" in many[0].sentence


def test_faster_counts_when_found_twice_too():
    verdict = only(MeasuredCase("a", FASTER, FASTER_TOO))
    assert (verdict.verdict, verdict.reason) == (Verdict.FASTER, "confirmed")
    assert verdict.sentence.startswith("faster by -6.0 %")
    assert verdict.sentence.endswith("after -6.0 % in a first measurement")


def test_faster_found_once_is_what_the_second_measurement_found():
    same = only(MeasuredCase("a", FASTER, SAME))
    assert (same.verdict, same.reason) == (Verdict.SAME, "within_tolerance")
    assert same.sentence.endswith("after -6.0 %")
    for second in (OPEN, SLOWER):
        assert only(MeasuredCase("a", FASTER, second)).reason == "not_confirmed"


def test_the_other_findings():
    assert only(MeasuredCase("a", SAME)).verdict is Verdict.SAME
    assert only(MeasuredCase("a", OPEN)).reason == "last_look"


def test_a_dead_arm_is_never_a_verdict_on_speed():
    for case in (MeasuredCase("a", DEAD), MeasuredCase("a", SLOWER, DEAD)):
        verdict = only(case)
        assert (verdict.verdict, verdict.ratio) == (Verdict.UNMEASURED, None)
        assert verdict.sentence == DEAD.text


@pytest.mark.parametrize("moved", [SLOWER, FASTER_TOO])
def test_a_null_case_that_moves_twice_takes_every_finding_back(moved):
    cases = [
        MeasuredCase("a", SLOWER, SLOWER),
        MeasuredCase("b", FASTER, FASTER_TOO),
        MeasuredCase("c", SAME),
    ]
    verdicts = judge(cases, itself(moved, moved), 0.03, 0.05)
    assert {v.verdict for v in verdicts} == {Verdict.UNTRUSTED}
    assert {v.reason for v in verdicts} == {"null_moved"}
    assert exit_code(verdicts) == ExitCode.OK
    assert exit_code(verdicts, strict=True) == ExitCode.INCONCLUSIVE


@pytest.mark.parametrize("second", [SAME, OPEN])
def test_a_null_case_that_moves_once_takes_nothing_back(second):
    """About 1 of 20 measurements of the same code moves by chance."""
    found = MeasuredCase("a", SLOWER, SLOWER)
    (verdict,) = judge([found], itself(SLOWER, second), 0.03, 0.05)
    assert verdict.verdict is Verdict.SLOWER


def test_a_lost_null_case_takes_every_finding_back_but_nothing_else():
    cases = [MeasuredCase("a", SLOWER, SLOWER), MeasuredCase("b", DEAD)]
    verdicts = judge(cases, itself(DEAD), 0.03, 0.05)
    assert [v.reason for v in verdicts] == ["null_unmeasured", "arm_ended"]


def test_a_finding_of_more_than_twice_what_is_wrong_with_the_null_case_stands():
    large = decision(Finding.SLOWER, 54.0, 1e-9)  # 55 times the work
    starved = Unmeasured("starved", "waiting made the head slower by +2.1 %", math.log1p(0.021))
    for null in (itself(starved), itself(SLOWER, SLOWER), itself(SLOWER, starved)):
        kept, taken, same = judge(
            [
                MeasuredCase("a", large, large),
                # 1.03 is less than 1.021 squared (1.042), and than 1.06 squared (1.124).
                MeasuredCase("b", *[decision(Finding.SLOWER, 0.03, 1e-9)] * 2),
                MeasuredCase("c", SAME),
            ],
            null, 0.03, 0.05,
        )  # fmt: skip
        assert (kept.verdict, kept.reason) == (Verdict.SLOWER, "confirmed")
        assert "the base against itself" in kept.sentence
        assert kept.sentence.endswith("less than half of that")
        assert (taken.verdict, same.verdict) == (Verdict.UNTRUSTED,) * 2


def test_of_the_null_cases_measurements_the_one_that_moved_most_counts():
    first, second = decision(Finding.SLOWER, 0.12, 1e-4), decision(Finding.SLOWER, 0.031, 1e-4)
    found = MeasuredCase("a", *[decision(Finding.SLOWER, 0.20, 1e-9)] * 2)
    assert only(found, first).verdict is Verdict.SLOWER  # it moved once
    (verdict,) = judge([found], itself(first, second), 0.03, 0.05)
    assert verdict.verdict is Verdict.UNTRUSTED  # 1.20 is less than 1.12 squared (1.254)
    (verdict,) = judge([found], itself(second, second), 0.03, 0.05)
    assert verdict.verdict is Verdict.SLOWER


def test_an_undecided_null_case_did_not_move():
    assert only(MeasuredCase("a", SLOWER, SLOWER), null=OPEN).verdict is Verdict.SLOWER


def test_many_cases_moving_alike_is_noted_but_stands_in_a_duet():
    cases = [MeasuredCase(name, SLOWER, SLOWER) for name in "abcd"]
    assert "one common cause" in common_cause(cases, 0.03)
    assert {v.verdict for v in judge(cases, itself(QUIET), 0.03, 0.05)} == {Verdict.SLOWER}
    assert common_cause(cases[:1], 0.03) is None


def test_many_cases_moving_alike_between_separate_runs_is_the_machine():
    verdicts = judge_separate([MeasuredCase(name, SLOWER) for name in "abcd"], 0.03, 0.05)
    assert {(v.verdict, v.reason) for v in verdicts} == {(Verdict.UNTRUSTED, "machine")}
    assert "points to the machine" in verdicts[0].sentence
    one = judge_separate(
        [MeasuredCase("a", SLOWER), *(MeasuredCase(n, SAME) for n in "bcd")], 0.03, 0.05
    )
    assert [v.verdict for v in one] == [Verdict.SLOWER, *[Verdict.SAME] * 3]
    assert "did not take turns" in one[0].sentence


def test_exit_codes_in_their_order():
    def code(*verdicts, strict=False):
        return exit_code((CaseVerdict("a", v, "confirmed", "") for v in verdicts), strict)

    order = [
        (Verdict.SLOWER, 1), (Verdict.UNMEASURED, 3), (Verdict.UNTRUSTED, 4), (Verdict.SAME, 0),
        (Verdict.FASTER, 0),
    ]  # fmt: skip
    for (first, number), (second, _) in itertools.combinations(order, 2):
        assert code(first, second, strict=True) == number
    assert code(Verdict.INCONCLUSIVE) == code(Verdict.UNTRUSTED) == 0
    assert code() == 0


def test_order_of_output_is_worst_first():
    rows = [
        CaseVerdict("same", Verdict.SAME, "within_tolerance", "", ratio=1.0),
        CaseVerdict("slow", Verdict.SLOWER, "confirmed", "", ratio=1.05),
        CaseVerdict("slowest", Verdict.SLOWER, "confirmed", "", ratio=1.5),
        CaseVerdict("dead", Verdict.UNMEASURED, "arm_ended", ""),
    ]
    assert [v.case for v in sorted_worst_first(rows)] == ["slowest", "slow", "dead", "same"]
