"""A suite made of arguments: models, and what to vary, without a YAML file.

The text of such a suite is an ordinary one, so that it can be saved and edited.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cspbench.backends.spec import BACKENDS, device_of
from cspbench.core.case import ModelId, parse_value
from cspbench.core.options import Value
from cspbench.errors import InputError
from cspbench.machine.devices.spec import HOST
from cspbench.machine.facts import default_threads
from cspbench.models.build import as_model_id, cannot_split, own_batch, spec_of, split_source
from cspbench.models.input_file import with_input_file
from cspbench.models.typed import moved
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Suite

#: How a model is measured unless the user says otherwise: the first table comes within a minute.
MEASURE: dict[str, object] = {
    "rounds": 3,
    "warmup": 0.5,
    "max_seconds": 1.0,
    "target_ratio": 0.05,
    "budget_seconds": 45,
}


@dataclass(frozen=True)
class Choice:
    """What to measure of models: values of the axes as people type them, empty for the default.

    Without ``backend`` these are all that run on this machine's processor and read the models;
    without ``batch`` the one that a file fixes, or 1; without ``threads`` one thread and as many as
    the usable processors, or as a container allows. ``input_file`` holds what the models read.
    """

    backend: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    batch: tuple[int, ...] = ()
    input: tuple[str, ...] = ()
    precision: tuple[str, ...] = ()
    input_file: str = ""
    #: Options of the cross-stage-partial form and their values: ``("gamma", (0.25, 0.5))``.
    csp: tuple[tuple[str, tuple[Value, ...]], ...] = ()

    @property
    def given(self) -> list[str]:
        """Names of the options that are given."""
        names = [item.name for item in dataclasses.fields(self) if getattr(self, item.name)]
        return [name.replace("_", "-") for name in names]


@dataclass(frozen=True)
class AdHocSuite:
    """The text of a suite, and the suite that was read from it."""

    text: str
    suite: Suite = field(repr=False)


def adhoc_suite(
    models: Sequence[str | os.PathLike[str]],
    choice: Choice,
    overrides: Mapping[str, object] | None = None,
    file: Path | None = None,
) -> AdHocSuite:
    """Make the suite of some models.

    Args:
        models: ids, or paths of models' files.
        choice: what to vary.
        overrides: settings that replace the suite's, as ``load_suite`` takes them.
        file: where the text will be saved; paths of models are written relative to its folder.

    Raises:
        InputError: a model, a backend or a value that is wrong, or no folder for the file.
    """
    if file is not None and not file.parent.is_dir():
        raise InputError(f"cannot write {file}: there is no folder {file.parent}")
    ids = [as_model_id(model) for model in models]
    if choice.input_file:
        ids = [with_input_file(model, choice.input_file) for model in ids]
    folder = Path() if file is None else file.parent
    matrix: dict[str, Any] = {
        "model": [str(_relative(model, folder)) for model in ids],
        "backend": list(choice.backend) or _backends(ids, choice.precision),
        "threads": list(choice.threads) or sorted({1, default_threads()}),
    }
    matrix |= {
        name: list(getattr(choice, name))
        for name in ("batch", "input", "precision")
        if getattr(choice, name)
    }
    batches = sorted(set(map(own_batch, ids)))
    if not choice.batch and batches != [1]:
        matrix["batch"] = batches
    if choice.csp:
        matrix["csp"] = _csp(ids, dict(choice.csp))
    text = _text(_name(ids), matrix)
    suite = load_suite(file or Path("models.yaml"), overrides, content=text.encode())
    return AdHocSuite(text, dataclasses.replace(suite, path=""))  # it is of no file


def _csp(models: Sequence[ModelId], options: Mapping[str, Sequence[Value]]) -> dict[str, Any]:
    """The plain network first, which is the reference, then its cross-stage-partial forms.

    Raises:
        InputError: a model has none.
    """
    for model in models:
        if not spec_of(model).staged:
            raise InputError(f"--csp: {cannot_split(model.model.name)}")
    fusions = [fusion for fusion in options.get("fusion", ("csp",)) if fusion != "none"]
    rest = {name: list(values) for name, values in options.items() if name != "fusion"}
    return {"fusion": ["none", *fusions], **rest}


def _relative(model: ModelId, folder: Path) -> ModelId:
    """The model with the path of its file as the suite's folder sees it."""

    def move(path: str) -> str:
        return os.path.relpath(path, folder) if os.path.lexists(path) else path

    if folder == Path():
        return model
    return dataclasses.replace(model, model=moved(model.model, move))


def _backends(models: Sequence[ModelId], precisions: Sequence[str]) -> list[str]:
    """Backends of the processor that can run here and read one of the models.

    Raises:
        InputError: there is none.
    """
    kinds = {_artifact(model) for model in models}
    here = [backend for backend in BACKENDS
            if device_of(backend, {}) == HOST and backend.available() is None]  # fmt: skip
    reading = [one for one in here if None in kinds or one.artifact in kinds]
    fitting = [one for one in reading if not precisions or _offers(one.axes, precisions)]
    if not fitting:
        why = f" in {' or '.join(precisions)}" if precisions and reading else ""
        raise InputError(
            f"no backend of this machine's processor can run {models[0].model}{why}: see cspbench "
            "doctor, or name one with --backend"
        )
    return [backend.name for backend in fitting]


def _artifact(model: ModelId) -> str | None:
    """The kind of artifact that the model's file is; None where any kind can be made of it."""
    source = split_source(model.model.name)
    return source[0].artifact if source else None


def _offers(axes: Sequence[Any], precisions: Sequence[str]) -> bool:
    choices = {str(one) for axis in axes if axis.name == "precision" for one in axis.choices}
    return bool((choices or {"fp32"}) & set(precisions))


def _name(models: Sequence[ModelId]) -> str:
    """A name for run directories, of the first model."""
    target = models[0].model.name.rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9]+", "-", re.sub(r"^[a-z]+:", "", target)).strip("-") or "model"
    return f"{name[:50]}{f'-and-{len(models) - 1}' if len(models) > 1 else ''}"


def _text(name: str, matrix: Mapping[str, Any]) -> str:
    """The suite as YAML; values in JSON's form, which is YAML too."""
    lines = [f"name: {json.dumps(name)}", "matrix:"]
    lines += [f"  {axis}: {json.dumps(values)}" for axis, values in matrix.items()]
    measure = ", ".join(f"{key}: {json.dumps(value)}" for key, value in MEASURE.items())
    return "\n".join([*lines, f"measure: {{{measure}}}", ""])


def numbers(text: str, option: str) -> tuple[int, ...]:
    """``1,2,4`` as whole numbers.

    Raises:
        InputError: something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) >= 1 for part in parts):
        raise InputError(f"{option} {text}: write whole numbers from 1 on, such as {option} 1,2")
    return tuple(map(int, parts))


def csp_options(
    texts: Sequence[str], fusions: Sequence[str]
) -> tuple[tuple[str, tuple[Value, ...]], ...]:
    """``--csp gamma=0.25,0.5`` and ``--fusion csp,last`` as options with their values.

    >>> csp_options(["gamma=0.25,0.5,split=slice"], ["last"])
    (('gamma', (0.25, 0.5)), ('split', ('slice',)), ('fusion', ('last',)))

    Raises:
        InputError: something else, or an option twice.
    """
    options: dict[str, list[Value]] = {}
    for text in texts:
        name = ""
        for part in text.split(","):
            key, equals, value = (piece.strip() for piece in part.rpartition("="))
            if equals and key in options:
                raise InputError(f"--csp {text}: {key} is given twice")
            name = key if equals else name
            if not name or not value:
                raise InputError(f"--csp {text}: write it as --csp gamma=0.25,0.5,0.75")
            options.setdefault(name, []).append(parse_value(value))
    if fusions:
        if "fusion" in options:
            raise InputError("--fusion and --csp fusion=...: give the fusion once")
        options["fusion"] = list(fusions)
    return tuple((name, tuple(values)) for name, values in options.items())
