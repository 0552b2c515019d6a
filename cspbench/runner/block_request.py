"""What is asked for when cases are to take turns, and the memory that they may take."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from cspbench.jobs.time import TimeRequest
from cspbench.machine.quotas import memory_left

if TYPE_CHECKING:
    from cspbench.runner.process import Outcome

#: Share of the free memory that a worker may take unless told otherwise.
MEMORY_SHARE = 0.8
#: Stands for the reference's second arm among the outcomes of a block.
CHECK = -1
#: Gets how the launches of a block would have ended by now: number of an arm (or CHECK), outcome.
Keep: TypeAlias = "Callable[[Sequence[tuple[int, Outcome]]], None]"


@dataclass(frozen=True)
class BlockRequest:
    """Cases that are to live together and take turns.

    ``name`` is common to their launches. ``reference`` is the arm that ratios are relative to; it
    takes part twice. ``seed`` draws the orders of the rounds, ``skip`` of them were used before.
    ``first_only`` ends with the first block: arms that did not fit into it have no outcome.
    ``keep`` is called now and then, so that a kill does not cost the rounds that are complete.
    """

    name: str
    arms: tuple[TimeRequest, ...]
    reference: int | None = None
    seed: str = ""
    skip: int = 0
    first_only: bool = False
    keep: Keep | None = field(default=None, repr=False, compare=False)


def available_bytes() -> int:
    """Free memory of this machine, and no more than a container may still take."""
    import psutil

    try:
        free = int(psutil.virtual_memory().available)
    except OSError:  # without /proc
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = memory_left()
    return free if left is None else min(free, left)
