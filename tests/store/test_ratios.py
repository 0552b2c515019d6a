"""Ratios of stored launches that took turns: by hand, from their bursts."""

import math

import pytest

from cspbench.store.blocks import DEVICE, ELAPSED, RUNNING
from cspbench.store.ratios import InTurn
from cspbench.store.records import _kernel_work
from tests.launches import MS, stored_launch

A, B, C = "a@64/cpu/b1/t1", "b@64/cpu/b1/t1", "c@64/cpu/b1/t2"


def ratios_of(launches, reference):
    return InTurn(launches).relative_to(reference)


def in_turn(
    case, block, ms, *,
    lost_ms=None, device_ms=None, throttled=None, began=None, arms=None, job="time", session="s1",
):  # fmt: skip
    """A launch with one burst of two inferences a round; ``ms`` is an inference of each round."""
    samples = [round(value * MS) for value in ms for _ in range(2)]
    turns = {"block": block, "counts": [2] * len(ms), "arms": arms}
    if lost_ms is not None:
        turns["lost_ns"] = [round(value * MS) for value in lost_ms]
    if device_ms is not None:
        turns["device_ns"] = [round(2 * value * MS) for value in device_ms]
    if throttled is not None:
        turns["throttled_ns"] = [MS * flag for flag in throttled]
    if began is not None:
        turns["began_ns"] = began
    timed = {**stored_launch(A).to_json(), "latencies_ns": samples, "turns": turns}
    return stored_launch(**{**timed, "case": case, "job": job, "session": session})


def test_undisturbed_times_of_a_block_are_compared():
    # Undisturbed a takes 10 ms in block 0 and 30 in block 1, b 20 and 60: 2. Round by round b / a
    # is 2, 2.5, 3 in block 0, typically 2.5, and 2 in block 1: exp of the mean of the logs.
    launches = [
        in_turn(A, "0", [10, 10, 10]),
        in_turn(B, "0", [20, 25, 30, 20, 20]),  # a was cut short: two rounds fewer
        in_turn(A, "1", [30, 30, 30]),
        in_turn(B, "1", [60, 60, 60]),
    ]
    found = ratios_of(launches, A)
    assert found.cases[B].ratio.per_block == pytest.approx([math.log(2), math.log(2)])
    assert found.cases[B].ratio.estimate == pytest.approx(2)
    assert found.cases[B].typical == pytest.approx(math.sqrt(2.5 * 2))
    assert found.cases[B].of == ELAPSED  # no launch says how long it waited
    assert found.check is None
    assert found.trusted


def test_running_time_leaves_out_what_the_process_waited():
    # Each burst of b lasts 2 x 15 ms, of which it waited 10 ms: 10 ms an inference, as long as a.
    launches = [
        in_turn(A, "0", [10, 10], lost_ms=[0, 0]), in_turn(B, "0", [15, 15], lost_ms=[10, 10]),
    ]  # fmt: skip
    found = ratios_of(launches, A).cases[B]
    assert (found.of, found.ratio.estimate) == (RUNNING, pytest.approx(1.0))
    assert found.waiting == pytest.approx(0.5)


def test_several_threads_are_compared_by_elapsed_time():
    launches = [in_turn(A, "0", [10], lost_ms=[0]), in_turn(C, "0", [15], lost_ms=[10])]
    found = ratios_of(launches, A).cases[C]
    assert (found.of, found.ratio.estimate, found.waiting) == (ELAPSED, pytest.approx(1.5), None)


def test_a_device_is_compared_by_its_own_events():
    launches = [in_turn(A, "0", [10], device_ms=[4]), in_turn(B, "0", [10], device_ms=[8])]
    found = ratios_of(launches, A).cases[B]
    assert (found.of, found.ratio.estimate) == (DEVICE, pytest.approx(2))


def test_all_blocks_of_a_ratio_go_by_one_clock():
    # Block 1 has no events of the device: the host's clock counts in block 0, too, 30 / 20 ms.
    launches = [
        in_turn(A, "0", [20, 20], device_ms=[10, 10]),
        in_turn(B, "0", [30, 30], device_ms=[25, 25]),
        in_turn(A, "1", [20, 20]),
        in_turn(B, "1", [30, 30]),
    ]
    found = ratios_of(launches, A).cases[B]
    assert found.of == ELAPSED
    assert found.ratio.per_block == pytest.approx([math.log(1.5)] * 2)


def test_a_device_and_a_processor_are_compared_by_the_hosts_clock():
    """a takes 10 ms with its submission, 4 of them on the device; b has no device: 30 / 10."""
    launches = [in_turn(A, "0", [10], device_ms=[4]), in_turn(B, "0", [30])]
    found = ratios_of(launches, A).cases[B]
    assert (found.of, found.ratio.estimate) == (ELAPSED, pytest.approx(3))


def throttled_ratio(*flags):
    """b / a: 8 ms to 4, but 12 in each round in which b's device was throttled (``flags``)."""
    launches = [
        in_turn(A, "0", [10] * len(flags), device_ms=[4] * len(flags), throttled=[0] * len(flags)),
        in_turn(B, "0", [10] * len(flags), device_ms=[12 if flag else 8 for flag in flags],
                throttled=flags),
    ]  # fmt: skip
    found = ratios_of(launches, A).cases[B]
    return pytest.approx(found.ratio.estimate), found.throttled_rounds


def test_rounds_in_which_a_device_was_throttled_are_left_out():
    assert throttled_ratio(0, 0, 0, 0) == (2.0, 0)
    assert throttled_ratio(1, 0, 1, 0) == (2.0, 2)
    # Over half: that is what this device does, and all rounds count. Undisturbed b takes 8 ms by
    # 2 % of the way to its next time of 12: 8 + 0.06 * 4 over 4.
    assert throttled_ratio(1, 1, 1, 0) == ((8 + 0.06 * 4) / 4, 0)
    assert throttled_ratio(1, 1, 1, 1) == (3.0, 0)


#: The orders in which three processes take turns so that each follows each other equally often.
ORDERS = [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1), (1, 0, 2)]


def slowing_down(block, *, told=True):
    """a, a again and b = 2 a in twelve rounds; each burst takes 5 % longer than one before would.

    So what a round shows depends on who came first in it, by up to 10 %.
    """
    cases = [(A, "time", 10), (A, "check", 10), (B, "time", 20)]
    began = [[], [], []]
    for number, arm in enumerate(arm for order in ORDERS * 2 for arm in order):
        began[arm].append(number)
    return [
        in_turn(case, block, [ms * 1.05**number for number in of_arm], job=job,
                began=of_arm if told else None)
        for (case, job, ms), of_arm in zip(cases, began, strict=True)
    ]  # fmt: skip


def test_successive_bursts_are_compared_where_the_speed_changes_within_a_round():
    found = ratios_of(slowing_down("0") + slowing_down("1"), A)
    assert found.cases[B].by == "successive"
    assert found.cases[B].ratio.per_block == pytest.approx([math.log(2)] * 2, abs=1e-3)
    assert found.check.ratio.estimate == pytest.approx(1, abs=1e-3)


def test_a_block_of_two_alone_leaves_the_others_their_way():
    """The other cases of block 1 failed: AB, BA, ... of two, whose halves each know one order."""
    began = {A: [0, 3, 4, 7, 8, 11, 12, 15], B: [1, 2, 5, 6, 9, 10, 13, 14]}
    two = [
        in_turn(case, "1", [ms * 1.05**number for number in began[case]], began=began[case])
        for case, ms in ((A, 10), (B, 20))
    ]
    found = ratios_of(slowing_down("0") + slowing_down("2") + two, A).cases[B]
    assert found.by == "successive"
    assert found.ratio.per_block == pytest.approx([math.log(2)] * 3, abs=1e-3)


def test_the_two_orders_of_a_block_of_two_count_alike():
    """Two that are equal; the second of a round has the caches of the first: 10 % longer.

    One burst of a is quick by chance, so that undisturbed times differ. The median over all nine
    rounds, five of which a began, would be 1.1.
    """
    began = {A: [0, 3, 4, 7, 8, 11, 12, 15, 16], B: [1, 2, 5, 6, 9, 10, 13, 14, 17]}
    times = {case: [10 * 1.1 ** (number % 2) for number in began[case]] for case in began}
    times[A][2] = 7
    two = [
        in_turn(case, str(block), times[case], began=began[case], arms=2)
        for block in range(3) for case in (A, B)
    ]  # fmt: skip
    found = ratios_of(two, A).cases[B]
    assert found.by in ("rounds", "successive")
    assert found.ratio.per_block == pytest.approx([0] * 3, abs=0.01)


def test_a_block_from_elsewhere_costs_no_more_than_seconds():
    """120 processes of 100 bursts would be 1.4 million numbers: they are compared otherwise."""
    numbers = range(100)
    many = [
        in_turn(f"a@{size}/cpu/b1/t1", "0", [10] * 100, began=[120 * n + size for n in numbers])
        for size in range(1, 121)
    ]
    assert InTurn(many).estimate != "successive"
    block = InTurn(many)._blocks["s1/0"]
    assert not block.tells_order
    assert InTurn(many[:90])._blocks["s1/0"].tells_order


def test_where_a_device_was_throttled_rounds_are_left_out_and_compared():
    launches = slowing_down("0")
    turns, ms = launches[2].result.turns, [ns / MS for ns in launches[2].result.latencies_ns[::2]]
    launches[2] = in_turn(B, "0", ms, began=turns.began_ns, throttled=[1] + [0] * 11)
    found = ratios_of(launches, A).cases[B]
    assert found.by in ("undisturbed", "rounds")
    assert found.throttled_rounds == 1


def test_a_run_that_does_not_tell_when_bursts_began_is_compared_by_other_ways():
    assert ratios_of(slowing_down("0", told=False), A).cases[B].by in ("undisturbed", "rounds")
    # Nor are some blocks compared in another way than the others.
    mixed = slowing_down("0") + slowing_down("1", told=False)
    assert ratios_of(mixed, A).cases[B].by in ("undisturbed", "rounds")


def test_successive_bursts_are_compared_by_running_time_where_it_is_known():
    # Two inferences of b take 40 ms at first, of which it waits 20: as long as a, which never does.
    waits = {A: 0.0, B: 0.5}
    launches = []
    for launch in slowing_down("0"):
        turns, ms = launch.result.turns, [ns / MS for ns in launch.result.latencies_ns[::2]]
        lost_ms = [2 * waits[launch.case] * each for each in ms]
        launches.append(in_turn(launch.case, "0", ms, job=launch.job, began=turns.began_ns,
                                lost_ms=lost_ms))  # fmt: skip
    found = ratios_of(launches, A).cases[B]
    assert (found.of, found.by) == (RUNNING, "successive")
    assert found.ratio.estimate == pytest.approx(1, abs=1e-3)
    assert found.waiting == pytest.approx(1, abs=1e-3)


def test_an_arm_that_comes_later_is_part_of_the_block():
    """The ratios of a block are asked for before all of its launches were told."""
    a, again, b = slowing_down("0")
    in_turn_ = InTurn([a, again])
    assert in_turn_.relative_to(A).check.ratio.estimate == pytest.approx(1, abs=0.01)
    in_turn_.add(b)
    assert in_turn_.relative_to(A).cases[B].ratio.estimate == pytest.approx(2, rel=0.01)


def test_waiting_that_differs_in_every_block_is_told():
    launches = []
    for block in range(4):
        lost = 6 + 0.01 * block
        launches += [
            in_turn(A, str(block), [10], lost_ms=[0]), in_turn(B, str(block), [15], lost_ms=[lost]),
        ]  # fmt: skip
    assert ratios_of(launches, A).cases[B].waited


def test_waits_in_lumps_count_in_full():
    """B waits 40 ms in one of four bursts and not at all in the others: 80 over 40 ms running."""
    launches = []
    for block in range(4):
        lump = 40 + 0.1 * block
        launches += [
            in_turn(A, str(block), [10] * 4, lost_ms=[0] * 4),
            in_turn(B, str(block), [10, 10, 10 + lump / 2, 10], lost_ms=[0, 0, lump, 0]),
        ]  # fmt: skip
    found = ratios_of(launches, A).cases[B]
    assert found.ratio.estimate == pytest.approx(1.0)
    assert found.waiting == pytest.approx(0.5, rel=0.01)  # 4 x 10 ms, and 20 an inference of waits
    assert found.waited


def test_waiting_of_less_than_one_per_cent_is_no_flag():
    launches = []
    for block in range(4):
        lost = 0.1 + 0.001 * block
        launches += [
            in_turn(A, str(block), [10], lost_ms=[0]), in_turn(B, str(block), [10], lost_ms=[lost]),
        ]  # fmt: skip
    found = ratios_of(launches, A).cases[B]
    assert found.waiting == pytest.approx(0.005, rel=0.05)  # 0.1 of 2 x 10 ms
    assert not found.waited


def test_the_reference_is_compared_with_itself():
    launches = []
    for block, ms in enumerate([10.0, 10.1, 9.9]):
        launches += [in_turn(A, str(block), [10]), in_turn(A, str(block), [ms], job="check")]
    found = ratios_of(launches, A)
    assert found.check.ratio.estimate == pytest.approx(1, abs=1e-3)
    assert found.trusted


def test_a_case_is_compared_with_both_processes_of_the_reference():
    # One process of a takes 10 ms, the other 40: b with 20 ms is 2 and 0.5 times as long, that is
    # 1 on the log scale; the reference to itself stays 4. Blocks that lack the second count too.
    launches = [
        in_turn(A, "0", [10]), in_turn(A, "0", [40], job="check"), in_turn(B, "0", [20]),
        in_turn(A, "1", [10]), in_turn(B, "1", [20]),
    ]  # fmt: skip
    found = ratios_of(launches, A)
    assert found.cases[B].ratio.per_block == pytest.approx([0, math.log(2)])
    assert found.check.ratio.estimate == pytest.approx(4)
    assert found.letters.keys() == {A, B}
    assert ratios_of(launches, B).cases[A].ratio.per_block == pytest.approx([0, -math.log(2)])


def test_a_reference_that_differs_from_itself_is_not_trusted():
    launches = []
    for block in range(5):
        second = 10.5 + 0.01 * block
        launches += [in_turn(A, str(block), [10]), in_turn(A, str(block), [second], job="check")]
    assert not ratios_of(launches, A).trusted


def test_the_check_stays_that_of_the_run_when_another_case_is_the_reference():
    launches = [
        in_turn(A, "0", [10]), in_turn(A, "0", [10], job="check"), in_turn(B, "0", [20]),
    ]  # fmt: skip
    found = ratios_of(launches, B)
    assert found.cases[A].ratio.estimate == pytest.approx(0.5)
    assert found.check.ratio.estimate == pytest.approx(1)
    assert found.check_of == A


def test_blocks_of_two_sessions_are_not_mixed():
    """Both sessions of a resumed run have a block 0."""
    launches = [in_turn(A, "0", [10]), in_turn(B, "0", [20], session="s2")]
    assert ratios_of(launches, A).cases == {}


def test_cases_are_grouped_by_what_can_be_told_apart():
    launches = []
    for block, noise in enumerate([0.0, 0.01, -0.01, 0.005]):
        launches += [
            in_turn(A, str(block), [10]),
            in_turn(B, str(block), [10 * (1 + noise)]),
            in_turn(C, str(block), [30 * (1 + noise)]),
        ]
    letters = ratios_of(launches, A).letters
    assert letters[A] == letters[B] == "a"
    assert letters[C] == "b"


def test_launches_without_turns_have_no_ratio():
    assert ratios_of([stored_launch(A), stored_launch(B)], A).cases == {}


@pytest.mark.parametrize(
    "turns",
    [
        {"block": "0", "counts": []},
        {"block": "0", "counts": [1, 1]},  # two bursts hold two samples, there are four
        {"block": "0", "counts": [2, 2], "lost_ns": [1]},
        {"block": "0", "counts": [2, 2], "began_ns": [1]},
        {"block": "x" * 99, "counts": [4]},
        {"block": "0", "counts": [0, 4]},
    ],
)
def test_malformed_turns_are_refused(turns):
    with pytest.raises(ValueError, match=r"turns|bursts"):
        stored_launch(A, ms=[1, 2, 3, 4], turns=turns)


def test_page_faults_that_cost_a_part_of_the_time_are_flagged():
    """500 faults an inference; 2 of 20 ms in the kernel are 10 %."""
    turns = {"block": "0", "counts": [2], "minor_faults": 1000, "system_ns": 2 * MS}
    launch = stored_launch(A, ms=[10, 10], turns=turns)
    work = _kernel_work([launch.result], threads=1)
    assert (work.faults_per_inference, work.system_share) == (500, pytest.approx(0.1))
    assert work.is_faulting
    # Of two threads each may have been in the kernel for half of that: 2 of 2 x 20 ms.
    assert _kernel_work([launch.result], threads=2).system_share == pytest.approx(0.05)
    assert not _kernel_work([stored_launch(A).result], threads=1).is_faulting  # alone: not known
