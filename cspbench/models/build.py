"""From an id to a network: ``build("csppeleenet[gamma=0.25]+prn")``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId, Ref, format_input
from cspbench.core.options import Axis, Options, Value, resolve
from cspbench.errors import InputError, Unsupported
from cspbench.models.input_file import INPUTS, input_file, read_inputs, size_in_file
from cspbench.models.inputs import Size, TensorInput
from cspbench.models.spec import MODELS, NECKS, SOURCES, ModelSpec, SourceSpec
from cspbench.models.typed import parse_model

if TYPE_CHECKING:
    from torch import nn

#: Input side of a detector made of a backbone and a neck, where the backbone's is for ImageNet.
DETECTION_INPUT = 416


def as_model_id(model: str | os.PathLike[str] | ModelId) -> ModelId:
    """Parse where it is a text or a path, as people type it."""
    return model if isinstance(model, ModelId) else parse_model(model)


def split_source(name: str) -> tuple[SourceSpec, str] | None:
    """Return the source and its target for ``darknet:a.cfg``; None for a name of the zoo.

    Raises:
        InputError: an unknown source.
    """
    prefix, colon, target = name.partition(":")
    return (SOURCES.get(prefix), target) if colon else None


def spec_of(model: str | os.PathLike[str] | ModelId) -> ModelSpec:
    """Return the light spec of a model (of its backbone, where it has a neck).

    Raises:
        InputError: an unknown name, or a source's target that cannot be read.
    """
    name = as_model_id(model).model.name
    source = split_source(name)
    return source[0].spec(source[1]) if source else MODELS.get(name)


def default_input(model: str | os.PathLike[str] | ModelId) -> tuple[int, int]:
    """(height, width): the id's own, or the model's; 416 for a backbone with a neck.

    Raises:
        InputError: the id names none, and the model's file leaves it open.
    """
    parsed = as_model_id(model)
    if parsed.input is not None:
        return parsed.input
    if parsed.neck is not None:
        return DETECTION_INPUT, DETECTION_INPUT
    spec = spec_of(parsed)
    size = own_size(spec, dict(parsed.model.options))
    if size is None:
        raise InputError(f"{spec.name}: {spec.open_size}")
    return size


def own_batch(model: str | os.PathLike[str] | ModelId) -> int:
    """The batch size that the model's file fixes, or 1.

    Raises:
        InputError: an unknown name, or a source's target that cannot be read.
    """
    return spec_of(model).batch or 1


def own_size(spec: ModelSpec, options: Options) -> Size | None:
    """(height, width) of the file of the model's inputs, or else the model's own, if it has one.

    Raises:
        InputError: the file of the inputs does not fit the model.
    """
    file = input_file(options) if INPUTS in spec.axes else None
    size = size_in_file(file, spec.inputs) if file is not None else None
    return size or spec.size


def inputs_of(model: ModelId, batch: int) -> tuple[TensorInput, ...]:
    """What a model of a definite size reads, at a batch size.

    Raises:
        InputError: an unknown model, or a file with another number of images at a time.
    """
    assert model.input is not None, "the caller has filled the size in"
    spec = spec_of(model)
    if spec.batch not in (None, batch):
        raise InputError(f"{spec.name}: its batch is fixed to {spec.batch}, not {batch}")
    return tuple(
        one.at(batch, model.input) for one in closed_inputs(spec, dict(model.model.options))
    )


def closed_inputs(spec: ModelSpec, options: Options) -> tuple[TensorInput, ...]:
    """The inputs of a model, those axes that no case decides as in the file of its inputs.

    Raises:
        InputError: there is such an axis and no file, or one that does not fit.
    """
    undecided = undecided_axis(spec, options)
    if undecided is not None:
        raise InputError(f"{spec.name}: {undecided}")
    file = input_file(options) if INPUTS in spec.axes else None
    if file is None or not any(one.open_axis for one in spec.inputs):
        return spec.inputs
    arrays = read_inputs(file, spec.inputs)
    return tuple(one.closed(array.shape) for one, array in zip(spec.inputs, arrays, strict=True))


def undecided_axis(spec: ModelSpec, options: Options) -> str | None:
    """Which axis of an input has no size, and what to do about it; None if there is none."""
    if INPUTS in spec.axes and input_file(options) is not None:
        return None
    axis = next((axis for one in spec.inputs if (axis := one.open_axis)), None)
    if axis is None:
        return None
    return (
        f"{axis} is open, and no option of a case decides it; give arrays with --input-file "
        "values.npz, or export the model with a fixed size there"
    )


def refuses_fixed(spec: ModelSpec, size: Size) -> str | None:
    """Why a model whose file fixes a side cannot take (height, width); None if it can."""
    if all(fixed in (None, side) for fixed, side in zip(spec.fixed, size, strict=True)):
        return None
    own = "x".join("any" if side is None else str(side) for side in spec.fixed)
    own = format_input(spec.size) if spec.size else own
    return f"must be {own}, which the model fixes, not {format_input(size)}"


def refuses_input(spec: ModelSpec, size: Size) -> str | None:
    """Why a model cannot take an input of (height, width) pixels; None if it can."""
    if size == spec.size:
        return None
    fixed = refuses_fixed(spec, size)
    if fixed is not None:
        return fixed
    for side in (side for side, own in zip(size, spec.fixed, strict=True) if own is None):
        if side < spec.min_input:
            return f"must be at least {spec.min_input} pixels a side, not {side}"
        if side % spec.stride:
            below = side - side % spec.stride
            near = [n for n in (below, below + spec.stride) if n >= spec.min_input]
            return (
                f"must be a multiple of {spec.stride}, not {side}; "
                f"nearest: {' or '.join(str(n) for n in near)}"
            )
    return None


def checked_options(kind: str, ref: Ref, axes: Iterable[Axis]) -> dict[str, Value]:
    """Every axis with the value of ``ref``, or its default.

    Other ``csp.`` options imply a fusion, as in a suite.

    Raises:
        InputError: an unknown option, a value that its axis refuses, or an option without effect.
    """
    options = dict(ref.options)
    axes = tuple(axes)
    asked = [name for name in options if name.startswith("csp.")]
    offered = kind == "neck" or any(axis.name.startswith("csp.") for axis in axes)
    if asked and kind != "backend" and not offered:
        raise InputError(f"{asked[0]}: {cannot_split(ref.name)}")
    others = [name for name in options if name.startswith("csp.") and name != "csp.fusion"]
    if others and options.setdefault("csp.fusion", "csp") == "none":
        raise InputError(f"{kind} {ref.name!r}: {others[0]} has no effect with csp.fusion=none")
    try:
        return resolve(axes, options)
    except ValueError as error:
        raise InputError(f"{kind} {ref.name!r}: {error}") from None


def cannot_split(name: str) -> str:
    """Why a network that has no cross-stage-partial form has none, in a sentence."""
    if ":" not in name:
        return f"{name} is defined without stages, so none can be split"
    return (
        f"{name} is a fixed graph whose blocks cannot be rebuilt at another width; a module can: "
        "name the network as timm:NAME, torchvision:NAME or net.py:factory"
    )


def _body(model: ModelId, spec: ModelSpec) -> nn.Module:
    """The network without a neck, its stages split if the options say so."""
    import torch

    ref = model.model
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
    from cspbench.models import csp, plug_in

    fusion, split = str(options["csp.fusion"]), str(options["csp.split"])
    gamma = float(options["csp.gamma"])
    if source and not csp.offers_stages(module):
        size = default_input(model)
        inputs = [one.at(1, size) for one in closed_inputs(spec, dict(ref.options))]
        try:
            return plug_in.apply(module, inputs, gamma=gamma, fusion=fusion, split=split)
        except InputError as error:
            raise Unsupported(str(error)) from None
    with torch.device("meta"):
        return csp.apply(module, gamma=gamma, fusion=fusion, split=split)


def build(
    model: str | os.PathLike[str] | ModelId, *, seed: int = 0, weights: bool = True
) -> nn.Module:
    """Build a network in evaluation mode.

    Args:
        model: a model id (``name[options]+neck``) or the path of a model's file; its input size
            matters where stages have to be found (`cspbench.models.plug_in`).
        seed: of the weights, for parameters that the model does not bring along.
        weights: False leaves parameters on the meta device (shapes only), which is cheap.

    Returns:
        The module; its input is (batch, 3, height, width), its output class probabilities
        (batch, 1000) or, for a detector, a tuple of raw maps (batch, 255, h, w).

    Raises:
        InputError: an unknown name or option, or a neck on a network without features.
        Unsupported: the options ask for stages to be split, and none is found that can be.
    """
    import torch

    from cspbench.models.weights import materialize

    parsed = as_model_id(model)
    spec = spec_of(parsed)
    module = _body(parsed, spec)
    if parsed.neck is not None:
        neck = NECKS.get(parsed.neck.name)
        if not spec.necks:
            raise InputError(f"model {parsed.model.name!r} offers no features for a neck")
        with torch.device("meta"):
            module = neck.build(module, checked_options("neck", parsed.neck, neck.axes))
    return (materialize(module, seed) if weights else module).eval()
