"""Launches that ended: the line of a run that says how, and what follows from it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from cspbench.core.statuses import FLAGS
from cspbench.jobs.spec import JOBS
from cspbench.jobs.time import TimeResult
from cspbench.runner.block_request import CHECK, BlockRequest
from cspbench.runner.process import Outcome
from cspbench.store.launch import Launch, with_notes
from cspbench.store.ratios import CHECK_JOB
from cspbench.store.records import is_disturbed


def launch_of(outcome: Outcome, *, case: str, job: str, number: int, session: str) -> Launch:
    """The launch that ended now.

    Args:
        outcome: how.
        case: its id.
        job: what it did.
        number: of the launch among those of its case.
        session: name of the session that asked for it.
    """
    result = outcome.checked(job)
    flags = [*JOBS.get(job).flags(result), *outcome.flags] if result is not None else []
    now = datetime.datetime.now(datetime.timezone.utc)
    launch = Launch(
        case=case,
        job=job,
        number=number,
        session=session,
        status=outcome.status,
        ended=now.isoformat(timespec="milliseconds"),
        reason=outcome.reason,
        flags=[flag for flag in dict.fromkeys(flags) if flag in FLAGS],
        seconds=round(outcome.seconds, 3),
        log=outcome.log,
        final=outcome.final,
        result=result,
    )
    return with_notes(launch, outcome.notes)


def case_and_job(request: BlockRequest, number: int) -> tuple[str, str]:
    """The case of an arm of a block, and the job that its launch is stored as."""
    arm = request.arms[request.reference or 0 if number == CHECK else number]
    return arm.case.id, CHECK_JOB if number == CHECK else arm.job


def shared_blocks(ended: Iterable[Launch]) -> set[str]:
    """Names of the blocks in which several launches took turns."""
    names = Counter(
        launch.result.turns.block
        for launch in ended
        if isinstance(launch.result, TimeResult) and launch.result.turns is not None
    )
    return {name for name, count in names.items() if count > 1}


def is_repeated(launch: Launch, in_turn: Collection[str]) -> bool:
    """Whether a launch that measured is worth another one, because the machine disturbed it.

    Where cases took turns (the blocks ``in_turn``) and bursts know what they waited, load moves no
    ratio: time is better spent on the cases that scatter.
    """
    turns = launch.result.turns if isinstance(launch.result, TimeResult) else None
    if turns is None or turns.running_ns is None or turns.block not in in_turn:
        return is_disturbed(launch)
    return is_disturbed(replace(launch, flags=[f for f in launch.flags if f != "contended"]))
