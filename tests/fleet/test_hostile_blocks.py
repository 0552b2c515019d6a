"""Boards that answer anything to a block: every place of one arm's report with every bad value.

An honest answer for three cases and the reference's second arm is changed in one place. Each case
then has an outcome, and no board says which launches took turns.
"""

import copy
import itertools
import json
import threading
from collections import Counter

import pytest

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet.answers import read_answer
from cspbench.fleet.executor import BoardExecutor
from cspbench.jobs.time import TimeRequest
from cspbench.runner.block_request import CHECK, BlockRequest
from cspbench.runner.plan import plan_suite
from cspbench.runner.progress import Silent
from cspbench.runner.run import new_run
from cspbench.runner.session import Session
from cspbench.suite.suite import Measure, Suite
from cspbench.views.frames import load
from tests.fleet.test_hostile_answers import (
    BAD,
    MS,
    REPORTED,
    NoFiles,
    changed,
    home,
    places,
    text_of,
)

__all__ = ["home"]
CASES = tuple(Case.parse(f"yolov3-tiny-prn@96/fake{ms}/b1/t1") for ms in ("", "[ms=2]", "[ms=3]"))
ROUNDS = 8


def reported(arm, ms=10):
    """An honest report of an arm whose inferences all take so many milliseconds."""
    turns = {"block": "4.0", "counts": [1] * ROUNDS, "lost_ns": [0] * ROUNDS, "minor_faults": 0,
             "system_ns": 0}  # fmt: skip
    answer = {**REPORTED["answer"], "latencies_ns": [ms * MS] * ROUNDS, "turns": turns}
    return {**copy.deepcopy(REPORTED), "arm": arm, "flags": [], "answer": answer}


class BlockClient:
    """The client of a fleet with one board; ``answer`` makes its answer to a message."""

    def __init__(self, board, answer):
        self._board, self._answer = board, answer
        self._numbers = itertools.count()
        self.asked = 0

    def boards(self):
        return [self._board]

    def new_launch(self):
        return f"s-{next(self._numbers)}"

    def note_late(self, launches):
        pass

    def ask(self, board, request, *, data=b"", launch="", seconds, queue_seconds, waits=None):
        self.asked += 1
        return read_answer(self._answer(json.loads(request)), board.name)


def honest(message):
    """Outcomes of all arms: a case of ``ms=2`` takes double the time of the first one."""
    arms = [Case.parse(job["case"]) for job in message["jobs"]]
    outcomes = [
        reported(number, 10 * int(dict(case.backend.options).get("ms", 1)))
        for number, case in enumerate(arms)
    ]
    if message["reference"] is not None:
        outcomes.append(reported(CHECK, 10))
    return {"status": "done", "launch": message["launch"], "outcomes": outcomes}


def measured(home, answer):
    """Outcomes of a block of three cases by arm, and how often the board was asked."""
    request = BlockRequest("4", tuple(TimeRequest(case, "m.pt2") for case in CASES), reference=0)
    client = BlockClient(home, answer)
    executor = BoardExecutor(client, home, NoFiles(), threading.Event(), board_seconds=0)
    return list(executor.block(request, 9.0)), client.asked


def test_an_honest_block_gives_all_arms(home):
    outcomes, asked = measured(home, lambda message: text_of(honest(message)))
    assert [arm for arm, _ in outcomes] == [0, 1, 2, CHECK]
    assert {outcome.checked("time").turns.block for _, outcome in outcomes} == {"4.0"}
    assert asked == 1


@pytest.mark.parametrize("path", [path for path in places(reported(1)) if path], ids=repr)
def test_a_bad_report_of_one_arm_leaves_every_case_an_outcome(home, path):
    for new in BAD:

        def answer(message, new=new):
            return text_of(changed(honest(message), ("outcomes", 1, *path), new))

        outcomes, asked = measured(home, answer)
        arms = Counter(arm for arm, _ in outcomes)
        assert {0, 1, 2} <= set(arms) <= {0, 1, 2, CHECK}, new
        assert asked <= 5, new
        for _, outcome in outcomes:
            assert outcome.status in set(Status) - {Status.LOST, Status.INTERRUPTED}, new
            assert 0 <= outcome.seconds < 100, new
            result = outcome.checked("time")
            if result is not None and result.turns is not None:
                assert result.turns.block.startswith("4."), new
            json.dumps([outcome.notes, outcome.reason], allow_nan=False)


NUMBERS = [new for new in BAD if isinstance(new, list)]


@pytest.mark.parametrize(
    "outcomes",
    [
        *NUMBERS,
        [reported(0)],
        [reported(1)] * 2,
        [reported(CHECK)],
        [reported(0)] * 10_002,
        [reported(arm) for arm in (0, 1, 2, 3)],
    ],
    ids=lambda outcomes: f"{len(outcomes)} outcomes",
)
def test_any_number_of_outcomes_ends_the_block(home, outcomes):
    ended, asked = measured(
        home, lambda message: text_of({**honest(message), "outcomes": outcomes})
    )
    assert {0, 1, 2} <= {arm for arm, _ in ended}
    assert asked <= 5


def test_a_board_cannot_say_which_launches_took_turns(home, tmp_path):
    """A board names each block alike, so that launches of three blocks would be one."""

    def answer(message):
        return text_of(honest(message)).replace('"block": "4.0"', '"block": "forged"')

    measure = Measure(rounds=3, target_ratio=0.9, memory=False)
    plan = plan_suite(Suite("rogue", CASES, measure))
    directory = new_run(plan, tmp_path)
    executor = BoardExecutor(
        BlockClient(home, answer), home, NoFiles(), threading.Event(), board_seconds=0
    )
    Session(plan, directory, executor, Silent()).measure(plan.runnable)
    run = load(directory.path)
    rows = run.ratios.set_index("case")
    assert list(rows["ratio_blocks"]) == [3, 3, 3]
    assert list(rows["ratio"]) == pytest.approx([1, 2, 3])
    assert Counter(launch.job for launch in run.stored.launches) == {"time": 9, "check": 3}
