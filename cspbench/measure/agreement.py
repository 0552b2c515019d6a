"""Checks that a backend computes the same function as torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.artifacts.spec import FROZEN_BRANCH
from cspbench.backends.spec import PRECISIONS
from cspbench.core.bounds import Amount
from cspbench.errors import CspbenchError

if TYPE_CHECKING:
    import numpy as np


class Disagreement(CspbenchError):
    """The outputs differ from the model's (status ``failed``)."""


def relative_error(output: np.ndarray, reference: np.ndarray) -> float:
    """Return max abs(error) / max abs(output).

    Raises:
        Disagreement: the sizes differ, or a value is not finite.
    """
    import numpy as np

    reference = reference.astype(np.float64)
    if not np.isfinite(reference).all():
        raise Disagreement("torch's own output holds NaN or infinity")
    if output.size != reference.size:
        raise Disagreement(f"an output has shape {output.shape}, torch has {reference.shape}")
    if not np.isfinite(output).all():
        raise Disagreement("an output holds NaN or infinity")
    if not reference.size:
        return 0.0
    error = np.abs(output.reshape(reference.shape).astype(np.float64) - reference)
    return float(error.max() / max(float(np.abs(reference).max()), 1e-30))


@dataclass(frozen=True)
class Agreement:
    """Largest error of any output as a share of its largest value, and the allowed error.

    ``frozen_branch`` says that the model takes branches by what it reads, and that the artifact has
    the one of input 0.
    """

    max_relative_error: Amount
    tolerance: Amount | None = None
    frozen_branch: bool = False


def check_agreement(
    outputs: Sequence[np.ndarray], reference: Path, precision: str = "fp32"
) -> Agreement:
    """Compare all outputs with the stored ones, paired by order.

    ``outputs`` are the backend's for input 0 of the pool, in the model's order; ``reference`` is
    the file beside the artifact.

    Raises:
        InputError: the precision is not registered.
        Disagreement: the number of outputs or a size differs, a value is not finite, or an error
            exceeds the tolerance.
    """
    import numpy as np

    tolerance = PRECISIONS.get(precision).tolerance
    with np.load(reference, allow_pickle=False) as stored:
        expected = [stored[name] for name in stored.files if name != FROZEN_BRANCH]
        frozen = FROZEN_BRANCH in stored.files
    if len(outputs) != len(expected):
        raise Disagreement(f"{len(outputs)} outputs, torch has {len(expected)}")
    worst = max(relative_error(*pair) for pair in zip(outputs, expected, strict=True))
    if worst > tolerance:
        raise Disagreement(
            f"outputs differ from torch's by {worst:.2g} of the largest (allowed {tolerance:g})"
        )
    return Agreement(worst, tolerance, frozen)
