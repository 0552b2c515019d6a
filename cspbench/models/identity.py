"""The one canonical id of a model: input given, options at their defaults left out."""

from __future__ import annotations

from collections.abc import Iterable

from cspbench.core.case import ModelId, Ref
from cspbench.core.options import Axis, without_defaults
from cspbench.errors import InputError
from cspbench.models.build import as_model_id, default_input, spec_of
from cspbench.models.spec import NECKS


def canonical(model: str | ModelId) -> ModelId:
    """Return the id with its input filled in, checked options, and no option at its default.

    Raises:
        InputError: an unknown model, neck or option.
    """
    parsed = as_model_id(model)
    spec = spec_of(parsed)
    neck = None
    if parsed.neck is not None:
        neck = _trim("neck", parsed.neck, NECKS.get(parsed.neck.name).axes)
    return ModelId(_trim("model", parsed.model, spec.all_axes), neck, default_input(parsed))


def _trim(kind: str, ref: Ref, axes: Iterable[Axis]) -> Ref:
    try:
        return Ref.of(ref.name, without_defaults(axes, dict(ref.options)))
    except ValueError as error:
        raise InputError(f"{kind} {ref.name!r}: {error}") from None
