"""Sections that move, combine and reduce feature maps -> what the layer does and puts out.

Semantics and defaults: see ``sections.py``.
"""

from __future__ import annotations

from math import prod

from cspbench.models.sources.darknet import ops
from cspbench.models.sources.darknet.cfg import Section
from cspbench.models.sources.darknet.context import (
    MAX_CHANNELS,
    MAX_KERNEL,
    Context,
    LayerDraft,
    activation_of,
    blur_of,
    blurred,
    choice_of,
    refuse,
    sides_after,
    strides_of,
)
from cspbench.models.sources.darknet.ops import Shape


def maxpool(section: Section, context: Context) -> LayerDraft:
    """``[maxpool]``: padded by ``padding`` in sum (default size - 1), the smaller half first."""
    if section.flag("maxpool_depth"):
        return _maxout(section, context)
    refuse(section, "maxpool_zero_nonmax")
    return _pool(section, context, average=False)


def local_avgpool(section: Section, context: Context) -> LayerDraft:
    """``[local_avgpool]``: the mean over those cells of the window that are inside the map."""
    return _pool(section, context, average=True)


def _pool(section: Section, context: Context, *, average: bool) -> LayerDraft:
    strides = strides_of(section)
    size = section.integer("size", section.integer("stride", 1, 1, MAX_KERNEL), 1, MAX_KERNEL)
    padding = section.integer("padding", size - 1, 0, MAX_KERNEL)
    if padding >= size and padding:
        raise section.fail(f"padding={padding} must be smaller than size={size}", "padding")
    op = ops.Pool(size, strides, padding, average, 0 if average else blur_of(section))
    channels = context.shape[0]
    inner = (channels, *sides_after(section, context.shape, size, op.own_stride, padding))
    return LayerDraft(op, blurred(section, inner, op.blur, op.stride), inner_shape=inner)


def _maxout(section: Section, context: Context) -> LayerDraft:
    channels, height, width = context.shape
    out = section.integer("out_channels", 1, 1, MAX_CHANNELS)
    if channels % out:
        raise section.fail(
            f"out_channels={out} must divide the {channels} input channels", "out_channels"
        )
    size = section.integer("size", section.integer("stride", 1, 1, MAX_KERNEL), 1, MAX_KERNEL)
    return LayerDraft(ops.DepthPool(out, size), (out, height, width))


def avgpool(_section: Section, context: Context) -> LayerDraft:
    """``[avgpool]``."""
    return LayerDraft(ops.GlobalPool(), (context.shape[0], 1, 1))


def route(section: Section, context: Context) -> LayerDraft:
    """``[route]``: with ``groups`` it takes that part of each source."""
    sources = context.sources(section, "layers")
    groups = section.integer("groups", 1, 1, MAX_CHANNELS)
    group_id = section.integer("group_id", 0, 0, groups - 1)
    shapes = [context.layers[source].out_shape for source in sources]
    for source, shape in zip(sources, shapes, strict=True):
        if shape[1:] != shapes[0][1:]:
            raise section.fail(
                f"layer {source} is {shape[1]}x{shape[2]} but layer {sources[0]} is "
                f"{shapes[0][1]}x{shapes[0][2]}",
                "layers",
            )
        if shape[0] % groups:
            raise section.fail(
                f"groups={groups} must divide the {shape[0]} channels of layer {source}", "groups"
            )
    channels = sum(shape[0] // groups for shape in shapes)
    return LayerDraft(ops.Route(groups, group_id), (channels, *shapes[0][1:]), sources)


def shortcut(section: Section, context: Context) -> LayerDraft:
    """``[shortcut]``: a finer source is read with a stride, as the CSPNet-era Darknet does.

    Darknet since 2020 (``shortcut_cpu``) adds such a source element by element in the order of
    memory, which mixes places. The two agree where the sides are equal.
    """
    sources = context.sources(section, "from")
    _channels, height, width = context.shape
    for source in sources:
        other = context.layers[source].out_shape
        if other[1] // height != other[2] // width or other[1] < height or other[2] < width:
            raise section.fail(
                f"layer {source} is {other[1]}x{other[2]}, which cannot be added to "
                f"{height}x{width}",
                "from",
            )
    kinds = {"none": "none", "per_feature": "per_feature", "per_channel": "per_channel"}
    kinds["per_layer"] = "per_feature"
    norms = {"none": "none", "relu": "relu", "avg_relu": "relu", "softmax": "softmax"}
    op = ops.Shortcut(
        activation_of(section, "linear"),
        choice_of(section, "weights_type", kinds),  # type: ignore[arg-type]
        choice_of(section, "weights_normalization", norms),  # type: ignore[arg-type]
    )
    return LayerDraft(op, context.shape, (context.index - 1, *sources))


def scale_channels(section: Section, context: Context) -> LayerDraft:
    """``[scale_channels]``: the layer before scales the source's channels (or its places)."""
    source, other = _one_source(section, context)
    channels, height, width = context.shape
    activation = activation_of(section, "linear")
    if section.flag("scale_wh"):
        if (height, width) != other[1:] or channels != 1:
            raise section.fail(
                f"scale_wh needs one {other[1]}x{other[2]} channel before it, "
                f"not {channels} of {height}x{width}",
                "scale_wh",
            )
        return LayerDraft(ops.Scale("place", activation), other, (context.index - 1, source))
    if (height, width) != (1, 1) or channels != other[0]:
        raise section.fail(
            f"needs {other[0]} channels of 1x1 before it, not {channels} of {height}x{width}",
            "from",
        )
    return LayerDraft(ops.Scale("channel", activation), other, (context.index - 1, source))


def sam(section: Section, context: Context) -> LayerDraft:
    """``[sam]``: product of the source and the layer before, element by element."""
    source, other = _one_source(section, context)
    if other != context.shape:
        raise section.fail(f"layer {source} is {_by(other)} but {_by(context.shape)} is before it")
    op = ops.Scale("element", activation_of(section, "linear"))
    return LayerDraft(op, other, (context.index - 1, source))


def _one_source(section: Section, context: Context) -> tuple[int, Shape]:
    sources = context.sources(section, "from")
    if len(sources) > 1:
        raise section.fail("from= must name one layer", "from")
    return sources[0], context.layers[sources[0]].out_shape


def _by(shape: Shape) -> str:
    return "x".join(str(side) for side in shape)


def upsample(section: Section, context: Context) -> LayerDraft:
    """``[upsample]``: a negative stride sums squares instead of repeating."""
    stride = section.integer("stride", 2, -MAX_KERNEL, MAX_KERNEL)
    channels, height, width = context.shape
    scale = section.number("scale", 1.0)
    if stride == 0:
        raise section.fail("stride must not be 0", "stride")
    if stride > 0:
        return LayerDraft(ops.Upsample(stride, scale), (channels, height * stride, width * stride))
    factor = -stride
    if height < factor or width < factor:
        raise section.fail(f"stride={stride} does not fit the {height}x{width} map", "stride")
    return LayerDraft(
        ops.Upsample(factor, scale, True), (channels, height // factor, width // factor)
    )


def reorg(section: Section, context: Context) -> LayerDraft:
    """``[reorg]`` and ``[reorg3d]``: between places and channels."""
    refuse(section, "flatten")
    channels, height, width = context.shape
    stride = section.integer("stride", 1, 1, MAX_KERNEL)
    reverse = section.flag("reverse")
    legacy = section.name == "reorg"
    area = stride**2
    op = ops.Reorg(stride, reverse, legacy)
    if (reverse or legacy) and channels % area:
        raise section.fail(f"stride={stride} needs a multiple of {area} channels, not {channels}")
    if reverse:
        return LayerDraft(op, (channels // area, height * stride, width * stride))
    if height % stride or width % stride:
        raise section.fail(f"stride={stride} must divide the {height}x{width} map", "stride")
    return LayerDraft(op, (channels * area, height // stride, width // stride))


def crop(section: Section, context: Context) -> LayerDraft:
    """``[crop]`` at test time: the centre; values 0..1 become -1..1 unless ``noadjust``."""
    channels, height, width = context.shape
    out_height = section.integer("crop_height", 1, 1, 1 << 20)
    out_width = section.integer("crop_width", 1, 1, 1 << 20)
    if out_height > height or out_width > width:
        raise section.fail(f"a {out_height}x{out_width} crop does not fit the {height}x{width} map")
    op = ops.Crop(1.0, 0.0) if section.flag("noadjust") else ops.Crop(2.0, -1.0)
    return LayerDraft(op, (channels, out_height, out_width))


def softmax(section: Section, context: Context) -> LayerDraft:
    """``[softmax]``; a class tree lies in another file and is not supported."""
    if "tree" in section.options:
        raise section.fail("tree= (hierarchical classes) is not supported", "tree")
    groups = section.integer("groups", 1, 1, MAX_CHANNELS)
    temperature = section.number("temperature", 1.0)
    if prod(context.shape) % groups:
        raise section.fail(f"groups={groups} must divide {prod(context.shape)} inputs", "groups")
    if not temperature > 0:
        raise section.fail("temperature must be above 0", "temperature")
    return LayerDraft(ops.Softmax(groups, temperature, section.flag("spatial")), context.shape)


def activation(section: Section, context: Context) -> LayerDraft:
    """``[activation]``."""
    return LayerDraft(ops.Activation(activation_of(section, "linear")), context.shape)


def identity(_section: Section, context: Context) -> LayerDraft:
    """``[dropout]``, ``[cost]``, ``[empty]``: nothing happens at test time."""
    return LayerDraft(ops.Identity(), context.shape)
