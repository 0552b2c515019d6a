import functools
import itertools
import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.gating import duet
from cspbench.gating.decide import InterimAnalysis
from cspbench.gating.duet import (
    SIDES,
    Block,
    measure_block,
    measure_blocks,
    rounds_of,
    starting_order,
)
from cspbench.gating.measure import CaseData, measure_case
from cspbench.gating.verdict import Unmeasured
from cspbench.jobs.burst import BurstResult
from cspbench.jobs.load import Conditions, LoadRequest, LoadResult
from cspbench.measure.ratios import typical_estimate
from cspbench.runner import arms as runner_arms
from cspbench.runner.arms import ArmLostError, ArmSpec, Burst, Loaded, WorkerArm
from cspbench.suite.suite import Gate
from tests.gating.arms import FakeArm, Machine, lost, starving_head


def take(machine, count, pairs=4):
    return taken(machine.make, count, pairs)


def taken(make, count, pairs=4):
    """So many blocks of one case; raises the error of an arm that is lost."""
    found = []
    for _, block in itertools.islice(measure_blocks({"the case": make}, pairs), count):
        if isinstance(block, ArmLostError):
            raise block
        found.append(block)
    return found


def steps(machine, what):
    return [entry[1] for entry in machine.log if entry[0] == what]


# Order


def test_bursts_alternate_in_abba_order_and_the_start_order_swaps():
    machine = Machine({"base": 1e6, "head": 1e6})
    first, second = take(machine, 2)
    a, b = "base", "head"
    assert steps(machine, "start") == steps(machine, "load") == [a, b, b, a]
    taken = "".join({a: "A", b: "B"}[side] for side in steps(machine, "burst"))
    assert taken == "ABBAABBA" + "BAABBAAB"
    assert (first.first, second.first) == (a, b)
    assert len(first.base) == len(first.head) == 4


def test_pairs_of_a_throttled_device_do_not_count_up_to_half_of_them():
    def block(*throttled):
        bursts = [
            Burst(ms * 1e6, 1, None, BurstResult(ns=1, count=1, throttled_ns=held))
            for held, ms in ((held, 12 if held else 8) for held in throttled)
        ]
        steady = Burst(4e6, 1, None, BurstResult(ns=1, count=1, throttled_ns=0))
        return Block(0, "base", "duet", (steady,) * len(bursts), tuple(bursts), 1.0)

    some = block(7, 0, 7, 0)
    assert (some.inference_ns("head"), some.throttled_pairs) == ([8e6, 8e6], 2)
    most = block(7, 7, 7, 0)
    assert (len(most.inference_ns("base")), most.throttled_pairs) == (4, 0)


def test_each_side_starts_first_as_often_in_every_place():
    """Two blocks keep to a processor; the first and the second of them are unlike."""
    first = [starting_order(number)[0] for number in range(8)]
    assert first == ["base", "head", "head", "base", "head", "base", "base", "head"]
    of_four = [(side, number % 2) for number, side in enumerate(first[:4])]
    assert len(set(of_four)) == 4
    of_eight = [(side, number % 2, number // 2 % 2) for number, side in enumerate(first)]
    assert len(set(of_eight)) == 8


def test_both_sides_go_by_one_clock():
    # The base's device has events, 4 of 10 ms of the host's clock; the head's has none: 9 ms.
    base = Burst(8e6, 2, None, BurstResult(ns=8_000_000, count=2, latencies_ns=[10_000_000] * 2))
    head = Burst(18e6, 2, None, BurstResult(ns=18_000_000, count=2, latencies_ns=[9_000_000] * 2))
    both = Block(0, "base", "duet", (base,) * 2, (base,) * 2, 1.0)
    assert both.inference_ns("base") == [4e6, 4e6]
    one = Block(1, "head", "duet", (base,) * 2, (head,) * 2, 1.0)
    assert (one.inference_ns("base"), one.inference_ns("head")) == ([10e6] * 2, [9e6] * 2)
    # So do the blocks of a case: 10 and 10 ms, then 10 and 9 ms.
    data = CaseData(Unmeasured("arm_ended", ""), [both, one])
    assert data.of == "elapsed time"
    assert data.estimates == pytest.approx([0, math.log(0.9)])
    # What the head waited says nothing as long as nobody knows what the base did.
    known = replace(head, lost_ns=4e6)
    mixed = Block(2, "base", "duet", (base,) * 2, (known,) * 2, 1.0)
    assert mixed.running_ns("base") == [10e6] * 2
    assert mixed.running_ns("head") == [9e6] * 2
    assert CaseData(data.outcome, [mixed]).with_all_waits == pytest.approx([math.log(0.9)])


def test_processes_one_after_the_other_are_pairs_of_two_kinds():
    # ABBA on a machine that slows down: the first pair of processes says 1.1, the second 0.9.
    times = [10.0] * 4, [11.0] * 2 + [9.0] * 2
    base, head = (tuple(Burst(ms * 1e6, 1) for ms in side) for side in times)
    block = Block(0, "base", "pairs", base, head, 1.0)
    assert block.kinds == [[0, 1], [2, 3]]
    assert block.estimate(*map(block.inference_ns, SIDES)) == pytest.approx(math.log(0.99) / 2)


@pytest.mark.parametrize(("ns", "each"), [(1e6, 40), (11e6, 18), (1e9, 10)])
def test_a_block_of_pairs_takes_as_many_bursts_as_one_of_a_duet(ns, each):
    machine = Machine({"base": ns, "head": 1.5 * ns})
    bursts = measure_block(machine.make, "pairs", SIDES, 240)
    assert [len(bursts[side]) for side in SIDES] == [2 * each, 2 * each]


def test_loads_on_a_device_wait_for_one_another(monkeypatch):
    """Libraries choose algorithms by timing them; what runs on a processor loads side by side."""
    inside, most = [0], []

    def ask(self, *_):
        inside[0] += 1
        most.append(inside[0])
        time.sleep(0.05)
        inside[0] -= 1
        return LoadResult(1e6, True, {}, None, 0)

    monkeypatch.setattr(WorkerArm, "_ask", ask)
    for device, expected in (("cuda", 1), ("cpu", 2)):
        case = Case.parse("a@64/opencv-cpu/b1/t1")
        request = LoadRequest(case, Path("none.onnx"), device=device)
        most.clear()
        with ThreadPoolExecutor(2) as pool:
            for loading in [pool.submit(WorkerArm(ArmSpec(str(n), request)).load) for n in (0, 1)]:
                loading.result()
        assert max(most) == expected


def test_a_burst_of_the_slower_side_lasts_five_ms():
    machine = Machine({"base": 0.5e6, "head": 1e6})
    (block,) = take(machine, 1)
    # 5 ms / 1 ms = 5 inferences, on both sides.
    assert {burst.count for burst in block.base + block.head} == {5}
    assert block.inference_ns("head") == [1e6] * 4


@pytest.mark.parametrize(
    ("slowest_ns", "rounds"),
    # 0.8 s hold 80 pairs of 5 ms, 40 of 10 ms; one of 1 s is run 20 times all the same.
    [(1e6, 80), (10e6, 40), (11e6, 36), (1e9, 20)],
)
def test_a_block_lasts_about_as_long_for_any_network(slowest_ns, rounds):
    arm = Loaded(slowest_ns, Conditions([0], 0))
    assert rounds_of({"base": arm, "head": arm}, 240) == rounds
    assert rounds_of({"base": arm, "head": arm}, 4) == 4  # of a test


def test_a_burst_has_at_least_one_inference():
    (block,) = take(Machine({"base": 1e9, "head": 1e9}), 1)
    assert block.base[0].count == 1


def test_processes_are_replaced_and_all_are_ended():
    machine = Machine({"base": 1e6, "head": 1e6})
    take(machine, 3)
    assert (machine.most_alive, machine.alive) == (2, 0)
    assert len(steps(machine, "start")) == 6


# Several cases


class OneOfSeveral(FakeArm):
    """An arm of a case; the machine logs the case's name with the side."""

    def __init__(self, machine, name, side):
        super().__init__(machine, side)
        self.name = name

    def _step(self, what, *facts):
        self.machine.log.append((what, f"{self.name}-{self.side}"))
        if (self.name, what) in self.machine.fail:
            raise self.machine.fail[self.name, what]


def several(machine, *names):
    return {name: functools.partial(OneOfSeveral, machine, name) for name in names}


def blocks_of(makes, count, **more):
    return list(itertools.islice(measure_blocks(makes, 4, **more), count))


def test_cases_live_together_and_take_their_turns_one_after_the_other():
    machine = Machine({"base": 1e6, "head": 1e6})
    found = blocks_of(several(machine, "x", "y"), 2, together=2)
    assert [name for name, _ in found] == ["x", "y"]
    assert (machine.most_alive, machine.alive) == (4, 0)
    assert steps(machine, "start") == ["x-base", "x-head", "y-base", "y-head"]
    whats = [what for what, *_ in machine.log]
    assert whats[: whats.index("burst")].count("load") == 4  # nothing is timed before all are there
    x, y = ["x-base", "x-head"], ["y-base", "y-head"]
    assert steps(machine, "burst") == [*x, *x[::-1], *x, *x[::-1], *y, *y[::-1], *y, *y[::-1]]


def test_no_more_cases_live_together_than_can_load_side_by_side():
    machine = Machine({"base": 1e6, "head": 1e6})
    blocks_of(several(machine, "x", "y", "z"), 3, together=2)
    assert machine.most_alive == 4  # x and y, then z


def test_a_case_leaves_when_it_is_decided_and_the_others_go_on():
    machine, found = Machine({"base": 1e6, "head": 1e6}), []
    makes = several(machine, "x", "y")
    for name, block in measure_blocks(makes, 4, together=2):
        found.append((name, block.number))
        if name == "x" or block.number == 1:
            del makes[name]
    assert found == [("x", 0), ("y", 0), ("y", 1)]


@pytest.mark.parametrize("what", ["start", "load", "burst"])
def test_a_case_whose_arm_is_lost_costs_the_others_nothing(what):
    machine = Machine({"base": 1e6, "head": 1e6}, fail={("y", what): lost("head")})
    found = blocks_of(several(machine, "x", "y", "z"), 5, together=3)
    assert [(name, isinstance(it, ArmLostError)) for name, it in found] == [
        ("x", False), ("y", True), ("z", False), ("x", False), ("z", False),
    ]  # fmt: skip
    assert machine.alive == 0


def test_a_case_without_room_beside_the_others_is_measured_after_them(monkeypatch):
    machine = Machine({"base": 1e6, "head": 1e6})
    # The models of a case take half of the memory, once they are loaded.
    alive = lambda what: min(len(steps(machine, what)), machine.alive)  # noqa: E731
    monkeypatch.setattr(duet, "available_bytes", lambda: 100 - 25 * alive("load"))
    found = blocks_of(several(machine, "x", "y", "z"), 6, together=3)
    assert [(name, len(block.base)) for name, block in found] == [
        (name, 4) for name in (*"xyz", *"xyz")
    ]
    assert machine.most_alive == 2  # no arm of y was started beside those of x


def test_cases_load_one_after_the_other_until_it_is_known_that_they_fit(monkeypatch):
    machine = Machine({"base": 1e6, "head": 1e6})
    asked = []
    monkeypatch.setattr(duet, "available_bytes", lambda: asked.append(machine.alive) or 100)
    makes = several(machine, "x", "y", "z")
    for name, block in measure_blocks(makes, 4, together=3):
        if (name, block.number) == ("z", 1):
            break
    # Each block asks before its first load. In the first x had loaded when y was to, then both.
    assert asked == [0, 2, 4, 0]


# What goes wrong


@pytest.mark.parametrize("what", ["start", "load", "burst"])
@pytest.mark.parametrize("side", ["base", "head"])
def test_a_lost_arm_ends_the_duet_and_both_processes(side, what):
    machine = Machine({"base": 1e6, "head": 1e6}, fail={(side, what): lost(side)})
    with pytest.raises(ArmLostError, match=f"the {side}'s worker: crashed: ended by SIGKILL"):
        take(machine, 1)
    assert machine.alive == 0


def test_arms_under_other_conditions_are_not_compared():
    machine = Machine({"base": 1e6, "head": 1e6},
                      conditions={"head": Conditions([1], 0)})  # fmt: skip
    with pytest.raises(ArmLostError) as error:
        take(machine, 1)
    assert error.value.reason == "unlike_arms"


def test_running_time_leaves_out_lost_time():
    machine = Machine({"base": 1e6, "head": 2e6}, lost_share={"head": 0.5})
    (block,) = take(machine, 1)
    assert block.inference_ns("head") == [2e6] * 4
    assert block.running_ns("head") == block.running_ns("base") == [1e6] * 4


def test_models_that_do_not_fit_together_are_measured_by_pairs_of_processes():
    no_room = lost("head", status=Status.OOM, text="over the memory limit")
    machine = Machine({"base": 0.5e6, "head": 1e6}, fail={("head", "load"): no_room})
    first, _second = take(machine, 2)
    assert first.schedule == "pairs"
    a, b = "base", "head"
    loaded = steps(machine, "load")
    assert loaded[2:] == [a, b, b, a, b, a, a, b]  # after the attempt to have both
    assert machine.log.count(("burst", a, 10)) == machine.log.count(("burst", b, 5)) == 8
    estimate = first.estimate(*map(first.inference_ns, SIDES))
    assert estimate == pytest.approx(0.6931, abs=1e-4)  # log 2


def test_a_model_that_does_not_fit_alone_is_lost():
    machine = Machine({"base": 1e6, "head": 1e6})

    class Full(Machine):
        def make(self, side):
            machine.fail[("head", "load")] = lost("head", status=Status.OOM, text="too large")
            return machine.make(side)

    with pytest.raises(ArmLostError, match="oom: too large"):
        take(Full({}), 1)


def test_what_a_burst_behind_the_other_sides_takes_longer_is_no_difference():
    """The second burst of each pair takes 10 % longer; the head does 3 % more.

    Quotients are 1.03 * 1.1 = 1.133 and 1.03 / 1.1 = 0.936 in turn, and their median is either one,
    by which pairs a disturbance takes away. The mean of both medians is 1.03.
    """
    base = [Burst(1000 * (1.1 if number % 2 else 1.0), 1, 0.0, None) for number in range(21)]
    head = [Burst(1030 * (1.0 if number % 2 else 1.1), 1, 0.0, None) for number in range(21)]
    block = Block(0, "base", "duet", tuple(base), tuple(head), 1.0)
    assert block.estimate(*map(block.inference_ns, SIDES)) == pytest.approx(math.log(1.03))
    assert typical_estimate(block.inference_ns("base"), block.inference_ns("head")) > 0.12


def test_waits_that_come_in_lumps_are_seen():
    """Of the head's four bursts of 5 ms one waits 100 ms: 120 ms in all for 20 ms of work."""
    base = (Burst(5e6, 5, 0.0),) * 4
    head = (*base[:3], Burst(105e6, 5, 100e6))
    block = Block(0, "base", "duet", base, head, 1.0)
    assert (block.waited("base"), block.waited("head")) == (0.0, pytest.approx(math.log(6)))
    data = CaseData(Unmeasured("arm_ended", ""), [block], one_thread=True)
    assert data.running_estimates == [0.0]  # 1 ms against 1 ms, in the median pair
    assert data.elapsed_estimates == [pytest.approx(math.log(6))]


def test_lumps_that_no_median_shows_leave_a_case_of_several_threads_unmeasured():
    """Of every eight bursts of the head one waits as long as ten take: 18 / 8 in all."""

    class Lumpy(FakeArm):
        bursts = 0

        def burst(self, count):
            answer = super().burst(count)
            self.bursts += 1
            held = self.side == "head" and self.bursts % 8 == 0
            wait = (10 + 0.01 * self.bursts) * answer.ns if held else 0.0
            return Burst(answer.ns + wait, count, wait)

    machine = Machine({"base": 1e6, "head": 1e6})
    data = measure_case(
        lambda side: Lumpy(machine, side), Gate(), (InterimAnalysis(8, 0.02),), pairs=16
    )
    assert isinstance(data.outcome, Unmeasured)
    assert data.outcome.reason == "starved"
    assert "waiting for a processor made the head slower by" in str(data.outcome)
    assert fmean(data.elapsed_estimates) == pytest.approx(0.0, abs=1e-9)
    assert fmean(data.with_all_waits) == pytest.approx(math.log(18 / 8), rel=0.05)


# Real workers with a real OpenCV model


@pytest.fixture
def arms(opencv_job):
    """Makes real arms and remembers the last one of each side."""
    made = {}

    def make(side):
        request = LoadRequest.from_json({**opencv_job, **opencv_job.get(side, {})})
        made[side] = WorkerArm(ArmSpec(side, request, timeout_seconds=60))
        return made[side]

    make.made = made
    return make


def one(make, pairs=6):
    (block,) = taken(make, 1, pairs)
    return block


def test_a_real_block(arms):
    block = one(arms)
    assert len(block.base) == 6
    assert all(burst.ns > 0 for burst in block.base + block.head)
    assert all(0 <= burst.lost_ns <= burst.ns for burst in block.base + block.head)
    assert all(sum(burst.result.latencies_ns) == burst.ns for burst in block.base)
    # Both processes were ended with the block.
    assert arms.made["base"].pid is None


def test_both_sides_keep_to_a_processor_or_none_does(arms, opencv_job, monkeypatch):
    """An engine that chooses its processors itself is measured beside one that does so, too."""
    keep_to, affinities = WorkerArm.keep_to, {}

    def kept(arm, processors):
        now = keep_to(arm, processors)
        if arm._spec.name == "head":  # as OpenVINO does
            now = replace(now, affinity=before[:])
        return now

    def noted(arm, count):
        affinities[arm._spec.name] = sorted(os.sched_getaffinity(arm.pid))
        return burst(arm, count)

    burst, before = WorkerArm.burst, sorted(os.sched_getaffinity(0))
    monkeypatch.setattr(WorkerArm, "burst", noted)
    if len(before) < 2:
        pytest.skip("there is but one processor")
    one(arms)
    assert [len(found) for found in affinities.values()] == [1, 1]
    monkeypatch.setattr(WorkerArm, "keep_to", kept)
    one(arms)
    assert affinities["base"] == before


def test_extra_work_in_one_arm_is_seen(arms, opencv_job):
    opencv_job["head"] = {"extra_share": 0.5}
    block = one(arms)
    estimate = block.estimate(*map(block.inference_ns, SIDES))
    assert 0.1 < estimate < 1.0  # log(1.5) = 0.41, beside the other tests


def in_the_middle(arms, act):
    """Call ``act`` with the head's process id once it takes bursts."""
    original = WorkerArm.burst
    calls = itertools.count()

    def burst(arm, count):
        if next(calls) == 3:
            act(arms.made["head"].pid)
        return original(arm, count)

    return burst


def test_a_killed_arm_is_lost(arms, monkeypatch):
    monkeypatch.setattr(
        WorkerArm, "burst", in_the_middle(arms, lambda pid: os.kill(pid, signal.SIGKILL))
    )
    with pytest.raises(ArmLostError, match="SIGKILL") as error:
        one(arms)
    assert (error.value.arm, error.value.reason) == ("head", "arm_ended")


def test_a_stopped_arm_is_lost(arms, monkeypatch):
    monkeypatch.setattr(runner_arms, "BURST_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(runner_arms, "BURST_TIMEOUT_FACTOR", 5.0)
    monkeypatch.setattr(
        WorkerArm, "burst", in_the_middle(arms, lambda pid: os.kill(pid, signal.SIGSTOP))
    )
    with pytest.raises(ArmLostError) as error:
        one(arms)
    assert (error.value.arm, error.value.reason) == ("head", "no_answer")


@pytest.mark.slow
def test_a_starved_arm_is_noticed(arms, monkeypatch):
    with starving_head(monkeypatch):
        measured = taken(arms, 2, 30)
    assert min(block.waited("head") - block.waited("base") for block in measured) > 0.3


def test_a_reniced_arm_is_not_compared(arms, monkeypatch):
    monkeypatch.setattr(
        WorkerArm, "burst",
        in_the_middle(arms, lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 15)),
    )  # fmt: skip
    with pytest.raises(ArmLostError) as error:
        one(arms)
    assert error.value.reason == "unlike_arms"


def test_a_model_that_computes_something_else_is_lost(arms, opencv_job, tmp_path):
    import numpy as np

    with np.load(opencv_job["reference"]) as stored:
        wrong = {name: stored[name] + name.startswith(("arr_", "input_"))
                 if stored[name].dtype == np.float32 else stored[name]
                 for name in stored.files}  # fmt: skip
    np.savez(tmp_path / "wrong.npz", **wrong)
    opencv_job["head"] = {"reference": str(tmp_path / "wrong.npz")}
    with pytest.raises(ArmLostError, match=r"Disagreement: outputs differ from those of torch"):
        one(arms)
