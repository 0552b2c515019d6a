"""One block of a gate on a board: what is asked for, the bursts as they travel, and their check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar, get_args

from cspbench.core.bounds import AtMost, checked
from cspbench.core.statuses import Status
from cspbench.core.text import printable
from cspbench.fleet.artifacts import WrongContent
from cspbench.fleet.protocol import Json
from cspbench.fleet.work import Work
from cspbench.gating.duet import (
    FEWEST_PAIRS,
    SIDES,
    Bursts,
    MakeArm,
    Schedule,
    Side,
    measure_block,
)
from cspbench.gating.why import NoProfileError, profiled_block
from cspbench.jobs.burst import BurstResult
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.load import LoadRequest
from cspbench.jobs.spec import Request, to_plain
from cspbench.runner.arms import ArmLostError, ArmSpec, Burst, WorkerArm, load_once
from cspbench.runner.process import Outcome

_T = TypeVar("_T")

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
        requests: what each side of ``SIDES`` loads, or the one side of ``order``. Where they load
            a profiler, too, the block is one of `cspbench.gating.why.profiled_block`.
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
        if all(load.layers for load in loads):
            return _profiled(make, int(message["number"]))
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


def _profiled(make: MakeArm, number: int) -> Outcome:
    try:
        profiles = profiled_block(make, number)
    except NoProfileError as error:
        return Outcome(Status.UNSUPPORTED, str(error))
    return Outcome(Status.OK, answer={side: to_plain(profiles[side]) for side in SIDES})


def _as_json(bursts: Bursts) -> Json:
    """Each burst as its worker told it, but for the times that inferences ran: their sum counts."""
    return {
        side: [to_plain(replace(one.result, running_ns=None)) for one in of_side if one.result]
        for side, of_side in bursts.items()
    }


# -- on the controller ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Bursts:
    """Item i of each list is of pair i."""

    base: Annotated[list[BurstResult], AtMost(2 * MAX_PAIRS)]
    head: Annotated[list[BurstResult], AtMost(2 * MAX_PAIRS)]


@dataclass(frozen=True)
class _Profiles:
    base: LayerTimes
    head: LayerTimes


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
    most = pairs if schedule == "duet" else 2 * max(1, pairs // 2)
    least = min(most, FEWEST_PAIRS)

    def problem(told: _Bursts) -> str | None:
        if len(told.base) != len(told.head):
            return "the sides have not as many bursts"
        if not least <= len(told.base) <= most:
            return f"a side has not {least} to {most} bursts"
        if not all(map(_is_whole, (*told.base, *told.head))):
            return "a burst lacks times of its inferences"
        return None

    told = _read(outcome, _Bursts, "bursts", problem)
    return {
        name: [Burst(one.ns, one.count, one.lost_ns, one) for one in of_side]
        for name, of_side in (("base", told.base), ("head", told.head))
    }


def profiles_of(outcome: Outcome) -> Mapping[Side, LayerTimes]:
    """The profiles of both sides that a board reports.

    Raises:
        NoProfileError: it has no profiler for them.
        ArmLostError: there are none; the error says why.
    """
    if outcome.status is Status.UNSUPPORTED and "lost" not in outcome.notes:
        raise NoProfileError(outcome.reason)
    told = _read(outcome, _Profiles, "profiles")
    return {"base": told.base, "head": told.head}


def _is_whole(burst: BurstResult) -> bool:
    return burst.ns > 0 and burst.count == len(burst.latencies_ns) and sum(burst.latencies_ns) > 0


def _read(
    outcome: Outcome,
    kind: type[_T],
    what: str,
    problem: Callable[[_T], str | None] = lambda _: None,
) -> _T:
    if outcome.status is not Status.OK:
        raise _lost(outcome)
    from pydantic import TypeAdapter

    try:
        told: _T = checked(TypeAdapter(kind).validate_python, outcome.answer)
        reason = problem(told)
        if reason is not None:
            raise ValueError(reason)
    except ValueError as error:
        text = f"the board's {what} are malformed: {printable(str(error))}"
        raise _lost(Outcome(Status.FAILED, text)) from None
    return told


def _lost(outcome: Outcome) -> ArmLostError:
    note = outcome.notes.get("lost")
    note = note if isinstance(note, dict) else {}
    arm, reason = note.get("arm"), note.get("reason")
    return ArmLostError(
        arm if arm in SIDES else "board",
        reason if reason in REASONS else "arm_ended",
        outcome,
    )
