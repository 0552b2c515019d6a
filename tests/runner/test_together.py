"""Blocks on this machine: what fits together, and real OpenCV workers that take turns."""

import errno
import itertools
import os
import signal
import time
from dataclasses import replace

import pytest

from cspbench.core.statuses import Status
from cspbench.jobs.time import TimeRequest
from cspbench.machine.devices.spec import DEVICES, HOST, Device
from cspbench.measure.sampling import PRECISE_SAMPLES
from cspbench.runner import arms as runner_arms
from cspbench.runner import interleaved, room, together
from cspbench.runner.arms import ArmLostError, WorkerArm
from cspbench.runner.block_request import CHECK, BlockRequest
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.interleaved import run_block
from cspbench.runner.process import Outcome
from cspbench.runner.room import Needs
from cspbench.runner.together import least_rounds
from tests.gating.arms import FakeArm, Machine


def test_a_device_works_for_its_least_time_in_a_block(opencv_job):
    arm = TimeRequest.from_json({**opencv_job, "min_seconds": 0.5})
    assert least_rounds(arm, 2e6) == 0
    on_card = replace(arm, device="cuda")
    # Bursts of 2 x 2 ms, and of one inference of 40 ms: 500 / 4 = 125, 500 / 40 = 12.5.
    assert [least_rounds(on_card, ms * 1e6) for ms in (2, 40)] == [125, 13]


class SlowToLoad(FakeArm):
    """While others load beside it, an inference takes twice as long."""

    def load(self):
        loaded = super().load()
        return replace(loaded, inference_ns=2 * loaded.inference_ns)


def test_rounds_are_planned_by_what_an_inference_takes_once_all_have_loaded():
    machine, planned = Machine({"base": 1e6, "head": 0.5e6}), []

    def rounds(loaded):
        planned.append({name: item.inference_ns for name, item in loaded.items()})
        return 3

    turns = run_block(
        {side: SlowToLoad(machine, side) for side in ("base", "head")},
        itertools.cycle([[0, 1]]), rounds, warm_rounds=2,
    )  # fmt: skip
    assert planned == [{"base": 1e6, "head": 0.5e6}]
    # Bursts of 5 ms.
    counts = {name: [burst.count for burst in bursts] for name, bursts in turns.bursts.items()}
    assert counts == {"base": [5] * 3, "head": [10] * 3}


# Real workers


@pytest.fixture
def request_of(opencv_job):
    """A block of the same OpenCV network several times, with 1, 2, ... threads."""

    def make(count=3, **changes):
        first = TimeRequest.from_json({**opencv_job, "max_seconds": 0.2, "sensors": "none"})
        arms = [first]
        for number in range(2, count + 1):
            case = opencv_job["case"].replace("/t1", f"/t{number}")
            arms.append(TimeRequest.from_json({**first.to_json(), "case": case, **changes}))
        return BlockRequest("7", tuple(arms), reference=0, seed="s")

    return make


def measured(request):
    return list(LocalExecutor().block(request, 60))


def test_arms_take_turns_and_each_gives_a_timing_result(request_of):
    outcomes = dict(measured(request_of()))
    assert set(outcomes) == {0, CHECK, 1, 2}
    results = [outcome.checked("time") for outcome in outcomes.values()]
    assert all(outcome.status is Status.OK for outcome in outcomes.values())
    assert {result.turns.block for result in results} == {"7.0"}
    assert len({len(result.turns.counts) for result in results}) == 1  # as many rounds for all
    for result in results:
        assert sum(result.turns.counts) == len(result.latencies_ns)
        assert all(lost >= 0 for lost in result.turns.lost_ns)
        assert result.load_ns > 0
        assert result.agreement.max_relative_error < 1e-4
        assert result.interference.own_cpu_s > 0


def test_a_case_keeps_its_part_of_the_design_from_block_to_block(request_of, monkeypatch):
    """Whoever starts first, in whatever order the cases were asked for."""
    burst, turns = WorkerArm.burst, []

    def noted(arm, count):
        turns.append(arm._spec.name)
        return burst(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", noted)
    first = request_of(count=4)
    # The cases in another order, in another block: its name draws who starts first.
    second = replace(first, name="8", arms=first.arms[::-1], reference=3)
    orders = []
    for request in (first, second, replace(second, skip=2)):
        turns.clear()
        measured(request)
        orders.append([turns[start : start + 5] for start in range(0, 50, 5)])
    assert orders[0] == orders[1]
    assert orders[2][:8] == orders[1][2:]  # and a block that goes on begins where the last ended


@pytest.mark.parametrize(
    ("target", "seconds", "stop"), [(10.0, 60.0, "target_ci"), (1e-9, 0.5, "max_seconds")]
)
def test_a_single_case_is_a_block_of_one_that_ends_once_its_times_are_enough(
    request_of, target, seconds, stop
):
    (arm,) = request_of(count=1).arms
    arm = replace(arm, target_ci=target, max_seconds=seconds)
    ((number, outcome),) = measured(BlockRequest("7", (arm,)))
    result = outcome.checked("time")
    assert (number, outcome.status, result.stop) == (0, Status.OK, stop)
    assert sum(result.turns.counts) == len(result.latencies_ns)
    assert len(result.turns.running_ns) == len(result.latencies_ns)
    assert result.turns.minor_faults is not None
    # Bursts of about 5 ms: the first look is at a hundred samples.
    if stop == "target_ci":
        assert (
            PRECISE_SAMPLES <= len(result.latencies_ns) < PRECISE_SAMPLES + result.turns.counts[0]
        )
    else:
        assert 0.1 < result.sample_seconds < 3.0


def alone(request_of, **changes):
    (arm,) = request_of(count=1).arms
    return BlockRequest("7", (replace(arm, **changes),))


def at_burst(monkeypatch, number, happens):
    """Let something happen to an arm before it takes its burst ``number``."""
    burst, calls = WorkerArm.burst, itertools.count()

    def taken(arm, count):
        if next(calls) == number:
            happens(arm)
        return burst(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", taken)
    return calls


def test_a_lone_arm_that_is_killed_ends_its_block_at_once(request_of, monkeypatch):
    calls = at_burst(monkeypatch, 7, lambda arm: os.kill(arm.pid, signal.SIGKILL))
    ((_, outcome),) = measured(alone(request_of, target_ci=1e-9, max_seconds=60.0))
    assert outcome.status is Status.CRASHED
    assert outcome.reason == "the worker was ended by SIGKILL in phase 'sample'"
    assert outcome.notes["memory_bound"] in ("cgroup", "watchdog")
    assert next(calls) == 8


def test_ctrl_c_keeps_nothing_of_a_lone_launch_that_was_not_precise_yet(request_of, monkeypatch):
    def interrupt(_arm):
        raise KeyboardInterrupt

    at_burst(monkeypatch, 20, interrupt)
    with pytest.raises(KeyboardInterrupt):
        measured(alone(request_of, target_ci=1e-9, max_seconds=60.0))


def test_a_profile_that_is_lost_costs_no_times(request_of, monkeypatch):
    profile = WorkerArm.profile

    def lost(arm):
        os.kill(arm.pid, signal.SIGKILL)
        return profile(arm)

    monkeypatch.setattr(WorkerArm, "profile", lost)
    ((_, outcome),) = measured(alone(request_of, layers=True))
    assert outcome.status is Status.OK
    assert outcome.checked("time").layers is None


def test_a_case_without_memory_for_its_profiled_model_is_timed_without_it(request_of, monkeypatch):
    load, asked = WorkerArm.load, []

    def loaded(arm):
        asked.append(arm._spec.request.layers)
        if asked[-1]:
            raise ArmLostError("case", "arm_ended", Outcome(Status.OOM, "out of memory"))
        return load(arm)

    monkeypatch.setattr(WorkerArm, "load", loaded)
    for first_only in (False, True):  # on this machine, and on a board of a fleet
        asked.clear()
        request = replace(alone(request_of, layers=True), first_only=first_only)
        ((number, outcome),) = measured(request)
        assert (number, outcome.status, asked) == (0, Status.OK, [True, False])
        assert outcome.checked("time").layers is None


def test_an_arm_that_cannot_load_leaves_its_block(request_of):
    outcomes = dict(measured(request_of(artifact="/nowhere/model.onnx")))
    refused = {Status.UNSUPPORTED, Status.FAILED}  # which one depends on the backend
    assert {outcomes[1].status, outcomes[2].status} <= refused
    assert outcomes[0].status is outcomes[CHECK].status is Status.OK


def test_an_arm_that_is_killed_leaves_its_block_and_the_others_go_on(request_of, monkeypatch):
    burst, calls = WorkerArm.burst, itertools.count()

    def killing(arm, count):
        if next(calls) == 20:
            os.kill(arm.pid, signal.SIGKILL)
        return burst(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", killing)
    outcomes = [outcome for _, outcome in measured(request_of(count=4))]
    assert sorted(outcome.status for outcome in outcomes) == ["crashed", *["ok"] * 4]
    rounds = {len(outcome.checked("time").turns.counts)
              for outcome in outcomes if outcome.status is Status.OK}  # fmt: skip
    assert len(rounds) == 1


def test_a_machine_without_room_for_more_measures_the_rest_alone(request_of, monkeypatch):
    """The guess was too low: while the arms load, the free memory falls below what is spared."""
    alive = []
    start, close = WorkerArm.start, WorkerArm.close
    monkeypatch.setattr(WorkerArm, "start", lambda arm: alive.append(arm) or start(arm))
    monkeypatch.setattr(
        WorkerArm, "close", lambda arm: (arm in alive and alive.remove(arm)) or close(arm)
    )
    monkeypatch.setattr(room, "available_bytes", lambda: 2**33 if len(alive) < 3 else 2**20)
    outcomes = measured(request_of(count=3))
    assert [number for number, _ in outcomes] == [0, CHECK, 1, 2]
    blocks = [outcome.checked("time").turns.block for _, outcome in outcomes]
    assert blocks == ["7.0", "7.0", "7.0", "7.1"]

    # A board of a fleet ends here: its controller asks for the rest again.
    request = replace(request_of(count=3), first_only=True)
    assert [number for number, _ in measured(request)] == [0, CHECK, 1]


def test_the_memory_of_the_reference_is_kept_while_others_load(request_of, monkeypatch):
    """Once an arm lives, 35 of 100 are free, and 20 stay so: of two arms of 10 there is no more."""
    arms = []
    start = WorkerArm.start
    monkeypatch.setattr(WorkerArm, "start", lambda arm: arms.append(arm) or start(arm))
    monkeypatch.setattr(room, "available_bytes", lambda: 35 if arms else 100)
    monkeypatch.setattr(Needs, "of", lambda needs, arm: {HOST: 10})
    monkeypatch.setattr(together, "shuffled", lambda *_: [1, 2, CHECK, 0])  # the reference is last
    request = replace(request_of(count=3), first_only=True)
    assert sorted(number for number, _ in measured(request)) == [0, 1]


@pytest.fixture
def card(monkeypatch):
    """A device with 10 GB of its own, on which OpenCV's networks are made believe to be."""
    told = {"free": 10**10}
    device = Device(
        name="card", summary="an invented card", process_bytes=10**9,
        free_bytes=lambda: told["free"], held_by=lambda pid: None,
    )  # fmt: skip
    monkeypatch.setitem(DEVICES._entries, "card", device)
    return told


def on_card(request, **changes):
    """The same block on the card: the worker does not look at the device."""
    arms = [replace(arm, device="card", **changes) for arm in request.arms]
    return replace(request, arms=tuple(arms))


def test_what_does_not_fit_into_a_card_is_split_in_blocks_with_the_reference(request_of, card):
    """An arm takes 1 + 0.6 GB of the 8 that it may: five, so that each block has three others."""
    outcomes = measured(on_card(request_of(count=5), model_bytes=6 * 10**8))
    assert [number for number, _ in outcomes] == [0, CHECK, 1, 2, 3, 0, CHECK, 4]
    blocks = [outcome.checked("time").turns.block for _, outcome in outcomes]
    assert blocks == ["7.0"] * 5 + ["7.1"] * 3
    assert {outcome.notes["device_room"] for _, outcome in outcomes} == {"estimated"}


def test_a_card_whose_memory_nobody_tells_splits_nothing_and_says_so(request_of, card):
    card["free"] = None
    outcomes = measured(on_card(request_of(count=3), model_bytes=10**12))
    assert [number for number, _ in outcomes] == [0, CHECK, 1, 2]
    assert {outcome.checked("time").turns.block for _, outcome in outcomes} == {"7.0"}
    assert {outcome.notes["device_room"] for _, outcome in outcomes} == {"unknown"}


def test_on_the_host_nothing_is_said_of_a_device(request_of):
    [(_, outcome), *_] = measured(request_of(count=2))
    assert "device_room" not in outcome.notes


def test_rounds_are_kept_while_a_block_goes_on(request_of, monkeypatch):
    monkeypatch.setattr(together, "KEEP_SECONDS", 0.0)
    kept = []
    request = replace(request_of(max_seconds=0.5), keep=kept.append)
    whole = measured(request)
    few, first, last = kept[: together.MIN_ROUNDS - 1], kept[together.MIN_ROUNDS - 1], kept[-1]
    assert few == [[]] * len(few)  # a few rounds say nothing
    for found, rounds in ((first, together.MIN_ROUNDS), (last, len(kept))):
        assert [number for number, _ in found] == [0, CHECK, 1, 2]
        timed = [outcome.checked("time") for _, outcome in found]
        assert [len(result.turns.counts) for result in timed] == [rounds] * 4
        assert {result.turns.block for result in timed} == {"7.0"}
    # The last one holds what the whole block has, but for what is read at its end.
    for (_, so_far), (_, done) in zip(last, whole, strict=True):
        result = so_far.checked("time")
        assert result.interference is None
        assert result.latencies_ns == done.checked("time").latencies_ns
        assert 0 < so_far.seconds <= done.seconds


def test_ctrl_c_keeps_the_rounds_that_were_complete(request_of, monkeypatch):
    burst, calls = WorkerArm.burst, itertools.count()

    def interrupting(arm, count):
        # 4 arms: 2 rounds to warm up, 10 whole rounds, and one burst of the next.
        if next(calls) == 4 * (together.WARM_ROUNDS + 10) + 1:
            raise KeyboardInterrupt
        return burst(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", interrupting)
    block = LocalExecutor().block(request_of(max_seconds=5.0), 60)
    kept = [next(block)[1].checked("time") for _ in range(4)]
    assert [len(result.turns.counts) for result in kept] == [10] * 4
    with pytest.raises(KeyboardInterrupt):
        next(block)


def test_ctrl_c_after_the_last_round_keeps_the_whole_block(request_of, monkeypatch):
    def interrupted(arm):
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerArm, "conditions", interrupted)
    block = LocalExecutor().block(request_of(), 60)
    kept = [next(block)[1].checked("time") for _ in range(4)]
    assert len({len(result.turns.counts) for result in kept}) == 1
    with pytest.raises(KeyboardInterrupt):
        next(block)


@pytest.mark.parametrize("when", ["close", "phase"])
def test_ctrl_c_while_a_block_ends_keeps_the_whole_block(request_of, monkeypatch, when):
    """The sensors are read, and workers end: none of what was measured goes with that."""
    where = {"close": (WorkerArm, "close"), "phase": (together._Block, "_phase")}[when]
    usual = getattr(*where)

    def interrupted(it, *facts):
        if facts != ("sample",):
            signal.raise_signal(signal.SIGINT)
        return usual(it, *facts)

    monkeypatch.setattr(*where, interrupted)
    block = LocalExecutor().block(request_of(), 60)
    kept = [next(block)[1].checked("time") for _ in range(4)]
    assert len({len(result.turns.counts) for result in kept}) == 1
    with pytest.raises(KeyboardInterrupt):
        next(block)


def test_ctrl_c_while_a_block_is_stored_waits_for_the_rest_of_it(request_of):
    block, stored = LocalExecutor().block(request_of(), 60), []

    def store():
        for number, _ in block:
            signal.raise_signal(signal.SIGINT)
            stored.append(number)

    with pytest.raises(KeyboardInterrupt):
        store()
    assert sorted(stored) == [CHECK, 0, 1, 2]


def test_a_launch_is_no_longer_than_what_can_be_kept(request_of, monkeypatch):
    """Quick inferences are many a burst: there are fewer rounds, not a launch that is refused."""
    monkeypatch.setattr(together, "MAX_LAUNCH_VALUES", 800)
    results = [outcome.checked("time") for _, outcome in measured(request_of(max_seconds=5.0))]
    for result in results:
        bursts = len(result.turns.counts)
        assert bursts >= together.MIN_ROUNDS
        assert len(result.turns.running_ns or ()) + together.VALUES_OF_BURST * bursts <= 800


def test_a_worker_that_cannot_be_started_leaves_its_block(request_of, monkeypatch):
    """The system has no more files, processes or threads for it."""
    real, alive = runner_arms.WorkerProcess, []

    def started(*words, **more):
        if len(alive) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        alive.append(real(*words, **more))
        return alive[-1]

    monkeypatch.setattr(runner_arms, "WorkerProcess", started)
    outcomes = [outcome for _, outcome in measured(request_of())]
    assert sorted(outcome.status for outcome in outcomes) == ["failed", "failed", "ok", "ok"]
    [reason] = {outcome.reason for outcome in outcomes if outcome.status is Status.FAILED}
    assert reason == "its worker cannot be started: Too many open files"


def test_ctrl_c_waits_for_no_load(request_of, monkeypatch):
    """One of the loads hangs: a stopped process answers nothing for the 60 seconds of a phase."""
    load, begun = WorkerArm.load, time.monotonic()

    def stopped(arm):
        os.kill(arm.pid, signal.SIGSTOP)
        return load(arm)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerArm, "load", stopped)
    monkeypatch.setattr(interleaved, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(request_of())
    assert time.monotonic() - begun < 30


def test_no_process_is_left_when_a_block_is_interrupted(request_of, monkeypatch):
    def interrupted(arm, count):
        raise KeyboardInterrupt

    pids, start = [], WorkerArm.start
    monkeypatch.setattr(WorkerArm, "start", lambda arm: start(arm) or pids.append(arm.pid))
    monkeypatch.setattr(WorkerArm, "burst", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measured(request_of())
    assert len(pids) == 4
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_suite_may_do_without_a_warm_up(request_of):
    outcomes = measured(request_of(count=2, warmup_seconds=0.0))
    assert [outcome.status for _, outcome in outcomes] == [Status.OK] * 3


def test_a_worker_of_a_retaining_allocator_is_told_before_it_starts(request_of, monkeypatch):
    seen, burst = [], WorkerArm.burst

    def noting(arm, count):
        with open(f"/proc/{arm.pid}/environ", "rb") as file:
            seen.append((arm._spec.request.case.id, b"MALLOC_MMAP_MAX_=0" in file.read()))
        return burst(arm, count)

    monkeypatch.setattr(WorkerArm, "burst", noting)
    case = "yolov3-tiny-prn@96/opencv-cpu[allocator=retained]/b1/t1"
    request = request_of(count=2)
    arms = (request.arms[0], TimeRequest.from_json({**request.arms[0].to_json(), "case": case}))
    outcomes = measured(BlockRequest("7", arms, reference=0, seed="s"))
    assert [outcome.status for _, outcome in outcomes] == [Status.OK] * 3
    assert dict(seen) == {arms[0].case.id: False, case: True}
