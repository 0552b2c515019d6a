"""Makes the case of one combination of settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from cspbench.core.case import Case, Ref
from cspbench.core.options import Axis, Value, without_defaults
from cspbench.errors import InputError
from cspbench.models.build import own_size, refuses_input
from cspbench.models.spec import ModelSpec
from cspbench.suite.catalog import Catalog
from cspbench.suite.problems import Problems, SourceLocation
from cspbench.suite.settings import Setting, Settings, without_name

_FUSION, _CSP = "csp.fusion", "csp."


class SkippedCombination(Exception):
    """The combination has no case of its own, another of the matrix has; the text says why."""


class InvalidCombination(Exception):
    """The combination contains a mistake, which has been noted."""


class Resolved(NamedTuple):
    """A case, the names of the chosen settings that have an effect on it, and its options."""

    case: Case
    used: frozenset[str]
    options: dict[str, frozenset[Value]]


class _Part(NamedTuple):
    """A model, neck or backend of a case: its part of the id, all option values, the settings."""

    ref: Ref
    values: dict[str, Value]
    settings: Settings


@dataclass
class _Choice:
    """Finds the setting of an axis, and records which chosen settings and defaults were used."""

    forced: Settings
    chosen: Settings
    defaults: Settings
    defaults_used: set[str]
    used: set[str] = field(default_factory=set)

    def get(self, axis: str, fixed: Setting | None = None) -> Setting | None:
        if axis in self.forced:
            return self.forced[axis]
        if fixed is not None:
            return fixed
        if axis in self.chosen:
            self.used.add(axis)
            return self.chosen[axis]
        if axis in self.defaults:
            self.defaults_used.add(axis)
        return self.defaults.get(axis)

    def options(self, axes: Iterable[Axis], fixed: Settings) -> Settings:
        settings: Settings = {}
        for axis in axes:
            setting = self.get(axis.name, fixed.get(axis.name))
            if setting is not None:
                settings[axis.name] = setting
        return self._csp(settings)

    def _csp(self, settings: Settings) -> Settings:
        """Other ``csp.`` options imply a fusion; with ``csp.fusion: none`` they have no effect."""
        others = [name for name in settings if name.startswith(_CSP) and name != _FUSION]
        if _FUSION not in settings:
            implied = {_FUSION: Setting("csp", settings[others[0]].where)} if others else {}
            return {**settings, **implied}
        if settings[_FUSION].value != "none":
            return settings
        self.used.difference_update(others)
        return {name: setting for name, setting in settings.items() if name not in others}


@dataclass(frozen=True)
class Resolver:
    """Makes the cases of combinations.

    For each axis the first of these counts: ``forced`` (the command line), the part that a model,
    neck or backend value itself fixes (``peleenet+prn@416``), the chosen settings (a combination
    of the matrix, or an include item), the defaults, the axis's own default.
    """

    catalog: Catalog
    problems: Problems
    defaults: Settings
    forced: Settings
    #: Names of the defaults that at least one case so far uses.
    defaults_used: set[str] = field(default_factory=set)

    def resolve(
        self, chosen: Settings, where: SourceLocation, *, has_fp32: bool = False
    ) -> Resolved:
        """Make the case of the chosen settings.

        Args:
            chosen: checked settings by axis.
            where: location for the report of a missing model or backend.
            has_fp32: whether the same matrix has precision fp32 too.

        Raises:
            InvalidCombination: the combination contains a mistake, which has been noted.
            SkippedCombination: the backend has only fp32, and the matrix has fp32 too.
        """
        choice = _Choice(self.forced, chosen, self.defaults, self.defaults_used)
        chosen_model = self._required(choice, "model", where)
        chosen_backend = self._required(choice, "backend", where)
        before = len(self.problems)
        spec = self.catalog.model(chosen_model.value.model.name)
        model = self._part(choice, spec.name, spec.all_axes, chosen_model.value.model, chosen_model)
        neck = self._neck(choice, spec, chosen_model)
        backend_spec = self.catalog.backend(chosen_backend.value.name)
        backend = self._part(
            choice, backend_spec.name, backend_spec.axes, chosen_backend.value, chosen_backend
        )
        if "precision" not in backend.values:
            self._only_fp32(choice, backend_spec.name, has_fp32)
        self._combination(spec, model, chosen_model)
        case = Case(
            model=model.ref,
            neck=neck.ref if neck else None,
            input=self._input(choice, spec, model, chosen_model),
            backend=backend.ref,
            batch=self._count(choice, "batch"),
            threads=self._count(choice, "threads"),
        )
        if len(self.problems) > before:
            raise InvalidCombination
        return Resolved(case, frozenset(choice.used), _all_options(model, neck, backend))

    def _required(self, choice: _Choice, axis: str, where: SourceLocation) -> Setting:
        setting = choice.get(axis)
        if setting is None:
            self._wrong(where, f"no {axis} is given, neither here nor in defaults")
        return setting

    def _wrong(self, where: SourceLocation, sentence: str, owner: str = "") -> NoReturn:
        self.problems.add(where, sentence, owner)
        raise InvalidCombination

    def _part(
        self, choice: _Choice, name: str, axes: tuple[Axis, ...], ref: Ref, setting: Setting
    ) -> _Part:
        fixed = {key: Setting(value, setting.where) for key, value in ref.options}
        settings = choice.options(axes, fixed)
        values: dict[str, Value] = {}
        for axis in axes:
            if axis.name not in settings:
                values[axis.name] = axis.default
                continue
            try:
                values[axis.name] = axis.check(settings[axis.name].value)
            except ValueError as error:
                self._wrong(settings[axis.name].where, without_name(error, axis.name), name)
        return _Part(Ref.of(ref.name, without_defaults(axes, values)), values, settings)

    def _neck(self, choice: _Choice, spec: ModelSpec, model: Setting) -> _Part | None:
        if not spec.necks:
            return None
        fixed = model.value.neck
        setting = choice.get("neck", Setting(fixed, model.where) if fixed else None)
        if setting is None or setting.value is None:
            return None
        neck = self.catalog.neck(setting.value.name)
        return self._part(choice, neck.name, neck.axes, setting.value, setting)

    def _only_fp32(self, choice: _Choice, backend: str, has_fp32: bool) -> None:
        setting = choice.get("precision")
        if setting is None or setting.value == "fp32":
            return
        if has_fp32:
            raise SkippedCombination(f"{backend} computes in fp32 only")
        sentence = f"must be fp32, not {setting.value}: the backend has no other precision"
        self._wrong(setting.where, sentence, backend)

    def _combination(self, spec: ModelSpec, model: _Part, setting: Setting) -> None:
        """Ask the model whether its options go together."""
        reason = spec.check(model.values) if spec.check is not None else None
        if reason:
            named = [place for name, place in model.settings.items() if name in reason]
            places = [*named, *model.settings.values(), setting]
            self._wrong(places[0].where, reason, spec.name)

    def _input(
        self, choice: _Choice, spec: ModelSpec, part: _Part, model: Setting
    ) -> tuple[int, int]:
        fixed = model.value.input
        setting = choice.get("input", Setting(fixed, model.where) if fixed else None)
        if setting is None:
            try:
                size = own_size(spec, part.values)
            except InputError as error:
                self._wrong(model.where, str(error), spec.name)
            if size is None:
                self._wrong(model.where, spec.open_size, spec.name)
            return size
        reason = refuses_input(spec, setting.value)
        if reason:
            self._wrong(setting.where, reason, spec.name)
        return setting.value  # type: ignore[no-any-return]

    def _count(self, choice: _Choice, axis: str) -> int:
        setting = choice.get(axis)
        return setting.value if setting is not None else 1


def _all_options(*parts: _Part | None) -> dict[str, frozenset[Value]]:
    by_name: dict[str, set[Value]] = {}
    for part in parts:
        for name, value in (part.values if part else {}).items():
            by_name.setdefault(name, set()).add(value)
    by_name.setdefault("precision", {"fp32"})
    return {name: frozenset(values) for name, values in by_name.items()}
