"""What an artifact must put out: reference outputs for several inputs, and how sure they are.

They lie beside the artifact as ``.npz``. The reference computes input 0 in two ways (without and
with optimisation), so the file also says how much it differs from itself: no backend can be asked
to agree better. Outputs of input 0 are ``arr_N``, those of input i ``input_i_N``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.spec import FROZEN_BRANCH
from cspbench.artifacts.tensors import arrays_of
from cspbench.errors import CspbenchError, Unsupported

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed

#: Names of entries beside the outputs.
_NAME, _OWN_ERROR, _NUMBERS = "reference", "own_error", "numbers"


class Disagreement(CspbenchError):
    """The outputs differ from the model's (status ``failed``)."""


@dataclass(frozen=True)
class Reference:
    """Outputs of a model by input, each in the model's order.

    ``name`` says who computed them, ``own_error`` by how much that differs from itself (largest
    error as a share of the largest output), ``numbers`` in what numbers the model computes (the
    name of a precision, or ``int8``), ``frozen`` that the artifact has one of several branches.
    """

    name: str
    outputs: Sequence[Sequence[np.ndarray]]
    own_error: float = 0.0
    numbers: str = "fp32"
    frozen: bool = False


def judged_inputs(pool: Sequence[Feed]) -> list[Feed]:
    """The inputs on which outputs are compared: two of the pool, and one around zero.

    Floating numbers of the pool are [0, 1), as pixels of images are; networks whose images are
    normalised read [-1, 1).
    """
    return [pool[0], *pool[1:2], *map(_centred, pool[2:3])]


def _centred(feed: Feed) -> Feed:
    if isinstance(feed, tuple):
        return tuple(_centred(array) for array in feed)  # type: ignore[misc]
    return (2 * feed - 1).astype(feed.dtype) if feed.dtype.kind == "f" else feed


def relative_error(output: np.ndarray, reference: np.ndarray, name: str = "torch") -> float:
    """Return max abs(error) / max abs(output).

    Args:
        output: what a backend put out.
        reference: what it should be.
        name: who says so, for messages.

    Raises:
        Disagreement: the sizes differ, or a value is not finite.
        Unsupported: a value of the reference is not finite.
    """
    import numpy as np

    reference = reference.astype(np.float64)
    if not np.isfinite(reference).all():
        raise Unsupported(
            f"the output of {name} itself holds NaN or infinity on the seeded inputs, so no engine "
            "can be held against it; give a model's file inputs of its kind with --input-file"
        )
    if output.size != reference.size:
        raise Disagreement(f"an output has shape {output.shape}, {name}'s has {reference.shape}")
    if not np.isfinite(output).all():
        raise Disagreement("an output holds NaN or infinity")
    if not reference.size:
        return 0.0
    error = np.abs(output.reshape(reference.shape).astype(np.float64) - reference)
    return float(error.max() / max(float(np.abs(reference).max()), 1e-30))


def largest_error(
    outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray], name: str = "torch"
) -> float:
    """The largest relative error of any output, paired by order.

    Raises:
        Disagreement: their number or a size differs, or a value is not finite.
    """
    if len(outputs) != len(expected):
        raise Disagreement(f"{len(outputs)} outputs, {name} has {len(expected)}")
    return max(relative_error(*pair, name) for pair in zip(outputs, expected, strict=True))


def usable(reference: Reference) -> Reference:
    """The reference without inputs, but the first, for which it is not finite."""
    import numpy as np

    first, *others = reference.outputs
    finite = [one for one in others if all(np.isfinite(output).all() for output in one)]
    return Reference(
        reference.name, [first, *finite] if len(finite) == len(others) else [first],
        reference.own_error, reference.numbers, reference.frozen,
    )  # fmt: skip


def write_reference(path: Path, reference: Reference, feeds: Sequence[Feed] = ()) -> None:
    """Write it as ``.npz``, with the inputs of the case where no seed makes them."""
    import numpy as np

    notes: dict[str, Any] = {
        _NAME: np.array(reference.name),
        _OWN_ERROR: np.array(reference.own_error),
        _NUMBERS: np.array(reference.numbers),
    }
    if reference.frozen:
        notes[FROZEN_BRANCH] = np.empty(0)
    first, *others = reference.outputs
    for number, outputs in enumerate(others, start=1):
        notes |= {f"input_{number}_{place}": output for place, output in enumerate(outputs)}
    for number, feed in enumerate(feeds):
        notes |= {f"feed_{number}_{place}": array for place, array in enumerate(arrays_of(feed))}
    np.savez(path, *first, **notes)


def stored_feeds(path: Path) -> list[Feed]:
    """The inputs that lie beside an artifact; empty where they are seeded."""
    import numpy as np

    if not path.is_file():
        return []
    feeds: list[Feed] = []
    with np.load(path, allow_pickle=False) as stored:
        names = set(stored.files)
        while f"feed_{len(feeds)}_0" in names:
            arrays: list[np.ndarray] = []
            while (name := f"feed_{len(feeds)}_{len(arrays)}") in names:
                arrays.append(stored[name])
            feeds.append(arrays[0] if len(arrays) == 1 else tuple(arrays))
    return feeds


def read_reference(path: Path) -> Reference:
    """Inverse of `write_reference`; a file of outputs alone is torch's for input 0."""
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        names = set(stored.files)
        outputs: list[list[np.ndarray]] = [[]]
        while f"arr_{len(outputs[0])}" in names:
            outputs[0].append(stored[f"arr_{len(outputs[0])}"])
        while f"input_{len(outputs)}_0" in names:
            pattern = f"input_{len(outputs)}_{{}}"
            places = range(len(outputs[0]))
            outputs.append([stored[pattern.format(place)] for place in places])
        return Reference(
            str(stored[_NAME]) if _NAME in names else "torch",
            outputs,
            float(stored[_OWN_ERROR]) if _OWN_ERROR in names else 0.0,
            str(stored[_NUMBERS]) if _NUMBERS in names else "fp32",
            FROZEN_BRANCH in names,
        )
