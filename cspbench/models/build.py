"""From an id to a network: ``build("csppeleenet[gamma=0.25]+prn")``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId, Ref
from cspbench.core.options import Axis, Value, resolve
from cspbench.errors import InputError
from cspbench.models.spec import MODELS, NECKS, SOURCES, ModelSpec, SourceSpec

if TYPE_CHECKING:
    from torch import nn

#: Input side of a detector made of a backbone and a neck, where the backbone's is for ImageNet.
DETECTION_INPUT = 416


def as_model_id(model: str | ModelId) -> ModelId:
    """Parse where it is text."""
    return ModelId.parse(model) if isinstance(model, str) else model


def split_source(name: str) -> tuple[SourceSpec, str] | None:
    """Return the source and its target for ``darknet:a.cfg``; None for a name of the zoo.

    Raises:
        InputError: an unknown source.
    """
    prefix, colon, target = name.partition(":")
    return (SOURCES.get(prefix), target) if colon else None


def spec_of(model: str | ModelId) -> ModelSpec:
    """Return the light spec of a model (of its backbone, where it has a neck).

    Raises:
        InputError: an unknown name, or a source's target that cannot be read.
    """
    name = as_model_id(model).model.name
    source = split_source(name)
    return source[0].spec(source[1]) if source else MODELS.get(name)


def default_input(model: str | ModelId) -> tuple[int, int]:
    """(height, width): the id's own, or the published side; 416 for a backbone with a neck."""
    parsed = as_model_id(model)
    if parsed.input is not None:
        return parsed.input
    side = DETECTION_INPUT if parsed.neck is not None else spec_of(parsed).input
    return side, side


def checked_options(kind: str, ref: Ref, axes: Iterable[Axis]) -> dict[str, Value]:
    """Every axis with the value of ``ref``, or its default.

    Raises:
        InputError: an unknown option, or a value that its axis refuses.
    """
    try:
        return resolve(axes, dict(ref.options))
    except ValueError as error:
        raise InputError(f"{kind} {ref.name!r}: {error}") from None


def _body(ref: Ref, spec: ModelSpec) -> nn.Module:
    """The network without a neck, its stages split if the options say so."""
    import torch

    source = split_source(ref.name)
    options = checked_options("source" if source else "model", ref, spec.all_axes)
    wrong = spec.check(options) if spec.check else None
    if wrong:
        raise InputError(f"model {ref.name!r}: {wrong}")
    own = {name: value for name, value in options.items() if not name.startswith("csp.")}
    if source:
        module = source[0].build(source[1], own)
    else:
        with torch.device("meta"):
            module = spec.build(own)
    if options.get("csp.fusion", "none") == "none":
        return module
    from cspbench.models import csp

    fusion, split = str(options["csp.fusion"]), str(options["csp.split"])
    with torch.device("meta"):
        return csp.apply(module, gamma=float(options["csp.gamma"]), fusion=fusion, split=split)


def build(model: str | ModelId, *, seed: int = 0, weights: bool = True) -> nn.Module:
    """Build a network in evaluation mode.

    Args:
        model: a model id (``name[options]+neck``); an input size in it is not used.
        seed: of the weights, for parameters that the model does not bring along.
        weights: False leaves parameters on the meta device (shapes only), which is cheap.

    Returns:
        The module; its input is (batch, 3, height, width), its output class probabilities
        (batch, 1000) or, for a detector, a tuple of raw maps (batch, 255, h, w).

    Raises:
        InputError: an unknown name or option, or a neck on a network without features.
    """
    import torch

    from cspbench.models.weights import materialize

    parsed = as_model_id(model)
    spec = spec_of(parsed)
    module = _body(parsed.model, spec)
    if parsed.neck is not None:
        neck = NECKS.get(parsed.neck.name)
        if not spec.necks:
            raise InputError(f"model {parsed.model.name!r} offers no features for a neck")
        with torch.device("meta"):
            module = neck.build(module, checked_options("neck", parsed.neck, neck.axes))
    return (materialize(module, seed) if weights else module).eval()
