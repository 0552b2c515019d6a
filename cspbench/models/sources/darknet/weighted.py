"""Sections with weights of their own -> what the layer does and what comes out.

Semantics and defaults: see ``sections.py``.
"""

from __future__ import annotations

from typing import Literal

from cspbench.models.sources.darknet.cfg import Section
from cspbench.models.sources.darknet.context import (
    MAX_CHANNELS,
    MAX_KERNEL,
    Context,
    LayerDraft,
    activation_of,
    blur_of,
    blurred,
    refuse,
    sides_after,
    strides_of,
)
from cspbench.models.sources.darknet.ops import BatchNorm, Connected, Convolution, Local


def convolutional(section: Section, context: Context) -> LayerDraft:
    """``[convolutional]``: ``pad=1`` pads by half the size; dilation needs that padding."""
    refuse(section, "sway", "rotate", "stretch", "stretch_sway", "coordconv", "flipped")
    channels = context.shape[0]
    filters = section.integer("filters", 1, 1, MAX_CHANNELS)
    size = section.integer("size", 1, 1, MAX_KERNEL)
    groups = section.integer("groups", 1, 1, MAX_CHANNELS)
    dilation = section.integer("dilation", 1, 1, MAX_KERNEL) if size > 1 else 1
    padding = section.integer("padding", 0, 0, MAX_KERNEL)
    if section.flag("pad"):
        padding = size // 2
    if channels % groups or filters % groups:
        raise section.fail(
            f"groups={groups} must divide the {channels} input channels and filters={filters}",
            "groups",
        )
    if dilation > 1 and 2 * padding != size - 1:
        raise section.fail(f"dilation={dilation} needs pad=1 and an odd size", "dilation")
    binary: Literal["", "binary", "xnor"] = ""
    if section.flag("binary") or section.flag("xnor"):
        binary = "xnor" if section.flag("xnor") else "binary"
    op = Convolution(
        filters=filters,
        size=size,
        stride=strides_of(section),
        padding=padding,
        dilation=dilation,
        groups=groups,
        batch_normalize=section.flag("batch_normalize") or section.flag("cbn"),
        activation=activation_of(section, "logistic"),
        binary=binary,
        shares=_shared(section, context, filters * (channels // groups), size),
        blur=blur_of(section),
    )
    inner = (filters, *sides_after(section, context.shape, size, op.own_stride, 2 * padding))
    return LayerDraft(op, blurred(section, inner, op.blur, op.stride), inner_shape=inner)


def _shared(section: Section, context: Context, kernels: int, size: int) -> int | None:
    """The layer that ``share_index`` names: a convolution with weights of the same shape."""
    references = section.integers("share_index")
    if not references:
        return None
    index = context.resolve(section, "share_index", references[0])
    other = context.layers[index]
    if not isinstance(other.op, Convolution) or other.op.shares is not None:
        raise section.fail(
            f"layer {index} is not a convolution with its own weights", "share_index"
        )
    if other.op.size != size or other.weights != kernels * size**2:
        raise section.fail(f"layer {index} has weights of another shape", "share_index")
    if other.op.batch_normalize != (section.flag("batch_normalize") or section.flag("cbn")):
        raise section.fail(f"layer {index} differs in batch_normalize", "share_index")
    return index


def connected(section: Section, _context: Context) -> LayerDraft:
    """``[connected]``: the map before it is flattened, channels first."""
    outputs = section.integer("output", 1, 1, MAX_CHANNELS)
    op = Connected(outputs, section.flag("batch_normalize"), activation_of(section, "logistic"))
    return LayerDraft(op, (outputs, 1, 1))


def local(section: Section, context: Context) -> LayerDraft:
    """``[local]``: ``pad=1`` keeps the side (at stride 1) and pads by one, as Darknet does."""
    size = section.integer("size", 1, 1, MAX_KERNEL)
    stride = section.integer("stride", 1, 1, MAX_KERNEL)
    pad = 1 if section.flag("pad") else 0
    filters = section.integer("filters", 1, 1, MAX_CHANNELS)
    op = Local(filters, size, stride, pad, activation_of(section, "logistic"))
    total = size - 1 if pad else 0
    return LayerDraft(
        op, (filters, *sides_after(section, context.shape, size, (stride, stride), total))
    )


def batchnorm(_section: Section, context: Context) -> LayerDraft:
    """``[batchnorm]``."""
    return LayerDraft(BatchNorm(), context.shape)
