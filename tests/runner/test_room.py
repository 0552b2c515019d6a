"""What fits into memory together: by hand, and for any sizes."""

import resource
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.jobs.time import TimeRequest
from cspbench.machine.devices.spec import DEVICES, HOST, Device
from cspbench.runner import room
from cspbench.runner.block_request import CHECK
from cspbench.runner.room import (
    FILES_OF_WORKER,
    OPEN_FILES,
    Needs,
    free_room,
    packed,
    without_spare,
)

GB = 10**9


def on_host(*sizes):
    return {number: {HOST: size} for number, size in enumerate(sizes)}


def test_all_that_fits_is_one_block_with_the_reference_twice():
    assert packed(on_host(10, 10, 10), reference=0, capacity={HOST: 40}) == [(0, CHECK, 1, 2)]


def test_what_does_not_fit_is_split_into_blocks_that_share_the_reference():
    # 2 x 10 for the reference leave 20 of 40: two others a block.
    made = packed(on_host(10, 10, 10, 10), reference=0, capacity={HOST: 40})
    assert made == [(0, CHECK, 1, 2), (0, CHECK, 3)]


def test_what_does_not_fit_beside_the_reference_is_alone():
    assert packed(on_host(10, 35, 10), reference=0, capacity={HOST: 40}) == [(0, CHECK, 2), (1,)]


def test_what_does_not_fit_beside_both_arms_of_the_reference_is_beside_one():
    assert packed(on_host(10, 30, 10), reference=0, capacity={HOST: 40}) == [(0, CHECK, 2), (0, 1)]
    # Of two of 10 and another one of 10 only two fit into 25: both ratios hold all the same.
    assert packed(on_host(10, 10, 10), reference=0, capacity={HOST: 25}) == [(0, 1), (0, 2)]
    # One that is alone comes last: a board of a fleet measures the first block only.
    assert packed(on_host(10, 20, 10), reference=0, capacity={HOST: 25}) == [(0, 2), (1,)]


def test_a_small_board_measures_one_at_a_time():
    assert packed(on_host(10, 10, 10), reference=0, capacity={HOST: 15}) == [(0,), (1,), (2,)]


def test_without_a_reference_nothing_is_measured_twice():
    assert packed(on_host(10, 10), reference=None, capacity={HOST: 15}) == [(0,), (1,)]


def test_each_memory_bounds_what_is_in_it():
    # The card: 2 x 30 for the reference leave 40 of 100, one other of 30 a block. The machine: of
    # 100 the reference takes 2 x 10, so all fit. Arm 2 is on the processor and fits into each.
    on_card = {HOST: 10, "cuda": 30}
    needs = {0: on_card, 1: on_card, 2: {HOST: 10}, 3: on_card}
    made = packed(needs, reference=0, capacity={HOST: 100, "cuda": 100})
    assert made == [(0, CHECK, 1, 2), (0, CHECK, 3)]


def test_a_memory_of_which_nothing_is_known_bounds_nothing():
    large = {HOST: 10, "cuda": 10**12}
    needs = {0: large, 1: large, 2: large}
    assert packed(needs, reference=0, capacity={HOST: 100}) == [(0, CHECK, 1, 2)]


def test_what_a_card_cannot_hold_beside_the_reference_is_alone():
    needs = {0: {HOST: 1, "cuda": 30}, 1: {HOST: 1, "cuda": 80}, 2: {HOST: 1, "cuda": 40}}
    made = packed(needs, reference=0, capacity={HOST: 100, "cuda": 100})
    assert made == [(0, CHECK, 2), (1,)]


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=12),
    st.integers(1, 200),
    st.none() | st.integers(1, 200),
    st.booleans(),
)
def test_every_arm_is_measured_and_no_block_is_too_large(sizes, host, card, with_reference):
    needs = {number: {HOST: one, "cuda": two} for number, (one, two) in enumerate(sizes)}
    capacity = {HOST: host} if card is None else {HOST: host, "cuda": card}
    blocks = packed(needs, 0 if with_reference else None, capacity)
    arms = [arm for block in blocks for arm in block if arm != CHECK]
    assert set(arms) == set(needs)
    assert len(arms) == len(set(arms)) + arms.count(0) - 1
    for block in blocks:
        if len(block) > 1:
            for memory, total in capacity.items():
                assert sum(needs[0 if arm == CHECK else arm][memory] for arm in block) <= total


# What an arm takes

#: Of every arm on whatever device.
FILES = {OPEN_FILES: 3}


@pytest.fixture
def arm(opencv_job, tmp_path, monkeypatch):
    """An arm on an invented card that takes 1 GB of a process, with a file of 3 kB."""
    held = {7: 5 * GB}
    card = Device(
        name="card", summary="an invented card", process_bytes=GB,
        free_bytes=lambda: 10 * GB, held_by=held.get,
    )  # fmt: skip
    monkeypatch.setitem(DEVICES._entries, "card", card)
    file = tmp_path / "model.onnx"
    file.write_bytes(bytes(3000))
    found = TimeRequest.from_json({**opencv_job, "artifact": file})
    return replace(found, device="card")


def test_a_guess_is_the_process_and_what_the_model_holds(arm):
    # On the machine a library at work and four copies of the file; on the card what the analysis
    # says of weights and activations, or else the file.
    assert Needs().of(replace(arm, device=HOST)) == {HOST: 400 * 2**20 + 4 * 3000, **FILES}
    assert Needs().of(arm) == {HOST: 400 * 2**20 + 4 * 3000, "card": GB + 3000, **FILES}
    assert Needs().of(replace(arm, model_bytes=2 * GB))["card"] == 3 * GB


def test_on_the_host_activations_count_too(arm):
    # Weights (the file) and activations are 2 GB; with a profiler a second session has its own.
    here = replace(arm, device=HOST, model_bytes=2 * GB)
    assert Needs().of(here) == {HOST: 400 * 2**20 + 4 * 3000 + 2 * GB - 3000, **FILES}
    both = Needs().of(replace(here, layers=True))[HOST]
    assert both == 400 * 2**20 + 2 * (4 * 3000 + 2 * GB - 3000)
    assert Needs().of(replace(arm, model_bytes=2 * GB))[HOST] == 400 * 2**20 + 4 * 3000


def test_what_was_seen_of_a_worker_replaces_the_guess(arm):
    needs = Needs()
    needs.note(arm, 300, pid=7)
    assert needs.of(arm) == {HOST: 300, "card": 5 * GB, **FILES}
    needs.note(arm, 200, pid=7)
    assert needs.of(arm)[HOST] == 300  # no less than before
    # In a container the driver does not list the process: the guess stays.
    needs = Needs()
    needs.note(arm, 300, pid=8)
    assert needs.of(arm) == {HOST: 300, "card": GB + 3000, **FILES}
    # Another case is another guess.
    assert needs.of(replace(arm, layers=True))[HOST] == 400 * 2**20 + 8 * 3000


def test_free_memory_is_of_the_machine_and_of_devices_that_tell(arm, monkeypatch):
    monkeypatch.setattr(room, "available_bytes", lambda: 4 * GB)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert free_room([HOST, arm.device]) == {HOST: 4 * GB, "card": 10 * GB}
    silent = Device(name="silent", summary="says nothing")
    monkeypatch.setitem(DEVICES._entries, "silent", silent)
    assert free_room([HOST, "silent"]) == {HOST: 4 * GB}
    assert without_spare({HOST: 10, "card": 100}) == {HOST: 8, "card": 80}


def test_workers_are_no_more_than_files_may_be_open(monkeypatch):
    """Of 1,024 files some are open already; 400 workers would take 1,200."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    free = free_room([HOST])[OPEN_FILES]
    assert 0 < free < 1024
    needs = {arm: {OPEN_FILES: FILES_OF_WORKER} for arm in range(400)}
    blocks = packed(needs, 0, {OPEN_FILES: free})
    assert len(blocks) > 1
    assert all(FILES_OF_WORKER * len(block) <= free for block in blocks)
    assert {arm for block in blocks for arm in block} == {CHECK, *needs}
