"""The next block, by the ends of the launches before it."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cspbench.runner.blocks import Blocks, shuffled
from cspbench.store.records import MAX_BAD_ENDS

CASES = ["a", "b", "c", "d"]


def drive(rounds, ends=None):
    """Launch each case of the schedule's blocks. ``ends`` lists how the launches of a case end.

    An end is True (good), False (bad), "final" or "disturbed"; after the list all are good.
    """
    left = {case: list(case_ends) for case, case_ends in (ends or {}).items()}
    order = []
    for case in itertools.chain.from_iterable(rounds):
        order.append(case)
        end = left[case].pop(0) if left.get(case) else True
        rounds.report(
            case,
            good=end in (True, "disturbed"),
            final=end == "final",
            disturbed=end == "disturbed",
        )
    return order


def test_every_round_launches_every_case_once():
    order = drive(Blocks(CASES, rounds=5, seed=0))
    assert len(order) == 5 * 4
    for number in range(5):
        assert sorted(order[4 * number : 4 * number + 4]) == CASES


def test_the_order_follows_from_the_seed_alone():
    orders = [tuple(drive(Blocks(CASES, rounds=3, seed=seed))) for seed in range(20)]
    again = [tuple(drive(Blocks(CASES, rounds=3, seed=seed))) for seed in range(20)]
    assert orders == again
    assert len(set(orders)) > 10
    assert drive(Blocks(CASES[::-1], rounds=3, seed=1)) == list(orders[1])  # not the suite's order


def test_rounds_differ_from_one_another():
    """Else a case would always run after the same neighbour."""
    order = drive(Blocks([*CASES, "e", "f"], rounds=8, seed=0))
    assert len({tuple(order[6 * i : 6 * i + 6]) for i in range(8)}) > 1


def test_the_shuffle_is_the_same_everywhere():
    """A fixed value: the order of a run must not change with Python's version or hash seed."""
    assert shuffled("abcdef", 0, 0) == ["a", "f", "b", "e", "d", "c"]
    assert shuffled("abcdef", 0, 1) == ["c", "a", "b", "f", "d", "e"]


def test_a_bad_end_is_repeated_before_the_others_go_on():
    order = drive(Blocks(CASES, rounds=2, seed=0), {"b": [False]})
    # Four launches, b again, four launches.
    assert sorted(order[:4]) == CASES
    assert order[4] == "b"
    assert sorted(order[5:]) == CASES


def test_a_case_is_given_up_after_two_bad_ends_in_all():
    order = drive(Blocks(CASES, rounds=5, seed=0), {"b": [True, False, True, False]})
    assert Counter(order) == {"a": 5, "b": 4, "c": 5, "d": 5}
    order = drive(Blocks(CASES, rounds=5, seed=0), {"b": [False] * 5})
    assert Counter(order)["b"] == MAX_BAD_ENDS == 2


def test_where_trying_again_is_pointless_there_is_one_launch():
    order = drive(Blocks(CASES, rounds=5, seed=0), {"c": ["final"]})
    assert Counter(order) == {"a": 5, "b": 5, "c": 1, "d": 5}


def test_disturbed_launches_are_repeated_up_to_a_third_of_the_rounds():
    # 6 rounds: 6 // 3 = 2 repeats at most; the third disturbed launch counts.
    order = drive(Blocks(CASES, rounds=6, seed=0), {"a": ["disturbed"] * 8, "b": ["disturbed"]})
    assert Counter(order) == {"a": 8, "b": 7, "c": 6, "d": 6}
    # 2 rounds: at least one repeat.
    order = drive(Blocks(CASES, rounds=2, seed=0), {"a": ["disturbed"] * 8})
    assert Counter(order)["a"] == 3


def test_a_resumed_run_launches_only_what_is_missing():
    rounds = Blocks(CASES, rounds=3, seed=0, done={"a": 3, "b": 2, "c": 0})
    assert rounds.remaining() == {"b": 1, "c": 3, "d": 3}
    order = drive(rounds)
    assert Counter(order) == {"b": 1, "c": 3, "d": 3}
    # Cases that lag behind come first; b joins in the last round.
    assert [sorted(order[:2]), sorted(order[2:4]), sorted(order[4:])] == [
        ["c", "d"], ["c", "d"], ["b", "c", "d"],
    ]  # fmt: skip


def test_nothing_to_do_is_no_launch():
    assert drive(Blocks([], rounds=5, seed=0)) == []
    assert drive(Blocks(CASES, rounds=2, seed=0, done=dict.fromkeys(CASES, 2))) == []


_cases = st.lists(st.text("abcxyz@/", min_size=1, max_size=4), unique=True, max_size=6)
_ends = st.lists(st.sampled_from([True, False, "final", "disturbed"]), max_size=12)


@given(_cases, st.integers(1, 8), st.integers(0, 2**63))
def test_without_failures_every_case_gets_exactly_its_rounds(cases, rounds, seed):
    order = drive(Blocks(cases, rounds, seed))
    assert Counter(order) == dict.fromkeys(cases, rounds)
    for number in range(rounds):  # and no case is ever more than one launch ahead of another
        part = order[number * len(cases) : (number + 1) * len(cases)]
        assert sorted(part) == sorted(cases)


@given(_cases, st.integers(1, 8), st.data())
def test_whatever_happens_the_schedule_ends_and_owes_nothing(cases, rounds, data):
    """Every case ends with its good launches, or was given up for two bad ends or a final one."""
    ends = {case: data.draw(_ends) for case in cases}
    done = {case: data.draw(st.integers(0, rounds)) for case in cases}
    order = drive(Blocks(cases, rounds, 0, done), ends)
    for case in cases:
        count = Counter(order)[case]
        seen = (ends[case] + [True] * 100)[:count]
        repeats = min(seen.count("disturbed"), max(1, rounds // 3))
        good = done[case] + seen.count(True) + seen.count("disturbed") - repeats
        bad = seen.count(False) + seen.count("final")
        gave_up = "final" in seen or bad >= MAX_BAD_ENDS
        assert good == rounds or gave_up
        assert good <= rounds
        assert bad <= MAX_BAD_ENDS


@given(_cases, st.integers(1, 6), st.integers(0, 40))
def test_a_run_broken_off_anywhere_and_resumed_is_an_undisturbed_run(cases, rounds, cut):
    first = Blocks(cases, rounds, seed=3)
    done = Counter()
    for case, _ in zip(itertools.chain.from_iterable(first), range(cut), strict=False):
        first.report(case, good=True)
        done[case] += 1
    done.update(drive(Blocks(cases, rounds, seed=3, done=done)))
    assert done == dict.fromkeys(cases, rounds)


class Budget:
    """Spent after so many launches."""

    def __init__(self, launches):
        self.left = launches

    def __call__(self):
        self.left -= 1
        return self.left < 0


def test_a_spent_budget_ends_with_the_round():
    # 3 rounds of 4 and two launches of the fourth; the third launch of it finds the budget spent.
    rounds = Blocks(CASES, rounds=9, seed=0, out_of_time=Budget(3 * 4 + 2))
    order = drive(rounds)
    assert Counter(order) == dict.fromkeys(CASES, 4)
    assert rounds.rounds == 4


def test_a_spent_budget_still_leaves_enough_launches_for_an_interval():
    rounds = Blocks(CASES, rounds=9, seed=0, out_of_time=lambda: True)
    assert Counter(drive(rounds)) == dict.fromkeys(CASES, 3)


def test_a_suite_of_fewer_rounds_than_that_is_not_prolonged():
    assert Counter(drive(Blocks(CASES, rounds=2, seed=0, out_of_time=lambda: True)))["a"] == 2


def test_nothing_disturbed_is_repeated_when_the_budget_is_spent():
    ends = {"b": ["disturbed"] * 9}
    assert Counter(drive(Blocks(CASES, rounds=3, seed=0), ends))["b"] == 4
    spent = Blocks(CASES, rounds=3, seed=0, out_of_time=lambda: True)
    assert Counter(drive(spent, ends))["b"] == 3


# Blocks


def blocks(**settings):
    """The blocks of an undisturbed run."""
    schedule = Blocks(CASES, seed=0, **settings)
    made = []
    for block in schedule:
        made.append(block)
        for case in block:
            schedule.report(case, good=True)
    return made


def test_all_cases_of_a_round_live_together():
    assert [sorted(block) for block in blocks(rounds=3)] == [CASES] * 3


def test_a_suite_may_limit_how_many_live_together():
    made = blocks(rounds=2, together=3)
    assert [len(block) for block in made] == [3, 1, 3, 1]
    assert sorted(made[0] + made[1]) == CASES
    assert [len(block) for block in blocks(rounds=2, together=1)] == [1] * 8


def test_cases_that_scatter_get_more_blocks_up_to_three_times_their_rounds():
    made = blocks(rounds=2, scattering=lambda able: [c for c in able if c in "bd"])
    assert [sorted(block) for block in made] == [CASES] * 2 + [["b", "d"]] * 4


def test_only_cases_that_may_have_more_are_asked_about():
    asked = []
    made = Blocks(CASES, 1, 0, scattering=lambda able: asked.append(able) or able[:1])
    for block in made:
        for case in block:
            made.report(case, good=case != "a", final=case == "a")
    # a failed for good; b, c and d get three times the one round in turn.
    assert asked == [["b", "c", "d"]] * 2 + [["c", "d"]] * 2 + [["d"]] * 2 + [[]]
    assert made.has_given_up("a")


def test_a_sharp_ratio_gets_no_more_blocks():
    answers = iter([["b", "c"], ["c"], []])
    made = blocks(rounds=2, scattering=lambda _: next(answers))
    assert [sorted(block) for block in made] == [CASES, CASES, ["b", "c"], ["c"]]


def test_a_spent_budget_ends_the_blocks_for_ratios():
    made = blocks(rounds=2, scattering=lambda _: ["b"], out_of_time=Budget(2 * 4))
    assert len(made) == 2
