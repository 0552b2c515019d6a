"""Checks that a backend computes the same function as the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.reference import (
    Disagreement,
    Reference,
    judged_inputs,
    largest_error,
    read_reference,
    relative_error,
)
from cspbench.backends.precisions import PRECISIONS
from cspbench.core.bounds import Amount

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.spec import Session

__all__ = ["Agreement", "Disagreement", "agree", "check_agreement", "relative_error"]

#: How many times as much as the reference differs from itself a backend may differ from it.
OWN_ERRORS = 4
#: Of a quantised network: four of the 127 steps of its numbers, since engines round them otherwise.
QUANTISED = 4 / 127


@dataclass(frozen=True)
class Agreement:
    """Largest error of any output as a share of its largest value, and the allowed error.

    ``reference`` names what the outputs were compared with, ``inputs`` says on how many inputs.
    ``frozen_branch`` says that the model takes branches by what it reads, and that the artifact has
    the one of input 0.
    """

    max_relative_error: Amount
    tolerance: Amount | None = None
    frozen_branch: bool = False
    reference: str = "torch"
    inputs: int = 1


def agree(
    session: Session, pool: Sequence[Feed], reference: Path, precision: str = "fp32"
) -> Agreement:
    """Run a session on the inputs of the reference and compare all outputs.

    Args:
        session: it has run input 0 of the pool just now.
        pool: inputs of the case.
        reference: the file beside the artifact.
        precision: in which the backend computes.

    Raises:
        InputError: the precision is not registered.
        Disagreement: the number of outputs or a size differs, a value is not finite, or an error
            exceeds the tolerance.
    """
    known = read_reference(reference)
    results = [session.outputs()]
    for feed in judged_inputs(pool)[1 : len(known.outputs)]:
        session.set_input(feed)
        session.run()
        results.append(session.outputs())
    return _judged(results, known, precision)


def check_agreement(
    outputs: Sequence[np.ndarray], reference: Path, precision: str = "fp32"
) -> Agreement:
    """Compare outputs for input 0 with those of the file beside the artifact, as `agree` does."""
    return _judged([outputs], read_reference(reference), precision)


def _judged(results: Sequence[Sequence[np.ndarray]], known: Reference, precision: str) -> Agreement:
    tolerance = tolerance_of(known, precision)
    worst = max(
        largest_error(outputs, expected, known.name)
        for outputs, expected in zip(results, known.outputs, strict=False)
    )
    if worst > tolerance:
        raise Disagreement(
            f"outputs differ from those of {known.name} by {worst:.2g} of the largest "
            f"(allowed {tolerance:.2g})"
        )
    return Agreement(worst, tolerance, known.frozen, known.name, len(results))


def tolerance_of(reference: Reference, precision: str) -> float:
    """The allowed error.

    It follows from the precision of the backend, the model's own numbers, and how much the
    reference differs from itself.

    Raises:
        InputError: the precision is not registered.
    """
    allowed = PRECISIONS.get(precision).tolerance
    if reference.numbers == "int8":  # the model's own steps; not those that a backend makes of it
        allowed = max(allowed, QUANTISED)
    elif reference.numbers in PRECISIONS:
        allowed = max(allowed, PRECISIONS.get(reference.numbers).tolerance)
    return max(allowed, OWN_ERRORS * reference.own_error)
