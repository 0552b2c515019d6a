"""One function a section: its options and input shapes -> what the layer does and what comes out.

Semantics and defaults are those of AlexeyAB/darknet ``src/parser.c`` and the layers that it makes,
described from their documented behaviour; where forks differ, the docstring says which one holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Literal

from cspbench.errors import InputError
from cspbench.models.sources.darknet.cfg import Section, shown
from cspbench.models.sources.darknet.ops import (
    ACTIVATIONS,
    Activation,
    BatchNorm,
    Connected,
    Convolution,
    Crop,
    DepthPool,
    Detection,
    GlobalPool,
    Identity,
    Layer,
    Local,
    Op,
    Pool,
    Reorg,
    Route,
    Scale,
    Shape,
    Shortcut,
    Softmax,
    Upsample,
)
from cspbench.registry import nearest

#: Bounds of a single number: far above any public network, far below what exhausts a machine.
MAX_CHANNELS = 1 << 17
MAX_KERNEL = 1024


@dataclass(frozen=True)
class Made:
    """What a section becomes; ``sources`` and ``inner_shape`` are None for the usual ones."""

    op: Op
    out_shape: Shape
    sources: tuple[int, ...] | None = None
    inner_shape: Shape | None = None


@dataclass
class Context:
    """Where a section stands: its index, the shape before it, and the layers so far."""

    index: int
    shape: Shape
    layers: list[Layer]

    def resolve(self, section: Section, key: str, reference: int) -> int:
        """Return the absolute index of a reference; negative ones count from this layer."""
        index = self.index + reference if reference < 0 else reference
        if index < 0:
            raise section.fail(
                f"{key}={reference}: layer {self.index} has only {self.index} layers before it",
                key,
            )
        if index >= self.index:
            raise section.fail(
                f"{key}={reference}: layer {self.index} can only read layers before it, "
                f"not layer {index}",
                key,
            )
        return index

    def sources(self, section: Section, key: str) -> tuple[int, ...]:
        """Resolve the references of ``key``; at least one."""
        references = section.integers(key)
        if not references:
            raise section.fail(f"needs {key}=")
        return tuple(self.resolve(section, key, reference) for reference in references)


def _activation(section: Section, default: str) -> str:
    name = section.text("activation", default)
    if name not in ACTIVATIONS:
        hint = nearest(name, list(ACTIVATIONS))
        raise section.fail(f"unknown activation {shown(name)}{hint}", "activation")
    return name


def _choice(section: Section, key: str, aliases: dict[str, str]) -> str:
    value = section.text(key, "none")
    if value not in aliases:
        raise section.fail(f"{key} must be one of {', '.join(aliases)}, not {shown(value)}", key)
    return aliases[value]


def _strides(section: Section) -> tuple[int, int]:
    """(y, x): ``stride_y``, ``stride_x``, or ``stride`` for both."""
    stride = section.integer("stride", 1, 1, MAX_KERNEL)
    return (
        max(section.integer("stride_y", stride, -1, MAX_KERNEL), 0) or stride,
        max(section.integer("stride_x", stride, -1, MAX_KERNEL), 0) or stride,
    )


def _blur(section: Section) -> int:
    """Side of the anti-aliasing filter: 3, with ``antialiasing=2`` 2."""
    antialiasing = section.integer("antialiasing", 0, 0, 2)
    return (0, 3, 2)[antialiasing]


def _sides(
    section: Section, shape: Shape, size: int, stride: tuple[int, int], padding: int
) -> tuple[int, int]:
    """Output (height, width) of a window of ``size`` over a map padded by ``padding`` in sum."""
    sides = []
    for side, step in zip(shape[1:], stride, strict=True):
        room = side + padding - size
        if room < 0:
            raise section.fail(
                f"size={size} does not fit the {shape[1]}x{shape[2]} map before it", "size"
            )
        sides.append(room // step + 1)
    return sides[0], sides[1]


def _blurred(section: Section, inner: Shape, blur: int, stride: tuple[int, int]) -> Shape:
    """Shape after the anti-aliasing filter: side 3 is padded by one, side 2 is not."""
    if not blur:
        return inner
    return (inner[0], *_sides(section, inner, blur, stride, 2 * (blur // 2) if blur == 3 else 0))


def _refuse(section: Section, *keys: str) -> None:
    """Options that change the result and that this reader does not know how to follow."""
    for key in keys:
        if section.flag(key):
            raise section.fail(f"{key} is not supported", key)


def convolutional(section: Section, context: Context) -> Made:
    """``[convolutional]``: ``pad=1`` pads by half the size; dilation needs that padding."""
    _refuse(section, "sway", "rotate", "stretch", "stretch_sway", "coordconv", "flipped")
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
        stride=_strides(section),
        padding=padding,
        dilation=dilation,
        groups=groups,
        batch_normalize=section.flag("batch_normalize") or section.flag("cbn"),
        activation=_activation(section, "logistic"),
        binary=binary,
        shares=_shared(section, context, filters * (channels // groups), size),
        blur=_blur(section),
    )
    inner = (filters, *_sides(section, context.shape, size, op.own_stride, 2 * padding))
    return Made(op, _blurred(section, inner, op.blur, op.stride), inner_shape=inner)


def _shared(section: Section, context: Context, kernels: int, size: int) -> int | None:
    """The layer that ``share_index`` names: a convolution with weights of the same shape."""
    references = section.integers("share_index")
    if not references:
        return None
    index = context.resolve(section, "share_index", references[0])
    other = context.layers[index]
    if not isinstance(other.op, Convolution) or other.op.shares is not None:
        raise section.fail(f"layer {index} is no convolution with its own weights", "share_index")
    if other.op.size != size or other.weights != kernels * size**2:
        raise section.fail(f"layer {index} has weights of another shape", "share_index")
    if other.op.batch_normalize != (section.flag("batch_normalize") or section.flag("cbn")):
        raise section.fail(f"layer {index} differs in batch_normalize", "share_index")
    return index


def connected(section: Section, _context: Context) -> Made:
    """``[connected]``: the map before it is flattened, channels first."""
    outputs = section.integer("output", 1, 1, MAX_CHANNELS)
    op = Connected(outputs, section.flag("batch_normalize"), _activation(section, "logistic"))
    return Made(op, (outputs, 1, 1))


def local(section: Section, context: Context) -> Made:
    """``[local]``: ``pad=1`` keeps the side (at stride 1) and pads by one, as Darknet does."""
    size = section.integer("size", 1, 1, MAX_KERNEL)
    stride = section.integer("stride", 1, 1, MAX_KERNEL)
    pad = 1 if section.flag("pad") else 0
    filters = section.integer("filters", 1, 1, MAX_CHANNELS)
    op = Local(filters, size, stride, pad, _activation(section, "logistic"))
    total = size - 1 if pad else 0
    return Made(op, (filters, *_sides(section, context.shape, size, (stride, stride), total)))


def maxpool(section: Section, context: Context) -> Made:
    """``[maxpool]``: padded by ``padding`` in sum (default size - 1), the smaller half first."""
    if section.flag("maxpool_depth"):
        return _maxout(section, context)
    _refuse(section, "maxpool_zero_nonmax")
    return _pool(section, context, average=False)


def local_avgpool(section: Section, context: Context) -> Made:
    """``[local_avgpool]``: the mean over those cells of the window that are inside the map."""
    return _pool(section, context, average=True)


def _pool(section: Section, context: Context, *, average: bool) -> Made:
    strides = _strides(section)
    size = section.integer("size", section.integer("stride", 1, 1, MAX_KERNEL), 1, MAX_KERNEL)
    padding = section.integer("padding", size - 1, 0, MAX_KERNEL)
    if padding >= size and padding:
        raise section.fail(f"padding={padding} must be smaller than size={size}", "padding")
    op = Pool(size, strides, padding, average, 0 if average else _blur(section))
    channels = context.shape[0]
    inner = (channels, *_sides(section, context.shape, size, op.own_stride, padding))
    return Made(op, _blurred(section, inner, op.blur, op.stride), inner_shape=inner)


def _maxout(section: Section, context: Context) -> Made:
    channels, height, width = context.shape
    out = section.integer("out_channels", 1, 1, MAX_CHANNELS)
    if channels % out:
        raise section.fail(
            f"out_channels={out} must divide the {channels} input channels", "out_channels"
        )
    size = section.integer("size", section.integer("stride", 1, 1, MAX_KERNEL), 1, MAX_KERNEL)
    return Made(DepthPool(out, size), (out, height, width))


def avgpool(_section: Section, context: Context) -> Made:
    """``[avgpool]``."""
    return Made(GlobalPool(), (context.shape[0], 1, 1))


def route(section: Section, context: Context) -> Made:
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
    return Made(Route(groups, group_id), (channels, *shapes[0][1:]), sources)


def shortcut(section: Section, context: Context) -> Made:
    """``[shortcut]``: a finer source is read with a stride, as the CSPNet-era Darknet does.

    (``shortcut_cpu``; Darknet since 2020 adds such sources element by element in memory order,
    which mixes places; it differs only where the sides do.)
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
    op = Shortcut(
        _activation(section, "linear"),
        _choice(section, "weights_type", kinds),  # type: ignore[arg-type]
        _choice(section, "weights_normalization", norms),  # type: ignore[arg-type]
    )
    return Made(op, context.shape, (context.index - 1, *sources))


def scale_channels(section: Section, context: Context) -> Made:
    """``[scale_channels]``: the layer before scales the source's channels (or its places)."""
    source, other = _one_source(section, context)
    channels, height, width = context.shape
    activation = _activation(section, "linear")
    if section.flag("scale_wh"):
        if (height, width) != other[1:] or channels != 1:
            raise section.fail(
                f"scale_wh needs one {other[1]}x{other[2]} channel before it, "
                f"not {channels} of {height}x{width}",
                "scale_wh",
            )
        return Made(Scale("place", activation), other, (context.index - 1, source))
    if (height, width) != (1, 1) or channels != other[0]:
        raise section.fail(
            f"needs {other[0]} channels of 1x1 before it, not {channels} of {height}x{width}",
            "from",
        )
    return Made(Scale("channel", activation), other, (context.index - 1, source))


def sam(section: Section, context: Context) -> Made:
    """``[sam]``: product of the source and the layer before, element by element."""
    source, other = _one_source(section, context)
    if other != context.shape:
        raise section.fail(f"layer {source} is {_by(other)} but {_by(context.shape)} is before it")
    op = Scale("element", _activation(section, "linear"))
    return Made(op, other, (context.index - 1, source))


def _one_source(section: Section, context: Context) -> tuple[int, Shape]:
    sources = context.sources(section, "from")
    if len(sources) > 1:
        raise section.fail("from= must name one layer", "from")
    return sources[0], context.layers[sources[0]].out_shape


def _by(shape: Shape) -> str:
    return "x".join(str(side) for side in shape)


def upsample(section: Section, context: Context) -> Made:
    """``[upsample]``: a negative stride sums squares instead of repeating."""
    stride = section.integer("stride", 2, -MAX_KERNEL, MAX_KERNEL)
    channels, height, width = context.shape
    scale = section.number("scale", 1.0)
    if stride == 0:
        raise section.fail("stride=0 is no factor", "stride")
    if stride > 0:
        return Made(Upsample(stride, scale), (channels, height * stride, width * stride))
    factor = -stride
    if height < factor or width < factor:
        raise section.fail(f"stride={stride} does not fit the {height}x{width} map", "stride")
    return Made(Upsample(factor, scale, True), (channels, height // factor, width // factor))


def reorg(section: Section, context: Context) -> Made:
    """``[reorg]`` and ``[reorg3d]``: between places and channels."""
    _refuse(section, "flatten")
    channels, height, width = context.shape
    stride = section.integer("stride", 1, 1, MAX_KERNEL)
    reverse = section.flag("reverse")
    legacy = section.name == "reorg"
    area = stride**2
    op = Reorg(stride, reverse, legacy)
    if (reverse or legacy) and channels % area:
        raise section.fail(f"stride={stride} needs a multiple of {area} channels, not {channels}")
    if reverse:
        return Made(op, (channels // area, height * stride, width * stride))
    if height % stride or width % stride:
        raise section.fail(f"stride={stride} must divide the {height}x{width} map", "stride")
    return Made(op, (channels * area, height // stride, width // stride))


def crop(section: Section, context: Context) -> Made:
    """``[crop]`` at test time: the centre; values 0..1 become -1..1 unless ``noadjust``."""
    channels, height, width = context.shape
    out_height = section.integer("crop_height", 1, 1, 1 << 20)
    out_width = section.integer("crop_width", 1, 1, 1 << 20)
    if out_height > height or out_width > width:
        raise section.fail(f"a {out_height}x{out_width} crop does not fit the {height}x{width} map")
    op = Crop(1.0, 0.0) if section.flag("noadjust") else Crop(2.0, -1.0)
    return Made(op, (channels, out_height, out_width))


def softmax(section: Section, context: Context) -> Made:
    """``[softmax]``; a class tree lies in another file and is not supported."""
    if "tree" in section.options:
        raise section.fail("tree= (hierarchical classes) is not supported", "tree")
    groups = section.integer("groups", 1, 1, MAX_CHANNELS)
    temperature = section.number("temperature", 1.0)
    if prod(context.shape) % groups:
        raise section.fail(f"groups={groups} must divide {prod(context.shape)} inputs", "groups")
    if not temperature > 0:
        raise section.fail("temperature must be above 0", "temperature")
    return Made(Softmax(groups, temperature, section.flag("spatial")), context.shape)


def batchnorm(_section: Section, context: Context) -> Made:
    """``[batchnorm]``."""
    return Made(BatchNorm(), context.shape)


def activation(section: Section, context: Context) -> Made:
    """``[activation]``."""
    return Made(Activation(_activation(section, "linear")), context.shape)


def identity(_section: Section, context: Context) -> Made:
    """``[dropout]``, ``[cost]``, ``[empty]``: nothing happens at test time."""
    return Made(Identity(), context.shape)


def yolo(section: Section, context: Context) -> Made:
    """``[yolo]``, ``[gaussian_yolo]``: 4 (or 8) coordinates, an objectness and the classes."""
    classes = section.integer("classes", 20, 1, MAX_CHANNELS)
    anchors = len(section.integers("mask")) or section.integer("num", 1, 1, MAX_CHANNELS)
    coordinates = 8 if section.name.lower() == "gaussian_yolo" else 4
    return _detection(section, context, classes, anchors, anchors * (classes + coordinates + 1))


def region(section: Section, context: Context) -> Made:
    """``[region]`` (YOLOv2)."""
    classes = section.integer("classes", 20, 1, MAX_CHANNELS)
    anchors = section.integer("num", 1, 1, MAX_CHANNELS)
    coordinates = section.integer("coords", 4, 1, 64)
    return _detection(section, context, classes, anchors, anchors * (classes + coordinates + 1))


def detection(section: Section, context: Context) -> Made:
    """``[detection]`` (YOLOv1): a grid of ``side`` x ``side`` in one long vector."""
    classes = section.integer("classes", 1, 1, MAX_CHANNELS)
    boxes = section.integer("num", 1, 1, MAX_CHANNELS)
    side = section.integer("side", 7, 1, 1024)
    coordinates = section.integer("coords", 1, 1, 64)
    wanted = side**2 * (boxes * (1 + coordinates) + classes)
    if prod(context.shape) != wanted:
        raise section.fail(f"reads {wanted} numbers, but {prod(context.shape)} are before it")
    return Made(Detection(classes, boxes), context.shape)


def _detection(
    section: Section, context: Context, classes: int, anchors: int, channels: int
) -> Made:
    if context.shape[0] != channels:
        raise section.fail(
            f"{anchors} anchors of {classes} classes need {channels} channels before it, "
            f"not {context.shape[0]}"
        )
    return Made(Detection(classes, anchors), context.shape)


Maker = Callable[[Section, Context], Made]

SECTIONS: dict[str, Maker] = {
    "activation": activation,
    "avg": avgpool,
    "avgpool": avgpool,
    "batchnorm": batchnorm,
    "conn": connected,
    "connected": connected,
    "conv": convolutional,
    "convolutional": convolutional,
    "cost": identity,
    "crop": crop,
    "detection": detection,
    "dropout": identity,
    "empty": identity,
    "gaussian_yolo": yolo,
    "local": local,
    "local_avg": local_avgpool,
    "local_avgpool": local_avgpool,
    "max": maxpool,
    "maxpool": maxpool,
    "region": region,
    "reorg": reorg,
    "reorg3d": reorg,
    "route": route,
    "sam": sam,
    "scale_channels": scale_channels,
    "shortcut": shortcut,
    "silence": identity,
    "soft": softmax,
    "softmax": softmax,
    "upsample": upsample,
    "yolo": yolo,
}

#: Sections of Darknet that this reader refuses, with the reason.
UNSUPPORTED: dict[str, str] = {
    "contrastive": "it exists for training",
    "conv_lstm": "recurrent networks keep a state between images",
    "crnn": "recurrent networks keep a state between images",
    "deconvolutional": "Darknet removed it",
    "gru": "recurrent networks keep a state between images",
    "history": "recurrent networks keep a state between images",
    "implicit": "its values are no function of the image",
    "lrn": "local response normalisation has no reader",
    "lstm": "recurrent networks keep a state between images",
    "normalization": "local response normalisation has no reader",
    "rnn": "recurrent networks keep a state between images",
}


def make(section: Section, context: Context) -> Made:
    """Turn a section into a layer.

    Raises:
        InputError: an unknown or unsupported section, or options that do not fit.
    """
    name = section.name.lower()
    maker = SECTIONS.get(name)
    if maker is None:
        if name in UNSUPPORTED:
            raise section.fail(f"is not supported: {UNSUPPORTED[name]}")
        hint = nearest(name[:64], [*SECTIONS, *UNSUPPORTED])
        raise InputError(
            f"{section.path}:{section.line}: [{section.name}] is not a Darknet section{hint}"
        )
    return maker(section, context)
