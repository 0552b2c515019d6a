"""From the sections of a suite to its cases: expand, collapse, exclude, include, merge."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from cspbench.core.case import Case, Ref
from cspbench.suite.problems import Problems, Where
from cspbench.suite.resolve import LeftOut, Resolved, Resolver, Wrong
from cspbench.suite.settings import Layer, SettingReader
from cspbench.suite.tree import Path, Tree

MAX_CASES = 10_000


@dataclass
class Notes:
    """What was done to the combinations besides making a case of each."""

    #: Axes without effect -> model and backend -> [combinations, cases].
    collapsed: dict[tuple[str, ...], dict[str, list[int]]] = field(default_factory=dict)
    idle_defaults: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    excluded: dict[Where, int] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)

    def collapse(self, resolved: Resolved, unused: tuple[str, ...], cases: int) -> None:
        """Count a combination some of whose axes the case does not have."""
        owner = f"{resolved.case.model_id}/{resolved.case.backend}"
        count = self.collapsed.setdefault(unused, {}).setdefault(owner, [0, 0])
        count[0] += 1
        count[1] += cases

    def sentences(self) -> list[str]:
        """One sentence each, in a fixed order."""
        found = [f"defaults: no case uses {name}" for name in self.idle_defaults]
        for unused, owners in self.collapsed.items():
            names = list(owners)
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            combinations, cases = (sum(count[i] for count in owners.values()) for i in (0, 1))
            found.append(
                f"collapsed: no effect of {', '.join(unused)} on {', '.join(names[:4])}{more}: "
                f"{_count(combinations, 'combination')} gave {_count(cases, 'case')}"
            )
        found += [
            f"left out: {_count(number, 'combination')}, because {reason}"
            for reason, number in self.left_out.items()
        ]
        found += [
            f"excluded: {_count(number, 'case')} by the item on line {where.line}"
            for where, number in self.excluded.items()
        ]
        found += [
            f"merged: {case_id} was given {number + 1} times"
            for case_id, number in self.repeated.items()
        ]
        return found


class _Exclude(NamedTuple):
    """An item of ``exclude``: every entry must match by one of its values."""

    where: Where
    entries: tuple[tuple[Layer, ...], ...]

    def matches(self, resolved: Resolved) -> bool:
        return all(
            any(all(_has(resolved, name, given.value) for name, given in layer.items())
                for layer in layers)
            for layers in self.entries
        )  # fmt: skip


@dataclass
class Expander:
    """Makes the cases of a tree; mistakes go to the problems.

    ``forced`` are values of the command line: they replace what the suite says of these axes.
    Parts whose form is wrong are passed over: :mod:`cspbench.suite.schema` has said so.
    """

    tree: Tree
    reader: SettingReader
    forced: Layer
    cases: dict[str, Case] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    @property
    def problems(self) -> Problems:
        """Where mistakes go."""
        return self.reader.problems

    def expand(self) -> None:
        """Fill ``cases`` and ``notes``."""
        defaults = self._layer(("defaults",)) if self._is("defaults", dict) else {}
        resolver = Resolver(self.reader.catalog, self.problems, defaults, self.forced)
        excludes = []
        for path in self._items("exclude"):
            item = self._exclude(path)
            if item is not None:
                excludes.append(item)
        if self._is("matrix", dict):
            self._expand_matrix(resolver, excludes)
        for path in self._items("include"):
            self._include(path, resolver)
        idle = [n for n in defaults if n not in resolver.defaults_used and n not in self.forced]
        self.notes.idle_defaults = tuple(idle)

    def _items(self, section: str) -> list[Path]:
        if not self._is(section, list):
            return []
        items = self.tree.at((section,))
        return [(section, i) for i, item in enumerate(items) if isinstance(item, dict)]

    def _is(self, section: str, kind: type) -> bool:
        return isinstance(self.tree.data.get(section), kind)

    def _layer(self, path: Path) -> Layer:
        """Read a mapping with one value for each axis."""
        layer: Layer = {}
        for axis in self.tree.at(path):
            inner = (*path, axis)
            if not self.reader.known(self.tree, inner, axis):
                continue
            for name, given in (self.reader.read(self.tree, inner, axis) or {}).items():
                if name in layer:
                    self.problems.add(given.where, f"{name} is given twice")
                layer[name] = given
        return layer

    def _values(self, path: Path, axis: str) -> list[Layer] | None:
        """Read a list of values of one axis (or one alone); None if none of them is right."""
        if not self.reader.known(self.tree, path, axis):
            return None
        value = self.tree.at(path)
        if value is None and axis not in ("neck", "csp"):
            value = []
        paths = [(*path, i) for i in range(len(value))] if isinstance(value, list) else [path]
        if not paths:
            self.problems.add(self.tree.where(path), "is empty; give at least one value")
        read = [self.reader.read(self.tree, inner, axis) for inner in paths]
        return [layer for layer in read if layer is not None] or None

    def _matrix_paths(self) -> list[tuple[str, Path]]:
        """Axes of the matrix with their paths; ``csp: {gamma: [...]}`` is ``csp.gamma``."""
        found: list[tuple[str, Path]] = []
        for axis, value in self.tree.at(("matrix",)).items():
            if axis == "csp" and isinstance(value, dict):
                found += [(f"csp.{key}", ("matrix", axis, key)) for key in value]
            else:
                found.append((axis, ("matrix", axis)))
        return found

    def _matrix(self) -> list[list[Layer]] | None:
        """Values of each axis of the matrix; None if they cannot be combined."""
        axes: list[list[Layer]] = []
        seen: set[str] = set()
        usable = True
        for axis, path in self._matrix_paths():
            values = self._values(path, axis)
            if values is None:
                usable = usable and axis not in ("model", "backend")
                continue
            names = {name for layer in values for name in layer}
            if names & seen:
                self.problems.add(self.tree.where(path, key=True), f"{axis} is given twice")
            seen |= names
            if names - self.forced.keys():
                axes.append([_without(layer, self.forced) for layer in values])
        sizes = [len(values) for values in axes]
        if math.prod(sizes) > MAX_CASES:
            self.problems.add(
                self.tree.where(("matrix",), key=True),
                f"{' x '.join(map(str, sizes))} = {math.prod(sizes):,} combinations, "
                f"more than the {MAX_CASES:,} that a suite may have",
            )
            return None
        return axes if usable else None

    def _expand_matrix(self, resolver: Resolver, excludes: list[_Exclude]) -> None:
        where = self.tree.where(("matrix",), key=True)
        if not self.tree.at(("matrix",)):
            self.problems.add(where, "is empty; give at least model and backend")
            return
        axes = self._matrix()
        if axes is None:
            return
        has_fp32 = any(
            layer["precision"].value == "fp32"
            for values in axes for layer in values if "precision" in layer
        )  # fmt: skip
        self.notes.excluded = {item.where: 0 for item in excludes}
        collapsed: set[tuple[tuple[str, int], ...]] = set()
        for combination in itertools.product(*axes):
            chosen = {name: given for layer in combination for name, given in layer.items()}
            try:
                resolved = resolver.resolve(chosen, where, has_fp32=has_fp32)
            except LeftOut as reason:
                self.notes.left_out[str(reason)] += 1
                continue
            except Wrong:
                continue
            # Combinations that differ only in axes without effect are one case.
            effect = tuple((name, id(chosen[name])) for name in chosen if name in resolved.used)
            if len(effect) < len(chosen):
                unused = _axes_without_effect(chosen, resolved.used)
                self.notes.collapse(resolved, unused, int(effect not in collapsed))
            if effect not in collapsed:
                collapsed.add(effect)
                self._add_unless_excluded(resolved, excludes)

    def _add_unless_excluded(self, resolved: Resolved, excludes: list[_Exclude]) -> None:
        for item in excludes:
            if item.matches(resolved):
                self.notes.excluded[item.where] += 1
                return
        self._add(resolved.case)

    def _add(self, case: Case) -> None:
        if self.cases.setdefault(case.id, case) is not case:
            self.notes.repeated[case.id] += 1

    def _exclude(self, path: Path) -> _Exclude | None:
        item = self.tree.at(path)
        where = self.tree.where(path)
        if not item:
            self.problems.add(where, "an item is empty; it would leave out every case")
            return None
        entries = [self._values((*path, axis), axis) for axis in item]
        return _Exclude(where, tuple(tuple(layers) for layers in entries if layers))

    def _include(self, path: Path, resolver: Resolver) -> None:
        before = len(self.problems)
        given = self._layer(path)
        if len(self.problems) > before:
            return
        chosen = _without(given, self.forced)
        try:
            resolved = resolver.resolve(chosen, self.tree.where(path))
        except Wrong:
            return
        for name in chosen:
            if name not in resolved.used and chosen[name].value != "none":
                self.problems.add(chosen[name].where, _no_effect(name, resolved.case))
        self._add(resolved.case)


def _no_effect(axis: str, case: Case) -> str:
    parts = [case.model.name, *([case.neck.name] if case.neck else []), case.backend.name]
    if axis == "input":
        return "the model already names its input; give it once"
    if axis == "neck":
        return f"{case.model.name} takes no neck, or the model already names one"
    if axis.startswith("csp.") and axis != "csp.fusion":
        return "has no effect without a csp.fusion"
    return f"neither {' nor '.join(parts)} has this axis, or its name already fixes it"


def _axes_without_effect(chosen: Layer, used: frozenset[str]) -> tuple[str, ...]:
    """Names for a note; ``csp`` where none of its options has an effect."""
    unused = [name for name in chosen if name not in used]
    if not any(name.startswith("csp.") for name in used):
        unused = ["csp" if name.startswith("csp.") else name for name in unused]
    return tuple(dict.fromkeys(unused))


def _without(layer: Layer, names: Layer) -> Layer:
    return {name: given for name, given in layer.items() if name not in names}


def _has(resolved: Resolved, axis: str, value: object) -> bool:
    """Whether the case has the value of an exclude item; a name matches with any options."""
    case = resolved.case
    if axis == "model":
        return (
            _same(resolved, case.model, value.model)  # type: ignore[attr-defined]
            and (value.neck is None or _has(resolved, "neck", value.neck))  # type: ignore[attr-defined]
            and value.input in (None, case.input)  # type: ignore[attr-defined]
        )
    if axis == "neck":
        if case.neck is None or value is None:
            return case.neck is value
        return _same(resolved, case.neck, value)  # type: ignore[arg-type]
    if axis == "backend":
        return _same(resolved, case.backend, value)  # type: ignore[arg-type]
    if axis in ("input", "batch", "threads"):
        return bool(getattr(case, axis) == value)
    return value in resolved.options.get(axis, ())


def _same(resolved: Resolved, ref: Ref, wanted: Ref) -> bool:
    return ref.name == wanted.name and all(
        value in resolved.options.get(name, ()) for name, value in wanted.options
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
