"""From launches to one record a case: status, reason, flags and numbers, by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.store.records import MAX_BAD_ENDS, MAX_LOST, records, undisturbed_first
from cspbench.store.rundir import StoredRun
from tests.launches import stored_launch

CASE = "m@64/cpu/b1/t1"


def launch(
    number=0, *, status="ok", reason="", ms=(10.0,), session="s1", flags=(), job="time", final=False
):
    found = stored_launch(
        CASE, number=number, status=status, reason=reason, ms=ms, session=session,
        flags=list(flags), job=job,
    )  # fmt: skip
    return replace(found, final=final)


def record(launches, rounds=3, planned=None, reason=""):
    meta = {
        "cases": [{"id": CASE, "status": planned, "reason": reason}],
        "suite": {"measure": {"rounds": rounds}},
    }
    (found,) = records(StoredRun(None, meta, list(launches)))
    return found


def ok(count, **changes):
    return [launch(number, **changes) for number in range(count)]


def cut_short(samples):
    """Three launches whose time was over before they were precise."""
    ms = [9.0] * samples
    return [stored_launch(CASE, number=n, ms=ms, stop="max_seconds") for n in range(3)]


# How a case ended (the closed list of vocabulary.Status) ----------------------------------------


@pytest.mark.parametrize(
    ("launches", "status", "reason"),
    [
        pytest.param(ok(3), "ok", "", id="all rounds are good"),
        pytest.param([], "interrupted", "the run ended after 0 of 3 launches", id="never began"),
        pytest.param(ok(2), "interrupted", "the run ended after 2 of 3 launches", id="broken off"),
        pytest.param(
            [launch(0, status="crashed"), launch(1, status="failed", reason="NaN")],
            "failed", "NaN", id="two bad ends: the last one tells",
        ),
        pytest.param(
            [*ok(2), launch(2, status="crashed", job="check")],
            "interrupted", "the run ended after 2 of 3 launches",
            id="the second arm of the reference crashed: nothing of its case is missing",
        ),
        pytest.param(
            [*ok(3), launch(3, status="crashed", job="check")], "ok", "",
            id="and nothing was repeated",
        ),
        pytest.param(
            [*ok(2), launch(2, status="unsupported", reason="no layer", job="replay")],
            "interrupted", "the run ended after 2 of 3 launches",
            id="its layers could not be replayed: nothing of the case is missing",
        ),
        pytest.param(
            [*ok(2), launch(2, status="oom"), launch(3, status="oom", reason="again")],
            "oom", "again", id="given up with good launches before",
        ),
        pytest.param(
            [launch(0, status="failed", reason="NaN")],
            "interrupted", "the run ended after 0 of 3 launches; before that: NaN",
            id="one bad end, and broken off before the second try",
        ),
        pytest.param(
            [launch(0, status="failed"), launch(1, status="failed", reason="NaN"),
             launch(2, status="crashed", session="s2", reason="SIGSEGV")],
            "interrupted", "the run ended after 0 of 3 launches; before that: SIGSEGV",
            id="given up, resumed, and broken off after one more bad end",
        ),
        pytest.param(
            [*ok(1), launch(1, status="lost", reason="scancel"),
             launch(2, status="lost", reason="b1 is lost, and no other board", final=True)],
            "lost", "b1 is lost, and no other board",
            id="the board is lost for good: asking again is in vain",
        ),
        pytest.param(
            [launch(0, status="lost", reason="b1 is lost", final=True),
             launch(1, status="lost", reason="b1 is lost again", session="s2")],
            "interrupted", "the run ended after 0 of 3 launches; before that: b1 is lost again",
            id="lost for good, resumed, and broken off",
        ),
        pytest.param(
            [launch(0, status="timeout", reason="no answer", job="compile")],
            "timeout", "no answer", id="what cannot be compiled is not timed",
        ),
        pytest.param(
            [launch(0, status="failed", reason="NaN"), *ok(3)],
            "ok", "a launch was repeated: NaN", id="one bad end made up for",
        ),
        pytest.param(
            [launch(0, status="unsupported", reason="no operator")],
            "unsupported", "no operator", id="an answer needs no second launch",
        ),
        pytest.param(
            [launch(0, status="unsupported", reason="no op", job="prepare")],
            "unsupported", "no op", id="refused by the exporter",
        ),
        pytest.param(
            [launch(0, status="unavailable", reason="no device"), launch(1, status="crashed")],
            "unavailable", "no device", id="an answer outweighs a failure",
        ),
    ],
)  # fmt: skip
def test_status_and_reason(launches, status, reason):
    found = record(launches)
    assert (found.status, found.reason) == (Status(status), reason)


def test_what_the_plan_knew_is_the_status():
    found = record([], planned="unavailable", reason="no NVIDIA driver is loaded")
    assert (found.status, found.reason) == (Status.UNAVAILABLE, "no NVIDIA driver is loaded")
    assert (found.latency_ms, found.percentile_ms(0.9)) == (None, None)


@given(st.lists(st.sampled_from([s.value for s in Status]), max_size=8), st.integers(1, 5))
def test_a_case_is_ok_exactly_if_it_has_its_good_launches(statuses, rounds):
    found = record([launch(n, status=status) for n, status in enumerate(statuses)], rounds)
    assert (found.status is Status.OK) == (statuses.count("ok") >= rounds)
    ends = [Status(status) for status in statuses if status != "ok"]
    lost = ends.count(Status.LOST)
    given_up = lost >= MAX_LOST or len(ends) - lost >= MAX_BAD_ENDS
    if found.status is not Status.OK and NOT_RUNNABLE.isdisjoint(ends):
        assert found.status is (ends[-1] if given_up else Status.INTERRUPTED)


# Flags ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("launches", "flags"),
    [
        (ok(3), ()),
        (ok(2), ("few_samples",)),  # an interval from two launches means little
        ([], ()),  # not measured: nothing to flag
        ([*ok(2), launch(2, session="s2")], ("resumed",)),
        ([*ok(2), launch(2, flags=["not_steady"])], ("not_steady",)),
        ([*ok(2), launch(2, flags=["unheard-of"])], ()),  # a closed list
        ([*ok(2), launch(2, status="failed", session="s2")], ("few_samples",)),
        # The time was over before the launches had samples for an interval: 3 x 13 are 39.
        (cut_short(13), ("few_samples",)),
        (cut_short(14), ()),
    ],
)
def test_flags(launches, flags):
    assert record(launches).flags == flags


def test_a_disturbed_launch_gives_way_where_there_are_enough_others():
    noisy = launch(0, ms=[99.0], flags=["contended"])
    found = record([noisy, *(launch(n) for n in (1, 2, 3))])
    assert [one.number for one in found.good] == [1, 2, 3]
    assert (found.flags, found.latency_ms.estimate) == ((), 10.0)


def test_a_disturbed_launch_counts_where_there_are_not():
    found = record([launch(0, ms=[99.0], flags=["throttled"]), launch(1), launch(2)])
    assert [one.number for one in found.good] == [0, 1, 2]
    assert found.flags == ("throttled",)


@given(st.lists(st.booleans(), max_size=10), st.integers(1, 6))
def test_which_launches_count_never_depends_on_their_latency(disturbed, rounds):
    launches = [launch(n, flags=["contended"] if bad else []) for n, bad in enumerate(disturbed)]
    slower = [launch(n, ms=[9000 - n], flags=one.flags) for n, one in enumerate(launches)]
    chosen = [one.number for one in undisturbed_first(launches, rounds)]
    assert chosen == [one.number for one in undisturbed_first(slower, rounds)]
    assert chosen == sorted(chosen)
    # All undisturbed ones, and as many others as rounds are still lacking.
    assert len(chosen) == max(disturbed.count(False), min(rounds, len(launches)))


# Numbers ----------------------------------------------------------------------------------------


def test_latency_is_the_median_of_launch_medians():
    # Launch medians: 2, 10 and 5 ms. A launch of many samples weighs no more than any other.
    found = record([launch(0, ms=[1, 2, 99]), launch(1, ms=[10] * 50), launch(2, ms=[4, 6])])
    assert found.latency_ms.estimate == 5.0


def test_percentiles_are_over_all_samples():
    # 1 ... 10 ms: the 90th percentile lies at 0.9 * 9 = 8.1: 9 + 0.1 * (10 - 9) = 9.1.
    found = record([launch(0, ms=range(1, 6)), launch(1, ms=range(6, 11))], rounds=2)
    assert found.percentile_ms(0.90) == pytest.approx(9.1)


@pytest.mark.parametrize(("samples", "printed"), [(299, False), (300, True)])
def test_a_99th_percentile_needs_300_samples(samples, printed):
    found = record([launch(0, ms=[10.0] * samples)], rounds=1)
    assert (found.percentile_ms(0.99) == 10.0) == printed
    assert found.percentile_ms(0.90) == 10.0


def test_records_are_in_plan_order_and_strangers_are_left_out():
    first, second, stranger = (f"{name}@64/fake/b1/t1" for name in "baz")
    meta = {
        "cases": [{"id": name, "status": None, "reason": ""} for name in (first, second)],
        "suite": {"measure": {"rounds": 1}},
    }
    launches = [replace(launch(), case=case) for case in (second, stranger)]
    found = records(StoredRun(None, meta, launches))
    assert [(one.case, one.status.value) for one in found] == [
        (first, "interrupted"), (second, "ok"),
    ]  # fmt: skip
