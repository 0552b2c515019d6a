"""What one layer of a Darknet network does: plain values, no torch.

Shapes are (channels, height, width). One dataclass (an :class:`Op`) per kind of layer;
:class:`Layer` adds its place, what it reads and what it puts out.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias

Shape: TypeAlias = tuple[int, int, int]

#: Activations by Darknet's names (``get_activation``).
ACTIVATIONS = (
    "elu", "gelu", "hard_mish", "hardtan", "leaky", "lhtan", "linear", "loggy", "logistic", "mish",
    "normalize_channels", "normalize_channels_softmax", "normalize_channels_softmax_maxval",
    "plse", "ramp", "relie", "relu", "relu6", "revleaky", "selu", "stair", "swish", "tanh",
)  # fmt: skip


class Op:
    """What a layer does."""


@dataclass(frozen=True)
class Convolution(Op):
    """``[convolutional]``. ``padding`` is per side, before dilation widens it.

    ``stride`` is (y, x). ``shares`` is the layer whose weights it uses. ``binary`` convolutions
    use the sign of each weight times the filter's mean magnitude; ``xnor`` ones also the sign of
    their input. ``blur`` is the side of the fixed anti-aliasing filter that takes over the stride
    (0: none).
    """

    filters: int
    size: int
    stride: tuple[int, int]
    padding: int
    dilation: int
    groups: int
    batch_normalize: bool
    activation: str
    binary: Literal["", "binary", "xnor"] = ""
    shares: int | None = None
    blur: int = 0

    @property
    def own_stride(self) -> tuple[int, int]:
        """Stride of the convolution itself (a blur takes it over)."""
        return (1, 1) if self.blur else self.stride


@dataclass(frozen=True)
class Connected(Op):
    """``[connected]``: every input to every output."""

    outputs: int
    batch_normalize: bool
    activation: str


@dataclass(frozen=True)
class Local(Op):
    """``[local]``: a convolution with weights of its own at every place."""

    filters: int
    size: int
    stride: int
    padding: int
    activation: str


@dataclass(frozen=True)
class Pool(Op):
    """``[maxpool]`` or ``[local_avgpool]``; ``padding`` is the sum of both sides."""

    size: int
    stride: tuple[int, int]
    padding: int
    average: bool = False
    blur: int = 0

    @property
    def own_stride(self) -> tuple[int, int]:
        """Stride of the pooling itself (a blur takes it over)."""
        return (1, 1) if self.blur else self.stride


@dataclass(frozen=True)
class DepthPool(Op):
    """``[maxpool] maxpool_depth=1``: maxout, channel g is the largest of g, g + n, g + 2n, ..."""

    out_channels: int
    size: int


@dataclass(frozen=True)
class GlobalPool(Op):
    """``[avgpool]``: mean of each channel."""


@dataclass(frozen=True)
class Route(Op):
    """``[route]``: the ``group_id``-th of ``groups`` slices of every source, one after another."""

    groups: int = 1
    group_id: int = 0


@dataclass(frozen=True)
class Shortcut(Op):
    """``[shortcut]``: adds to the layer before what overlaps of the sources.

    A source with other channels adds the common ones (partial residual); one on a finer grid is
    read with a stride. ``weights`` is how many factors scale each summand.
    """

    activation: str
    weights: Literal["none", "per_feature", "per_channel"] = "none"
    normalization: Literal["none", "relu", "softmax"] = "none"


@dataclass(frozen=True)
class Scale(Op):
    """``[scale_channels]`` and ``[sam]``: product of the source and the layer before.

    ``by`` says what the layer before holds: one factor a ``channel``, a ``place`` or an
    ``element``.
    """

    by: Literal["channel", "place", "element"]
    activation: str


@dataclass(frozen=True)
class Upsample(Op):
    """``[upsample]``: nearest neighbour, or with ``reverse`` the sum of squares; times scale."""

    stride: int
    scale: float = 1.0
    reverse: bool = False


@dataclass(frozen=True)
class Reorg(Op):
    """``[reorg]`` (``legacy``: Darknet's first, which mixes places and channels), ``[reorg3d]``."""

    stride: int
    reverse: bool = False
    legacy: bool = False


@dataclass(frozen=True)
class Crop(Op):
    """``[crop]`` as at test time: the centre, times ``scale`` plus ``shift``."""

    scale: float
    shift: float


@dataclass(frozen=True)
class Softmax(Op):
    """``[softmax]``: over each of ``groups`` parts of the whole map, or over channels."""

    groups: int = 1
    temperature: float = 1.0
    spatial: bool = False


@dataclass(frozen=True)
class BatchNorm(Op):
    """``[batchnorm]``."""


@dataclass(frozen=True)
class Activation(Op):
    """``[activation]``."""

    activation: str


@dataclass(frozen=True)
class Identity(Op):
    """A layer that does nothing at test time: dropout, cost, empty."""


@dataclass(frozen=True)
class Detection(Op):
    """``[yolo]``, ``[gaussian_yolo]``, ``[region]``, ``[detection]``: an output of the network.

    The map goes out as it comes in; decoding boxes is not part of the network that is measured.
    """

    classes: int
    anchors: int


@dataclass(frozen=True)
class Layer:
    """One layer: its place in the file, what it does, what it reads and what comes out.

    ``sources`` are indices of layers (-1: the network's input), ``in_shapes`` their shapes;
    ``kind`` is the section's name. ``inner_shape`` is the shape before an anti-aliasing blur.
    """

    index: int
    kind: str
    line: int
    op: Op
    sources: tuple[int, ...]
    in_shapes: tuple[Shape, ...]
    out_shape: Shape
    inner_shape: Shape

    @property
    def weights(self) -> int:
        """Weights of a convolution or of connections, without biases and normalisation."""
        op, (channels, height, width) = self.op, self.in_shapes[0]
        if isinstance(op, Convolution):
            if op.shares is not None:
                return 0
            return op.filters * (channels // op.groups) * op.size**2
        if isinstance(op, Connected):
            return op.outputs * channels * height * width
        if isinstance(op, Local):
            return prod(self.out_shape) * channels * op.size**2
        return 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolution and linear layers; 0 for all others."""
        op, channels = self.op, self.in_shapes[0][0]
        if isinstance(op, Convolution):
            return op.size**2 * (channels // op.groups) * prod(self.inner_shape)
        return self.weights

    @property
    def cio(self) -> int:
        """Elements of the input plus elements of the output."""
        return prod(self.in_shapes[0]) + prod(self.out_shape)

    @property
    def file_floats(self) -> int:
        """Floats that the layer takes in a weights file."""
        op = self.op
        if isinstance(op, Convolution):
            biases = 0 if op.shares is not None else op.filters * (4 if op.batch_normalize else 1)
            return self.weights + biases
        if isinstance(op, Connected):
            return self.weights + op.outputs * (4 if op.batch_normalize else 1)
        if isinstance(op, Local):
            return self.weights + prod(self.out_shape)
        if isinstance(op, BatchNorm):
            return 4 * self.out_shape[0]
        if isinstance(op, Shortcut) and op.weights != "none":
            return len(self.sources) * (1 if op.weights == "per_feature" else self.out_shape[0])
        return 0
