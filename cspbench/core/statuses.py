"""The closed lists: statuses, flags with their remedies, exit codes.

A status tells how a launch or a case ended. A flag names a condition that may have spoilt its
numbers. Both are stored as plain text, so that a run can be read without cspbench.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum


class Status(str, Enum):
    """How a launch, and by derivation a case, ended."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"
    OOM = "oom"
    CRASHED = "crashed"
    LOST = "lost"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    INTERRUPTED = "interrupted"

    def __str__(self) -> str:
        return self.value


#: Statuses that describe the machine or the backend and are no failure.
NOT_RUNNABLE = frozenset({Status.UNSUPPORTED, Status.UNAVAILABLE})


@dataclass(frozen=True)
class Flag:
    """A condition that may spoil a number, and its remedy."""

    name: str
    meaning: str
    remedy: str


FLAGS: dict[str, Flag] = {
    flag.name: flag
    for flag in (
        Flag(
            "throttled",
            "the processor or the accelerator lowered its clock for heat or power",
            "cool the device, raise its power limit, or pause longer between cases",
        ),
        Flag(
            "contended",
            "other processes or the hypervisor took processor time during the launch",
            "stop the other load, or measure with fewer threads than cores",
        ),
        Flag(
            "not_steady",
            "latency had not settled when the warm-up bound was reached, or drifted afterwards",
            "raise measure.warmup, or look for throttling and background load",
        ),
        Flag(
            "few_samples",
            "too few launches or samples for an interval that means something",
            "raise measure.rounds or measure.max_seconds",
        ),
        Flag(
            "page_faults",
            "over 5 % of the time went to the kernel, mostly to put pages in place that the "
            "process had given back after the inference before",
            "to see the network without it measure with allocator: retained; as users get it, it "
            "is part of the latency",
        ),
        Flag(
            "resumed",
            "the launches of this case come from more than one session",
            "measure the case again in one session if small differences matter",
        ),
        Flag(
            "moved",
            "the launches of this case come from more than one board of its label",
            "measure the case again on one board if small differences matter",
        ),
        Flag(
            "board_changed",
            "the board's governor, power mode or clock lock changed during a launch",
            "fix the board's power mode, and let nothing change it while it measures",
        ),
        Flag(
            "untrusted",
            "the reference, measured twice in each block, differs from itself, so that ratios of "
            "this run may be wrong by as much",
            "measure again; if it stays, look for what treats processes differently: pinning, "
            "priorities, limits",
        ),
        Flag(
            "waited",
            "the case waited longer or shorter for a processor than the reference, by at least 1 % "
            "and for certain, which its ratio of running time leaves out",
            "cspbench show RUN --ratios says by how much (waiting); look for what treats processes "
            "differently: quotas, priorities, pinned load",
        ),
        Flag(
            "separate_launches",
            "the case never shared a block with the reference, so that its ratio is the quotient "
            "of two latencies that were not measured in turn",
            "free memory or measure fewer cases in a run, so that it fits beside the reference; "
            "measure.together: 1 never measures in turn",
        ),
        Flag(
            "fallback_engine",
            "the engine that the backend takes first cannot hold the model, so another one ran",
            "name one engine for all cases that are compared, such as engine: classic",
        ),
        Flag(
            "frozen_branch",
            "the model takes a branch by the values that it reads, and the one of its first input "
            "is measured, whatever the input",
            "measure each branch as a model of its own, or write the choice with operators such as "
            "torch.where",
        ),
    )
}


class ExitCode(IntEnum):
    """What ``cspbench`` returns to the shell; where several hold: 70 before 2, 1, 3, 4."""

    OK = 0
    REGRESSION = 1
    USAGE = 2
    NOT_MEASURED = 3
    INCONCLUSIVE = 4
    #: A fault of cspbench or of a plug-in; EX_SOFTWARE of sysexits.h.
    INTERNAL = 70
    #: 128 + SIGINT, as in shells.
    INTERRUPTED = 130
    #: 128 + SIGPIPE: the reader of the output closed it early, as ``head`` does.
    CLOSED_PIPE = 141


def exit_code_for(statuses: Iterable[Status]) -> ExitCode:
    """Exit code of a run from the statuses of its cases (precedence: see `ExitCode`)."""
    seen = set(statuses)
    if Status.INTERRUPTED in seen:
        return ExitCode.INTERRUPTED
    if seen - NOT_RUNNABLE - {Status.OK}:
        return ExitCode.NOT_MEASURED
    return ExitCode.OK
