"""What is asked for when cases are to take turns, and the memory that they may take."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cspbench.jobs.time import TimeRequest
from cspbench.machine.quotas import memory_left

#: Share of the free memory that a worker may take unless told otherwise.
MEMORY_SHARE = 0.8
#: Stands for the reference's second arm among the outcomes of a block.
CHECK = -1


@dataclass(frozen=True)
class BlockRequest:
    """Cases that are to live together and take turns.

    ``name`` is common to their launches. ``reference`` is the arm that ratios are relative to; it
    takes part twice. ``seed`` draws the orders of the rounds, ``skip`` of them were used before.
    ``first_only`` ends with the first block: arms that did not fit into it have no outcome.
    """

    name: str
    arms: tuple[TimeRequest, ...]
    reference: int | None = None
    seed: str = ""
    skip: int = 0
    first_only: bool = False


def available_bytes() -> int:
    """Free memory of this machine, and no more than a container may still take."""
    import psutil

    try:
        free = int(psutil.virtual_memory().available)
    except OSError:  # without /proc
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = memory_left()
    return free if left is None else min(free, left)
