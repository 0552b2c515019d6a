"""Scopes of a latency: how an input is put in place, and which work the clock surrounds.

``inference``: the input is in place where the backend reads it, and the call returns when the
result is complete. ``end_to_end``: from an array in host memory to outputs in host memory.
``pipeline``: from a stored image to outputs in host memory and, for detectors, on to the boxes that
NMS keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cspbench.backends.spec import SCOPE, StagesInputs
from cspbench.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import HostSession, Session
    from cspbench.core.case import Case, ModelId
    from cspbench.core.options import Value

INFERENCE = str(SCOPE.default)


def scope_of(options: Mapping[str, Value]) -> str:
    """The scope that a backend's options name."""
    return str(options.get(SCOPE.name, SCOPE.default))


class Timed(NamedTuple):
    """``feed`` puts input number i in place and is not timed; ``infer`` is timed."""

    feed: Callable[[int], None]
    infer: Callable[[], None]


def timed_parts(session: Session, case: Case, pool: Sequence[Feed]) -> Timed:
    """The two halves of the loop around a loaded session, for the scope of the case.

    Scopes other than ``inference`` need a session of a backend that has the axis.

    Raises:
        Unsupported: scope ``pipeline`` of a model that reads no image in three colours.
    """
    scope = scope_of(dict(case.backend.options))
    if scope == INFERENCE and isinstance(session, StagesInputs):
        session.stage(pool)
        return Timed(lambda i: session.choose(i % len(pool)), session.run)
    if scope == INFERENCE:
        return Timed(lambda i: session.set_input(pool[i % len(pool)]), session.run)
    whole = cast("HostSession", session)
    if scope == "end_to_end":
        return _on(pool, whole.infer)
    if (
        isinstance(pool[0], tuple)
        or pool[0].shape != case.input_shape
        or pool[0].dtype != "float32"
    ):
        raise Unsupported("scope pipeline is for models of one image in three colours, float32")
    return _pipeline(whole, case)


def _on(pool: Sequence[Any], work: Callable[[Any], object]) -> Timed:
    """Feeding selects the next input; the clock surrounds all work on it."""
    current = [pool[0]]

    def feed(i: int) -> None:
        current[0] = pool[i % len(pool)]

    def infer() -> None:
        work(current[0])

    return Timed(feed, infer)


def _pipeline(session: HostSession, case: Case) -> Timed:
    from cspbench.backends.common.pipeline import candidate_pool, image_pool

    size: Any = case.input
    candidates = candidate_pool(case.batch) if detects(case.model_id) else []

    def work(images: np.ndarray) -> None:
        session.infer(session.pre_process(images, size))
        for heads in candidates:
            session.post_process(heads)

    return _on(image_pool(case.batch), work)


def detects(model: ModelId) -> bool:
    """Whether a model ends in boxes: a detector, or a backbone with a neck."""
    from cspbench.models.build import spec_of

    return model.neck is not None or spec_of(model).task == "detection"
