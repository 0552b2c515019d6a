"""One block of a gate on a board: what is asked for, the bursts as they travel, and their check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from cspbench.core.bounds import AtMost, Count, Positive, checked
from cspbench.core.statuses import Status
from cspbench.core.text import printable
from cspbench.fleet.artifacts import WrongContent
from cspbench.fleet.protocol import Json
from cspbench.fleet.work import Work
from cspbench.gating.duet import FEWEST_PAIRS, SIDES, Bursts, Schedule, Side, measure_block
from cspbench.jobs.burst import LoadRequest
from cspbench.jobs.spec import Request
from cspbench.runner.arms import ArmLostError, ArmSpec, Burst, WorkerArm, load_once
from cspbench.runner.process import Outcome

#: More pairs of bursts than any gate asks for.
MAX_PAIRS = 1000
#: Reasons of a lost arm that a board may give.
REASONS = ("arm_ended", "no_answer", "unlike_arms")


# -- on the board --------------------------------------------------------------------------------


def measure_duet(
    message: Mapping[str, Any], requests: Sequence[Request], limits: Mapping[str, Any] | None
) -> Outcome:
    """Measure what a message asks for.

    Args:
        message: the request: ``schedule``, ``order``, ``pairs``, ``number`` and ``timeout``.
            Without pairs the sides of ``order`` are only loaded.
        requests: what each side of ``SIDES`` loads, or the one side of ``order``.
        limits: bounds of the workers.

    Raises:
        WrongContent: the message asks for something else.
    """
    order, schedule, pairs = tuple(message["order"]), message["schedule"], int(message["pairs"])
    timeout = float(message["timeout"])
    loads = [request for request in requests if isinstance(request, LoadRequest)]
    known = len(loads) == len(requests) == len(order) and set(order) <= set(SIDES)
    if not known or schedule not in get_args(Schedule) or not 0 <= pairs <= MAX_PAIRS:
        raise WrongContent("a gate's block has two sides, a schedule and a number of pairs")
    by_side = dict(zip(order, loads, strict=True))

    def make(side: Side) -> WorkerArm:
        return WorkerArm(ArmSpec(side, by_side[side], timeout, limits=limits))

    try:
        if pairs:
            bursts = measure_block(make, schedule, order, pairs, int(message["number"]))
            return Outcome(Status.OK, answer=_as_json(bursts))
        for side in order:
            load_once(make(side))
        return Outcome(Status.OK)
    except ArmLostError as lost:
        outcome = lost.outcome
        outcome.answer = {}
        outcome.notes["lost"] = {"arm": lost.arm, "reason": lost.reason}
        return outcome


def _as_json(bursts: Bursts) -> Json:
    return {
        side: {
            "ns": [round(burst.ns) for burst in of_side],
            "count": [burst.count for burst in of_side],
            "lost_ns": [None if b.lost_ns is None else round(b.lost_ns) for b in of_side],
        }
        for side, of_side in bursts.items()
    }


# -- on the controller ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """Item i of each list is of the burst i."""

    ns: Annotated[list[Positive], AtMost(2 * MAX_PAIRS)]
    count: Annotated[list[Positive], AtMost(2 * MAX_PAIRS)]
    lost_ns: Annotated[list[Count | None], AtMost(2 * MAX_PAIRS)]


@dataclass(frozen=True)
class _Answer:
    base: _Side
    head: _Side


def one_block(
    loads: Mapping[Side, LoadRequest],
    schedule: Schedule,
    order: Sequence[Side],
    pairs: int,
    number: int = 0,
) -> Work:
    """A block as work for a board; with no pairs and one side it loads that side."""
    jobs = [loads[side] for side in order]
    content = {"schedule": schedule, "order": list(order), "pairs": pairs, "number": number}
    return Work("duet", jobs, content, {0})


def bursts_of(outcome: Outcome, schedule: Schedule, pairs: int) -> Bursts:
    """The bursts that a board reports.

    Raises:
        ArmLostError: there are none; the error says why.
    """
    if outcome.status is not Status.OK:
        raise _lost(outcome)
    from pydantic import TypeAdapter

    most = pairs if schedule == "duet" else 2 * max(1, pairs // 2)
    least = min(most, FEWEST_PAIRS)
    try:
        answer = checked(TypeAdapter(_Answer).validate_python, outcome.answer)
        sides = {"base": answer.base, "head": answer.head}
        lists = [one for side in sides.values() for one in (side.ns, side.count, side.lost_ns)]
        if len(set(map(len, lists))) > 1:
            raise ValueError("the sides have not as many bursts")
        if not least <= len(answer.base.ns) <= most:
            raise ValueError(f"a side has not {least} to {most} bursts")
    except ValueError as error:
        reason = f"the board's bursts are malformed: {printable(str(error))}"
        raise _lost(Outcome(Status.FAILED, reason)) from None
    return {
        name: [Burst(*burst) for burst in zip(side.ns, side.count, side.lost_ns, strict=True)]
        for name, side in sides.items()
    }


def _lost(outcome: Outcome) -> ArmLostError:
    note = outcome.notes.get("lost")
    note = note if isinstance(note, dict) else {}
    arm, reason = note.get("arm"), note.get("reason")
    return ArmLostError(
        arm if arm in SIDES else "board",
        reason if reason in REASONS else "arm_ended",
        outcome,
    )
