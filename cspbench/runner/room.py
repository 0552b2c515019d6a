"""What fits together: into the machine's memory, a device's own, and our number of open files.

How much memory a case takes is guessed before its first block, and known afterwards where the
system tells it. Where a driver does not tell the free bytes of its memory, that memory bounds
nothing: a case that finds no room in it ends as ``oom`` and is measured alone after its block.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cspbench.jobs.replay import ReplayRequest
from cspbench.jobs.time import TimeRequest
from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.runner.block_request import CHECK, available_bytes

#: Bytes by the memory that they are in: that of a device by its name, the machine's as HOST. And
#: how many files, as OPEN_FILES.
Room: TypeAlias = Mapping[str, int]
OPEN_FILES = "open files"
#: Files that this process holds open for a worker: its answers, its output, its input.
FILES_OF_WORKER = 3

#: Guess of a worker's memory: a library at work, the model a few times over, and activations.
WORKER_BYTES, MODEL_COPIES = 400 * 2**20, 4
#: This share of the memory that was free before the block is left free.
SPARE_SHARE = 0.2


def packed(
    needs: Mapping[int, Room], reference: int | None, capacity: Room
) -> list[tuple[int, ...]]:
    """Split arms into blocks that fit into every memory.

    Args:
        needs: what each arm takes, in the order of the arms.
        reference: an arm that each block holds twice (the second time as CHECK), if there is room.
        capacity: what all arms of a block may take; a memory that it lacks bounds nothing.

    Returns:
        The arms of each block. One that does not fit beside the reference and its second arm is
        with the reference only; one that does not fit there either is alone.
    """
    shared: tuple[int, ...] = () if reference is None else (reference, CHECK)
    base: Room = {} if reference is None else needs[reference]
    once = _less(capacity, base)
    beside = _less(once, base)
    blocks: list[list[int]] = []
    small: list[tuple[int, ...]] = []
    room: Room = {}
    for arm, size in needs.items():
        if arm == reference:
            continue
        if not _fits(size, beside):
            with_reference = reference is not None and _fits(size, once)
            small.append((*shared[:1], arm) if with_reference else (arm,))
        elif blocks and _fits(size, room):
            blocks[-1].append(arm)
            room = _less(room, size)
        else:
            blocks.append([arm])
            room = _less(beside, size)
    if reference is not None and not blocks and all(len(block) == 1 for block in small):
        small.insert(0, (reference,))
    small.sort(key=len, reverse=True)  # a board measures one of several arms first
    return [(*shared, *block) for block in blocks] + small


def _fits(size: Room, room: Room) -> bool:
    return all(size.get(memory, 0) <= left for memory, left in room.items())


def _less(room: Room, size: Room) -> Room:
    return {memory: left - size.get(memory, 0) for memory, left in room.items()}


def free_room(devices: Iterable[str]) -> dict[str, int]:
    """What is free: the machine's memory, these devices' own where their drivers tell, files."""
    free = {HOST: available_bytes()}
    with contextlib.suppress(OSError):  # a system without a folder of open files
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if most != resource.RLIM_INFINITY:
            free[OPEN_FILES] = most - len(os.listdir("/dev/fd"))
    for name in filter(has_own_memory, devices):
        told = DEVICES.get(name).free_bytes()
        if told is not None:
            free[name] = told
    return free


def has_own_memory(device: str) -> bool:
    """Whether inferences on a device may take other memory than the machine's."""
    return not DEVICES.get(device).on_host


def without_spare(free: Room) -> dict[str, int]:
    """What a block may take of the memory that is free before it."""
    return {memory: int((1 - SPARE_SHARE) * left) for memory, left in free.items()}


@dataclass
class Needs:
    """What the workers of arms take: what was seen of an earlier block, or else a guess."""

    seen: dict[str, dict[str, int]] = field(default_factory=dict)

    def of(self, arm: TimeRequest) -> Room:
        """What the worker of an arm is expected to take."""
        guessed = {HOST: _host_bytes(arm), OPEN_FILES: FILES_OF_WORKER}
        if has_own_memory(arm.device):
            guessed[arm.device] = _device_bytes(arm)
        return guessed | self.seen.get(_kept_as(arm), {})

    def note(self, arm: TimeRequest, resident_bytes: int, pid: int | None) -> None:
        """Remember what a live worker of an arm takes, and no less than before."""
        now = {HOST: resident_bytes}
        if has_own_memory(arm.device) and pid is not None:
            held = DEVICES.get(arm.device).held_by(pid)
            if held is not None:
                now[arm.device] = held
        known = self.seen.setdefault(_kept_as(arm), {})
        known |= {memory: max(size, known.get(memory, 0)) for memory, size in now.items()}


def _host_bytes(arm: TimeRequest) -> int:
    sessions = 2 if arm.layers else 1
    activations = 0 if has_own_memory(arm.device) else max(0, arm.model_bytes - _file_bytes(arm))
    return WORKER_BYTES + sessions * (MODEL_COPIES * _file_bytes(arm) + activations)


def _device_bytes(arm: TimeRequest) -> int:
    """Weights, activations at their peak, and what a process takes there whatever it runs."""
    return DEVICES.get(arm.device).process_bytes + (arm.model_bytes or _file_bytes(arm))


def _kept_as(arm: TimeRequest) -> str:
    """By what the memory of an arm's worker is remembered."""
    return f"{arm.job} {arm.layers} {arm.case.id}"


def _file_bytes(arm: TimeRequest) -> int:
    files = arm.artifacts if isinstance(arm, ReplayRequest) else [arm.artifact]
    return sum(map(_size, files))


def _size(file: str | Path) -> int:
    try:
        return Path(file).stat().st_size
    except OSError:  # the worker says so
        return 0
