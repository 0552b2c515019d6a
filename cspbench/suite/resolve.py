"""One combination of values becomes one case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from cspbench.core.case import Case, Ref
from cspbench.core.options import Axis, Value, without_defaults
from cspbench.models.spec import ModelSpec
from cspbench.suite.catalog import Catalog
from cspbench.suite.problems import Problems, Where
from cspbench.suite.settings import Given, Layer, refuses_input, without_name

_FUSION, _CSP = "csp.fusion", "csp."


class LeftOut(Exception):
    """The combination does not exist, but another of the same matrix does; the text says why."""


class Wrong(Exception):
    """The combination holds a mistake, which has been noted."""


class Resolved(NamedTuple):
    """A case, the names of the chosen values that have an effect on it, and its options."""

    case: Case
    used: frozenset[str]
    options: dict[str, frozenset[Value]]


class _Part(NamedTuple):
    """A model, neck or backend of a case: as in the id, and with all its options."""

    ref: Ref
    values: dict[str, Value]
    givens: Layer


@dataclass
class _Choice:
    """Finds the value of an axis, and keeps track of the chosen values that were used."""

    forced: Layer
    chosen: Layer
    defaults: Layer
    defaults_used: set[str]
    used: set[str] = field(default_factory=set)

    def get(self, axis: str, fixed: Given | None = None) -> Given | None:
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

    def options(self, axes: Iterable[Axis], fixed: Layer) -> Layer:
        found: Layer = {}
        for axis in axes:
            given = self.get(axis.name, fixed.get(axis.name))
            if given is not None:
                found[axis.name] = given
        return self._csp(found)

    def _csp(self, found: Layer) -> Layer:
        """Other ``csp.`` options imply a fusion; without one they have no meaning."""
        others = [name for name in found if name.startswith(_CSP) and name != _FUSION]
        if _FUSION not in found:
            return {**found, _FUSION: Given("csp", found[others[0]].where)} if others else found
        if found[_FUSION].value != "none":
            return found
        self.used.difference_update(others)
        return {name: given for name, given in found.items() if name not in others}


@dataclass(frozen=True)
class Resolver:
    """Makes cases.

    For each axis the first of these counts: ``forced`` (the command line), what a model, neck or
    backend value itself fixes (``peleenet+prn@416``), the chosen values (a combination of the
    matrix, or an include item), the defaults, the axis's own default.
    """

    catalog: Catalog
    problems: Problems
    defaults: Layer
    forced: Layer
    #: Names of the defaults that any case so far has.
    defaults_used: set[str] = field(default_factory=set)

    def resolve(self, chosen: Layer, where: Where, *, has_fp32: bool = False) -> Resolved:
        """Make the case of the chosen values.

        Args:
            chosen: checked values by axis.
            where: what a missing model or backend is reported at.
            has_fp32: whether the same matrix has precision fp32 too.

        Raises:
            Wrong: a mistake, which has been noted.
            LeftOut: the backend has no other precision than fp32, which the matrix has too.
        """
        choice = _Choice(self.forced, chosen, self.defaults, self.defaults_used)
        model_given = self._required(choice, "model", where)
        backend_given = self._required(choice, "backend", where)
        before = len(self.problems)
        spec = self.catalog.model(model_given.value.model.name)
        model = self._part(choice, spec.name, spec.all_axes, model_given.value.model, model_given)
        neck = self._neck(choice, spec, model_given)
        backend_spec = self.catalog.backend(backend_given.value.name)
        backend = self._part(
            choice, backend_spec.name, backend_spec.axes, backend_given.value, backend_given
        )
        if "precision" not in backend.values:
            self._only_fp32(choice, backend_spec.name, has_fp32)
        self._combination(spec, model, model_given)
        case = Case(
            model=model.ref,
            neck=neck.ref if neck else None,
            input=self._input(choice, spec, model_given),
            backend=backend.ref,
            batch=self._count(choice, "batch"),
            threads=self._count(choice, "threads"),
        )
        if len(self.problems) > before:
            raise Wrong
        return Resolved(case, frozenset(choice.used), _all_options(model, neck, backend))

    def _required(self, choice: _Choice, axis: str, where: Where) -> Given:
        given = choice.get(axis)
        if given is None:
            self._wrong(where, f"no {axis} is given, neither here nor in defaults")
        return given

    def _wrong(self, where: Where, sentence: str, owner: str = "") -> NoReturn:
        self.problems.add(where, sentence, owner)
        raise Wrong

    def _part(
        self, choice: _Choice, name: str, axes: tuple[Axis, ...], ref: Ref, given: Given
    ) -> _Part:
        fixed = {key: Given(value, given.where) for key, value in ref.options}
        givens = choice.options(axes, fixed)
        values: dict[str, Value] = {}
        for axis in axes:
            if axis.name not in givens:
                values[axis.name] = axis.default
                continue
            try:
                values[axis.name] = axis.check(givens[axis.name].value)
            except ValueError as error:
                self._wrong(givens[axis.name].where, without_name(error, axis.name), name)
        return _Part(Ref.of(ref.name, without_defaults(axes, values)), values, givens)

    def _neck(self, choice: _Choice, spec: ModelSpec, model: Given) -> _Part | None:
        if not spec.necks:
            return None
        fixed = model.value.neck
        given = choice.get("neck", Given(fixed, model.where) if fixed else None)
        if given is None or given.value is None:
            return None
        neck = self.catalog.neck(given.value.name)
        return self._part(choice, neck.name, neck.axes, given.value, given)

    def _only_fp32(self, choice: _Choice, backend: str, has_fp32: bool) -> None:
        given = choice.get("precision")
        if given is None or given.value == "fp32":
            return
        if has_fp32:
            raise LeftOut(f"{backend} computes in fp32 only")
        sentence = f"must be fp32, not {given.value}: the backend has no other precision"
        self._wrong(given.where, sentence, backend)

    def _combination(self, spec: ModelSpec, model: _Part, given: Given) -> None:
        """Ask the model whether its options go together."""
        reason = spec.check(model.values) if spec.check is not None else None
        if reason:
            named = [place for name, place in model.givens.items() if name in reason]
            places = [*named, *model.givens.values(), given]
            self._wrong(places[0].where, reason, spec.name)

    def _input(self, choice: _Choice, spec: ModelSpec, model: Given) -> tuple[int, int]:
        fixed = model.value.input
        given = choice.get("input", Given(fixed, model.where) if fixed else None)
        if given is None:
            return (spec.input, spec.input)
        reason = refuses_input(spec, given.value)
        if reason:
            self._wrong(given.where, reason, spec.name)
        return given.value  # type: ignore[no-any-return]

    def _count(self, choice: _Choice, axis: str) -> int:
        given = choice.get(axis)
        return given.value if given is not None else 1


def _all_options(*parts: _Part | None) -> dict[str, frozenset[Value]]:
    found: dict[str, set[Value]] = {}
    for part in parts:
        for name, value in (part.values if part else {}).items():
            found.setdefault(name, set()).add(value)
    found.setdefault("precision", {"fp32"})
    return {name: frozenset(values) for name, values in found.items()}
