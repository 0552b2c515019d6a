"""Makes the cases of a suite from its sections: expand, collapse, exclude, include, merge."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from cspbench.core.case import Case, Ref
from cspbench.suite.problems import Problems, SourceLocation
from cspbench.suite.resolve import InvalidCombination, Resolved, Resolver, SkippedCombination
from cspbench.suite.settings import SettingReader, Settings
from cspbench.suite.tree import Path, Tree

MAX_CASES = 10_000
#: How often a combination may be compared with a value of ``exclude``.
MAX_COMPARISONS = 1_000_000


@dataclass
class Notes:
    """Combinations that did not become one case each, and defaults without effect."""

    #: Axes without effect -> model and backend -> [combinations, cases].
    collapsed: dict[tuple[str, ...], dict[str, list[int]]] = field(default_factory=dict)
    unused_defaults: tuple[str, ...] = ()
    left_out: Counter[str] = field(default_factory=Counter)
    excluded: dict[SourceLocation, int] = field(default_factory=dict)
    repeated: Counter[str] = field(default_factory=Counter)

    def collapse(self, resolved: Resolved, unused: tuple[str, ...], cases: int) -> None:
        """Count a combination some of whose axes the case does not have."""
        owner = f"{resolved.case.model_id}/{resolved.case.backend}"
        count = self.collapsed.setdefault(unused, {}).setdefault(owner, [0, 0])
        count[0] += 1
        count[1] += cases

    def sentences(self) -> list[str]:
        """One sentence each, in a fixed order."""
        sentences = [f"defaults: no case uses {name}" for name in self.unused_defaults]
        for unused, owners in self.collapsed.items():
            names = list(owners)
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            combinations, cases = (sum(count[i] for count in owners.values()) for i in (0, 1))
            sentences.append(
                f"collapsed: no effect of {', '.join(unused)} on {', '.join(names[:4])}{more}: "
                f"{_count(combinations, 'combination')} gave {_count(cases, 'case')}"
            )
        sentences += [
            f"left out: {_count(number, 'combination')}, because {reason}"
            for reason, number in self.left_out.items()
        ]
        sentences += [
            f"excluded: {_count(number, 'case')} by the item on line {where.line}"
            for where, number in self.excluded.items()
        ]
        sentences += [
            f"merged: {case_id} was given {number + 1} times"
            for case_id, number in self.repeated.items()
        ]
        return sentences


class _Exclude(NamedTuple):
    """An item of ``exclude``: of every key one value must match the case."""

    where: SourceLocation
    entries: tuple[tuple[Settings, ...], ...]

    def matches(self, resolved: Resolved) -> bool:
        return all(
            any(all(_has(resolved, name, setting.value) for name, setting in value.items())
                for value in values)
            for values in self.entries
        )  # fmt: skip


@dataclass
class Expander:
    """Makes the cases of a tree; mistakes go to the problems.

    ``forced`` are settings of the command line, which replace the suite's of the same axes.
    Malformed parts are skipped: :mod:`cspbench.suite.schema` reports them.
    """

    tree: Tree
    reader: SettingReader
    forced: Settings
    cases: dict[str, Case] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)

    @property
    def problems(self) -> Problems:
        """Collects the mistakes."""
        return self.reader.problems

    def expand(self) -> None:
        """Fill ``cases`` and ``notes``."""
        defaults = self._settings(("defaults",)) if self._is("defaults", dict) else {}
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
        used = resolver.defaults_used | self.forced.keys()
        self.notes.unused_defaults = tuple(name for name in defaults if name not in used)

    def _items(self, section: str) -> list[Path]:
        if not self._is(section, list):
            return []
        items = self.tree.at((section,))
        return [(section, i) for i, item in enumerate(items) if isinstance(item, dict)]

    def _is(self, section: str, kind: type) -> bool:
        return isinstance(self.tree.data.get(section), kind)

    def _settings(self, path: Path) -> Settings:
        """Read a mapping with one value for each axis."""
        settings: Settings = {}
        for axis in self.tree.at(path):
            inner = (*path, axis)
            if not self.reader.known(self.tree, inner, axis):
                continue
            for name, setting in (self.reader.read(self.tree, inner, axis) or {}).items():
                if name in settings:
                    self.problems.add(setting.where, f"{name} is given twice")
                settings[name] = setting
        return settings

    def _values(self, path: Path, axis: str) -> list[Settings] | None:
        """Read a list of values of one axis (or one value); None if all of them are wrong."""
        if not self.reader.known(self.tree, path, axis):
            return None
        value = self.tree.at(path)
        if value is None and axis not in ("neck", "csp"):
            value = []
        paths = [(*path, i) for i in range(len(value))] if isinstance(value, list) else [path]
        if not paths:
            self.problems.add(self.tree.where(path), "is empty; give at least one value")
        read = [self.reader.read(self.tree, inner, axis) for inner in paths]
        return [settings for settings in read if settings is not None] or None

    def _matrix_paths(self) -> list[tuple[str, Path]]:
        """Axes of the matrix with their paths; ``csp: {gamma: [...]}`` is ``csp.gamma``."""
        paths: list[tuple[str, Path]] = []
        for axis, value in self.tree.at(("matrix",)).items():
            if axis == "csp" and isinstance(value, dict):
                paths += [(f"csp.{key}", ("matrix", axis, key)) for key in value]
            else:
                paths.append((axis, ("matrix", axis)))
        return paths

    def _matrix(self) -> list[list[Settings]] | None:
        """Values of each axis of the matrix; None if they cannot be combined."""
        axes: list[list[Settings]] = []
        seen: set[str] = set()
        usable = True
        for axis, path in self._matrix_paths():
            values = self._values(path, axis)
            if values is None:
                usable = usable and axis not in ("model", "backend")
                continue
            names = {name for settings in values for name in settings}
            if names & seen:
                self.problems.add(self.tree.where(path, key=True), f"{axis} is given twice")
            seen |= names
            if names - self.forced.keys():
                axes.append([_without(settings, self.forced) for settings in values])
        sizes = [len(values) for values in axes]
        if math.prod(sizes) > MAX_CASES:
            self.problems.add(
                self.tree.where(("matrix",), key=True),
                f"{' x '.join(map(str, sizes))} = {math.prod(sizes):,} combinations, "
                f"more than the {MAX_CASES:,} that a suite may have",
            )
            return None
        return axes if usable else None

    def _few_comparisons(self, axes: list[list[Settings]], excludes: list[_Exclude]) -> bool:
        """Whether the excludes can be compared with every combination in a few seconds."""
        combinations = math.prod(map(len, axes))
        values = sum(len(values) for item in excludes for values in item.entries)
        few = combinations * values <= MAX_COMPARISONS
        if not few:
            self.problems.add(
                self.tree.where(("exclude",), key=True),
                f"{values:,} values for {combinations:,} combinations are "
                f"{combinations * values:,} comparisons, more than the {MAX_COMPARISONS:,} that a "
                "suite may need; exclude by fewer values, or shorten the matrix",
            )
        return few

    def _expand_matrix(self, resolver: Resolver, excludes: list[_Exclude]) -> None:
        where = self.tree.where(("matrix",), key=True)
        if not self.tree.at(("matrix",)):
            self.problems.add(where, "is empty; give at least model and backend")
            return
        axes = self._matrix()
        if axes is None or not self._few_comparisons(axes, excludes):
            return
        has_fp32 = any(
            settings["precision"].value == "fp32"
            for values in axes for settings in values if "precision" in settings
        )  # fmt: skip
        self.notes.excluded = {item.where: 0 for item in excludes}
        collapsed: set[tuple[tuple[str, int], ...]] = set()
        for combination in itertools.product(*axes):
            chosen = {name: one for settings in combination for name, one in settings.items()}
            try:
                resolved = resolver.resolve(chosen, where, has_fp32=has_fp32)
            except SkippedCombination as reason:
                self.notes.left_out[str(reason)] += 1
                continue
            except InvalidCombination:
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
        return _Exclude(where, tuple(tuple(values) for values in entries if values))

    def _include(self, path: Path, resolver: Resolver) -> None:
        before = len(self.problems)
        settings = self._settings(path)
        if len(self.problems) > before:
            return
        chosen = _without(settings, self.forced)
        try:
            resolved = resolver.resolve(chosen, self.tree.where(path))
        except InvalidCombination:
            return
        for name in chosen:
            if name not in resolved.used and chosen[name].value != "none":
                self.problems.add(chosen[name].where, _no_effect(name, resolved.case))
        self._add(resolved.case)


def _no_effect(axis: str, case: Case) -> str:
    parts = [case.model.name, *([case.neck.name] if case.neck else []), case.backend.name]
    if axis == "input":
        return "the model's name already fixes the input; give it once"
    if axis == "neck":
        return f"{case.model.name} takes no neck, or the model's name already fixes one"
    if axis.startswith("csp.") and axis != "csp.fusion":
        return "has no effect without a csp.fusion"
    return f"neither {' nor '.join(parts)} has this axis, or its name already fixes it"


def _axes_without_effect(chosen: Settings, used: frozenset[str]) -> tuple[str, ...]:
    """Axes for a note; ``csp`` for all its options if none of them has an effect."""
    unused = [name for name in chosen if name not in used]
    if not any(name.startswith("csp.") for name in used):
        unused = ["csp" if name.startswith("csp.") else name for name in unused]
    return tuple(dict.fromkeys(unused))


def _without(settings: Settings, names: Settings) -> Settings:
    return {name: setting for name, setting in settings.items() if name not in names}


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


def _same(resolved: Resolved, ref: Ref, excluded: Ref) -> bool:
    return ref.name == excluded.name and all(
        value in resolved.options.get(name, ()) for name, value in excluded.options
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
