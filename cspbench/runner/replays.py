"""Which single layers take turns with the cases of a block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from cspbench.backends.spec import BACKENDS
from cspbench.jobs.replay import ReplayRequest, can_replay
from cspbench.runner.plan import PlannedCase


def replays_of(
    block: Sequence[PlannedCase], request: Callable[[PlannedCase, str], ReplayRequest]
) -> list[ReplayRequest]:
    """One worker for each backend and number of threads, with the layers of all its networks.

    Args:
        block: the cases that take turns; one alone has nothing to be compared with.
        request: makes the request of a kind for a case.
    """
    if len(block) < 2:
        return []
    alike: dict[tuple[str, int], list[PlannedCase]] = {}
    for planned in block:
        if can_replay(BACKENDS.get(planned.case.backend.name)):
            key = str(planned.case.backend), planned.case.threads
            alike.setdefault(key, []).append(planned)
    return [
        replace(
            request(group[0], "replay"),
            cases=tuple(planned.id for planned in group),
            artifacts=tuple(str(planned.artifact.path) for planned in group),
        )
        for group in alike.values()
    ]
