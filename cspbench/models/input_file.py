"""Values for a model's inputs from a file: the option ``inputs`` of models of one's own.

An ``.npz`` of numpy holds one array for each input, by its name; a single array needs no name. Its
shapes also say the size where the model's file leaves it open.
"""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId, Ref
from cspbench.core.files import file_version
from cspbench.core.options import Axis, Options
from cspbench.core.text import first_line
from cspbench.errors import InputError
from cspbench.models.inputs import Size, TensorInput
from cspbench.models.sources.files import check_archive, regular_file

if TYPE_CHECKING:
    import numpy as np

INPUTS = Axis("inputs", "", "text", summary="NPZ file of inputs; without it they are seeded")


def with_input_file(model: ModelId, path: str) -> ModelId:
    """The model with its inputs read from a file."""
    options = dict(model.model.options) | {INPUTS.name: path}
    return replace(model, model=Ref.of(model.model.name, options))


def input_file(options: Options) -> Path | None:
    """The file that the option names, or None without it.

    Raises:
        InputError: there is no such file.
    """
    name = str(options.get(INPUTS.name, ""))
    return regular_file(name, f"option {INPUTS.name}") if name else None


def read_inputs(path: Path, inputs: Sequence[TensorInput]) -> tuple[np.ndarray, ...]:
    """The arrays of a file in the order of a model's inputs.

    Args:
        path: the file.
        inputs: what the model reads; axes that a case decides may be letters.

    Raises:
        InputError: the file cannot be read, lacks an input, or has one of another shape or type.
    """
    arrays = _arrays(path)
    if len(arrays) == len(inputs) == 1:
        arrays = {inputs[0].name: next(iter(arrays.values()))}
    missing = [one.name for one in inputs if one.name not in arrays]
    if missing:
        names = ", ".join(map(repr, list(arrays)[:8])) or "none"
        raise InputError(
            f"{path}: has no array {missing[0]!r}, which the model reads; it has {names}"
        )
    for one in inputs:
        _check(path, one, arrays[one.name])
    return tuple(arrays[one.name] for one in inputs)


def size_in_file(path: Path, inputs: Sequence[TensorInput]) -> Size | None:
    """(height, width) that the arrays of a file have; None where no axis says one of them.

    Raises:
        InputError: as `read_inputs`.
    """
    sides: dict[str, int] = {}
    for one, array in zip(inputs, read_inputs(path, inputs), strict=True):
        for letter, side in zip(one.shape, array.shape, strict=True):
            if isinstance(letter, str):
                sides.setdefault(letter, int(side))
    return (sides["H"], sides["W"]) if {"H", "W"} <= sides.keys() else None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """A plan asks for them with every case."""
    return dict(_stored(path, *file_version(path)))


@functools.lru_cache(maxsize=4)
def _stored(path: Path, *_version: int) -> dict[str, np.ndarray]:
    import numpy as np

    check_archive(path)
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: np.ascontiguousarray(stored[name]) for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise InputError(
            f"{path}: is no NPZ file of numpy arrays ({first_line(error)}); numpy.savez writes one"
        ) from error


def _check(path: Path, one: TensorInput, array: np.ndarray) -> None:
    fits = len(one.shape) == array.ndim and all(
        not isinstance(side, int) or side == own
        for side, own in zip(one.shape, array.shape, strict=False)
    )
    if not fits:
        raise InputError(
            f"{path}: {one.name!r} is {_shown(array.shape)}, and the model reads "
            f"{_shown(one.shape)}"
        )
    if array.dtype.name != one.dtype:
        raise InputError(
            f"{path}: {one.name!r} is {array.dtype.name}, and the model reads {one.dtype}"
        )


def _shown(shape: Sequence[int | str]) -> str:
    return "x".join(map(str, shape)) or "a number"
