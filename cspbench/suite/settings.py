"""Reads the value of an axis from YAML and checks it against the registered options.

A value may set several axes at once: ``model: peleenet+prn@416`` fixes the neck and the input,
``csp: {gamma: 0.5}`` sets ``csp.gamma``. So a value becomes `Settings`: a mapping from axis to
checked value and location.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from cspbench.core.case import ModelId, Ref, parse_input
from cspbench.core.options import Axis, Value
from cspbench.core.text import nearest
from cspbench.errors import InputError
from cspbench.models.build import cannot_split, refuses_input
from cspbench.models.typed import moved, parse_model
from cspbench.suite.catalog import CORE_AXES, Catalog
from cspbench.suite.problems import Problems, SourceLocation, shown
from cspbench.suite.tree import Path, Tree

#: A case id holds up to six digits.
LARGEST = 999_999
FP32 = Axis("precision", "fp32", "choice", ("fp32",))


class Setting(NamedTuple):
    """The value of an axis, checked as far as is possible for it alone, and its location."""

    value: Any
    where: SourceLocation


Settings: TypeAlias = dict[str, Setting]


@dataclass
class SettingReader:
    """Reads values of axes; mistakes go to ``problems``.

    ``folder`` is the suite's: paths of model sources are relative to it.
    """

    catalog: Catalog
    problems: Problems
    folder: pathlib.Path

    def read(self, tree: Tree, path: Path, axis: str) -> Settings | None:
        """Read the value of ``axis`` at ``path``; note a mistake and return None if it is wrong."""
        value, where = tree.at(path), tree.where(path)
        if axis == "csp" and isinstance(value, dict):
            return self._group(tree, path, value)
        readers: dict[str, Callable[[object], object]] = {
            "model": self._model,
            "neck": self._neck,
            "backend": self._backend,
            "input": _input,
            "batch": _count,
            "threads": _count,
        }
        try:
            if axis == "csp":
                return {"csp.fusion": Setting(_no_csp(value), where)}
            checked = readers[axis](value) if axis in readers else self._option(axis, value)
        except (InputError, ValueError) as error:
            self.problems.add(where, str(error))
            return None
        return {axis: Setting(checked, where)}

    def known(self, tree: Tree, path: Path, axis: str) -> bool:
        """Whether any model, neck or backend has the axis; notes a mistake if none has."""
        if axis in CORE_AXES or axis in self.catalog.axis_names:
            return True
        names = self.catalog.axis_names
        self.problems.add(
            tree.where_unknown(path),
            f"unknown axis {shown(axis)}{nearest(axis, names)}; valid: {', '.join(names)}",
        )
        return False

    def _group(self, tree: Tree, path: Path, value: dict[str, Any]) -> Settings | None:
        """``csp: {gamma: 0.5, fusion: last}`` as the axes ``csp.gamma`` and ``csp.fusion``."""
        settings: Settings = {}
        for key in value:
            inner, axis = (*path, key), f"csp.{key}"
            read = self.read(tree, inner, axis) if self.known(tree, inner, axis) else None
            if read is None:
                return None
            settings.update(read)
        if not settings:
            self.problems.add(tree.where(path), "is empty")
        return settings or None

    def _model(self, value: object) -> ModelId:
        text = _text(value, "the name of a model")
        model = parse_model(text, self.catalog.sources)
        ref = moved(model.model, self._file, self.catalog.sources)
        spec = self.catalog.model(ref.name)
        if not spec.staged and any(name.startswith("csp.") for name, _ in ref.options):
            raise InputError(cannot_split(ref.name))
        ref = self._options(ref, spec.all_axes)
        neck = model.neck
        if neck is not None:
            if not spec.necks:
                raise InputError(f"{spec.name} takes no neck")
            neck = self._options(neck, self.catalog.neck(neck.name).axes)
        if model.input is not None and (reason := refuses_input(spec, model.input)):
            raise InputError(reason)
        return ModelId(ref, neck, model.input)

    def _neck(self, value: object) -> Ref | None:
        if value is None or value == "none":
            return None
        ref = _ref(value, "the name of a neck, or none")
        return self._options(ref, self.catalog.neck(ref.name).axes)

    def _backend(self, value: object) -> Ref:
        ref = _ref(value, "the name of a backend")
        return self._options(ref, self.catalog.backend(ref.name).axes)

    def _file(self, text: str) -> str:
        """A file beside the suite relative to the working directory; other texts unchanged."""
        try:
            beside = self.folder / text
            return os.path.relpath(beside) if beside.is_file() else text
        except (OSError, ValueError):
            return text  # too long for a path, or with a null character

    def _option(self, axis: str, value: object) -> Value:
        """Check the value against every registered definition of the axis; one must accept it."""
        if isinstance(value, (dict, list)) or value is None:
            raise InputError(f"must be one value, not {shown(value)}")
        candidates = self.catalog.axes.get(axis, ())
        if axis == "precision":
            candidates = (*candidates, FP32)
        reasons = []
        for candidate in candidates:
            try:
                return self._checked(candidate, value)
            except ValueError as error:
                reasons.append(without_name(error, axis))
        raise InputError(reasons[0])

    def _checked(self, axis: Axis, value: object) -> Value:
        """Check a value; a text that names a file beside the suite becomes its path."""
        checked = axis.check(value)
        is_text = axis.kind == "text" and isinstance(checked, str)
        return self._file(checked) if is_text else checked  # type: ignore[arg-type]

    def _options(self, ref: Ref, axes: tuple[Axis, ...]) -> Ref:
        """Check the options in brackets after a name."""
        known = {axis.name: axis for axis in axes}
        options: dict[str, Value] = {}
        for name, value in ref.options:
            if name not in known:
                valid = ", ".join(sorted(known)) or "none"
                raise InputError(
                    f"{ref.name} has no option {name!r}{nearest(name, list(known))}; valid: {valid}"
                )
            options[name] = self._checked(known[name], value)
        return Ref.of(ref.name, options)


def without_name(error: ValueError, axis: str) -> str:
    """The message of an axis without its leading name, which the location already contains."""
    return str(error).removeprefix(f"{axis} ")


def _input(value: object) -> tuple[int, int]:
    if isinstance(value, str):
        return parse_input(value)
    sides: list[Any] = value if isinstance(value, list) else [value, value]
    if len(sides) != 2 or not all(_is_count(side) for side in sides):
        raise InputError(
            "must be a size in pixels from 1 on: 320, 320x416 or [320, 416] (height, width), "
            f"not {_listed(value)}"
        )
    return sides[0], sides[1]


def _count(value: object) -> int:
    if not _is_count(value):
        raise InputError(f"must be a whole number from 1 to {LARGEST}, not {shown(value)}")
    return value  # type: ignore[return-value]


def _no_csp(value: object) -> str:
    if value is not None and value != "none":
        raise InputError(f"must be none or a mapping such as {{gamma: 0.5}}, not {shown(value)}")
    return "none"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST


def _text(value: object, expected: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"must be {expected}, not {shown(value)}")
    return value


def _ref(value: object, expected: str) -> Ref:
    parsed = ModelId.parse(_text(value, expected))
    if parsed.neck is not None or parsed.input is not None:
        raise InputError(f"must be {expected}, not {shown(value)}")
    return parsed.model


def _listed(value: object) -> str:
    if isinstance(value, list) and len(value) <= 4 and all(_is_plain(item) for item in value):
        return shown(value) if not value else f"[{', '.join(shown(item) for item in value)}]"
    return shown(value)


def _is_plain(item: object) -> bool:
    return isinstance(item, (int, float, str)) and len(str(item)) < 20
