"""What the steps of a ladder cost: by hand, and once with real workers."""

import json
import math

import pytest

from cspbench.attribution.ladder import ladder_times, plan_ladder, sentences
from cspbench.attribution.pair import measure_plan
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.measure.statistics import Interval
from cspbench.models.ladder import Ladder, Part
from tests.attribution.stored import keep_invented_ceilings, measure_briefly

A, B, FIRST, LAST = "a@64", "b@64", "hybrid:a;b;10@64", "hybrid:a;b;01@64"
PLACE = "/opencv-cpu/b1/t1"
LADDER = Ladder("a", "b", (Part("stem", (0,)), Part("head", (1,))), ("A note.",))


class Record:
    def __init__(self, model, ms):
        self.case = f"{model}{PLACE}"
        self.latency_ms = Interval(ms, None, None)
        self.status, self.reason = Status.OK, ""


class Run:
    """A run whose blocks show these times relative to A."""

    name = "r"

    def __init__(self, blocks):
        self.records = [Record(model, 10.0) for model in (A, B, FIRST, LAST)]
        self.in_turn = self
        self._blocks = blocks

    def together(self, base, cases):
        assert base == f"{A}{PLACE}"
        return [
            {f"{model}{PLACE}": ratio for model, ratio in block.items()} for block in self._blocks
        ]


def test_steps_by_hand():
    # A takes 10 ms. Stem first: 10 -> 12 -> 15 in the first block, so stem +2 and head +3. Head
    # first: 10 -> 14 -> 15: head +4, stem +1. Means: stem 1.5, head 3.5. In the second block stem
    # 1.7 and head 3.3. Student, 1 degree of freedom: 1.6 -+ 12.706 x 0.1414 / sqrt(2) = -+ 1.27.
    blocks = [
        {A: 1.0, FIRST: 1.2, LAST: 1.4, B: 1.5},
        {A: 1.0, FIRST: 1.22, LAST: 1.38, B: 1.5},
    ]
    it = ladder_times(Run(blocks), LADDER)
    stem, head = it.steps
    assert (stem.from_a_ms, stem.from_b_ms) == (pytest.approx(2.1), pytest.approx(1.1))
    assert (stem.difference_ms, head.difference_ms) == (pytest.approx(1.6), pytest.approx(3.4))
    assert (stem.low, stem.high) == (pytest.approx(0.329, abs=1e-3), pytest.approx(2.871, abs=1e-3))
    assert it.difference_ms == pytest.approx(5.0)
    assert sum(row["share"] for row in it.rows()) == pytest.approx(1.0)
    said = sentences(it)
    assert said[0].endswith(
        "is slower than A (a@64/opencv-cpu/b1/t1) by 5.00 ms: 15.0 ms instead of 10.0 ms."
    )
    assert "in 2 blocks. Most of the difference is head: +3.40 ms." in said[1]
    assert said[2] == "A note."


def test_cases_that_took_no_turns_have_no_steps():
    with pytest.raises(InputError, match="not measured in the same blocks"):
        ladder_times(Run([]), LADDER)


def test_ends_must_run_alike():
    with pytest.raises(InputError, match="same input"):
        plan_ladder("darknet53@64", "cspdarknet53@96", backend="opencv-cpu", batch=1, threads=1,
                    rounds=2)  # fmt: skip


@pytest.mark.slow
def test_a_real_ladder(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    measure_briefly(monkeypatch)
    keep_invented_ceilings()
    plan, ladder = plan_ladder("resnet10@64", "cspresnet10@64", backend="opencv-cpu", batch=1,
                               threads=1, rounds=2)  # fmt: skip
    run = measure_plan(plan, tmp_path / "results")
    it = ladder_times(run, ladder)
    assert it.blocks >= 2
    assert len(it.steps) == len(ladder.parts)
    assert math.isclose(sum(step.difference_ms for step in it.steps), it.difference_ms)
    json.dumps(it.rows(), allow_nan=False)
