"""Models, model sources, necks and backends that a suite can name, with their axes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from cspbench.backends.spec import BACKENDS, Backend
from cspbench.core.options import Axis
from cspbench.core.registry import Named, Registry
from cspbench.core.text import nearest
from cspbench.errors import InputError
from cspbench.models.spec import (
    CSP_AXES,
    MODELS,
    NECKS,
    SOURCES,
    ModelSpec,
    NeckSpec,
    SourceSpec,
)

T = TypeVar("T", bound=Named)

#: Axes that every case has.
CORE_AXES = ("model", "neck", "input", "batch", "threads", "backend")


@dataclass
class Catalog:
    """Registries in which the names of a suite are looked up; tests pass their own."""

    models: Registry[ModelSpec] = field(default_factory=lambda: MODELS)
    necks: Registry[NeckSpec] = field(default_factory=lambda: NECKS)
    backends: Registry[Backend] = field(default_factory=lambda: BACKENDS)
    sources: Registry[SourceSpec] = field(default_factory=lambda: SOURCES)
    _external: dict[str, ModelSpec] = field(default_factory=dict)

    def model(self, name: str) -> ModelSpec:
        """Spec of a named model or of ``source:target``.

        Raises:
            InputError: the model or source does not exist, or the target cannot be read.
        """
        source, colon, target = name.partition(":")
        if not colon:
            return lookup(self.models, name)
        if name not in self._external:
            self._external[name] = lookup(self.sources, source).spec(target)
        return self._external[name]

    def neck(self, name: str) -> NeckSpec:
        """Spec of a neck; InputError if there is none."""
        return lookup(self.necks, name)

    def backend(self, name: str) -> Backend:
        """Spec of a backend; InputError if there is none."""
        return lookup(self.backends, name)

    @cached_property
    def axes(self) -> dict[str, tuple[Axis, ...]]:
        """Every option by name, with all its different definitions among the registered specs."""
        definitions: dict[str, dict[Axis, None]] = {}
        owners: list[Iterable[Axis]] = [CSP_AXES]
        owners += [model.all_axes for model in self.models]
        owners += [owner.axes for owner in (*self.necks, *self.backends, *self.sources)]
        for axes in owners:
            for axis in axes:
                definitions.setdefault(axis.name, {})[axis] = None
        return {name: tuple(axes) for name, axes in sorted(definitions.items())}

    @cached_property
    def axis_names(self) -> list[str]:
        """Names that may stand in ``defaults``, ``matrix``, ``exclude`` and ``include``."""
        return [*CORE_AXES, "precision", "csp", *(n for n in self.axes if n != "precision")]


def lookup(registry: Registry[T], name: str) -> T:
    """Entry of a registry, or InputError with the nearest valid name or all of them."""
    if name in registry:
        return registry.get(name)
    names = registry.names()
    hint = nearest(name, names)
    if not hint:
        few = len(names) <= 12
        hint = f"; valid: {', '.join(names)}" if few else f"; see: cspbench list {registry.kind}s"
    raise InputError(f"unknown {registry.kind} {name!r}{hint}")
