"""The first inferences of a session, before those that count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import Session
    from cspbench.jobs.spec import CaseRequest
    from cspbench.measure.scope import Timed


def warmed_up(session: Session, request: CaseRequest, pool: Sequence[Feed]) -> Timed:
    """Run the first inference and the warm-up; the two halves of the loop that follows."""
    from cspbench.measure import sampling
    from cspbench.measure.clock import MonotonicClock
    from cspbench.measure.scope import timed_parts

    session.set_input(pool[0])
    session.run()
    timed = timed_parts(session, request.case, pool)
    sampling.warm_up(timed.infer, timed.feed, MonotonicClock(), request.warmup_seconds)
    return timed
