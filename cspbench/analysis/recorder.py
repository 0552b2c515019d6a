"""Turns observed operator calls into `Layer`s; shared by the tracer and the graph readers.

Holds the sums that need memory between calls: which parameters were counted, which storages
training already keeps, how many bytes are alive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from cspbench.analysis.layer import Layer, Shape
from cspbench.analysis.ops import CONV_KINDS, OPS, UNSUPPORTED, OpInfo

_UNKNOWN = OpInfo(UNSUPPORTED)


class Storage:
    """Memory behind one or more activations.

    ``maxout_of`` is the storage whose slices this is the maximum of, if it is (maxout);
    ``weight`` what it holds, where that is no activation.
    """

    __slots__ = ("maxout_of", "nbytes", "saved", "weight")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self.saved = False
        self.maxout_of: Storage | None = None
        self.weight: Weight | None = None


class Weight:
    """What a layer reads besides activations; counted where it is used first.

    ``role``: ``param``, ``buffer``, ``derived`` (computed from parameters in the forward pass) or
    ``constant`` (made there from nothing). A view has the ``shape`` that its reader sees,
    ``elements`` are those that the reader reads, and ``base`` is the whole weight, whose parameters
    count once whatever its views.
    """

    __slots__ = ("base", "counted", "elements", "itemsize", "role", "shape")

    def __init__(self, shape: Shape, itemsize: int, role: str) -> None:
        self.shape = shape
        self.elements = math.prod(shape)
        self.itemsize = itemsize
        self.role = role
        self.counted = False
        self.base: Weight | None = None

    def seen_as(self, shape: Shape, strides: Shape, itemsize: int) -> Weight:
        """This weight through a view of that shape; a stride of 0 reads the same elements again."""
        if shape == self.shape and itemsize == self.itemsize:
            return self
        view = Weight(shape, itemsize, self.role)
        view.base = self.base or self
        view.elements = math.prod(
            side for side, stride in zip(shape, strides, strict=True) if stride or not side
        )
        return view


def role_of(weights: Sequence[Weight]) -> str:
    """Role of what is made of weights alone."""
    return "derived" if any(w.role in ("param", "derived") for w in weights) else "constant"


class Value:
    """An activation as the recorder sees it.

    ``weight`` is set where it holds no activation at all: a view of a weight, a constant.
    ``owner`` is the recorder, so that a tensor that outlives its pass is not mistaken later.
    """

    __slots__ = ("elements", "id", "itemsize", "owner", "shape", "storage", "weight")

    def __init__(
        self,
        id_: int,
        shape: Shape,
        itemsize: int,
        storage: Storage,
        weight: Weight | None = None,
        owner: object = None,
    ) -> None:
        self.owner = owner
        self.id = id_
        self.shape = shape
        self.itemsize = itemsize
        self.elements = math.prod(shape)
        self.storage = storage
        self.weight = weight


class Recorder:
    """Collects layers in the order of execution."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self.live_bytes = 0
        self.peak_live_bytes = 0
        self.peak_index = -1
        self.path = ""
        self.stage = ""
        self._ids = 0

    def new_id(self) -> int:
        """A fresh number for an activation."""
        self._ids += 1
        return self._ids

    def allocate(self, nbytes: int) -> None:
        """Activation memory was taken outside of an operator (an input, a constant)."""
        self.live_bytes += nbytes
        self.peak_live_bytes = max(self.peak_live_bytes, self.live_bytes)

    def record(
        self,
        op: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        weight: Weight | None = None,
        others: Sequence[Weight] = (),
        *,
        bias: Weight | None = None,
        kind: str | None = None,
        weight_shape: Shape = (),
        kernel: Shape = (),
        stride: Shape = (),
        dilation: Shape = (),
        groups: int = 1,
        transposed: bool = False,
        copied: bool = False,
        in_place: bool = False,
        temporary_bytes: int = 0,
        saved_extra_bytes: int = 0,
    ) -> Layer:
        """Append the layer of one call; its outputs are already in ``live_bytes``.

        Args:
            op: operator name; its family comes from `OPS` unless ``kind`` is given.
            inputs: activations read.
            outputs: activations written.
            weight: the main weight (convolution, linear).
            others: further weights read (normalisation).
            bias: bias, counted among the weights read.
            kind: family, if it is not that of the table.
            weight_shape: shape of the filter where it is no weight but an input.
            kernel: window sides.
            stride: strides.
            dilation: dilations.
            groups: convolution groups.
            transposed: transposed convolution.
            copied: the call does nothing but duplicate its outputs' bytes.
            in_place: the output overwrites the first input.
            temporary_bytes: memory taken and given back within the call.
            saved_extra_bytes: memory that backward keeps besides inputs and outputs.
        """
        info = OPS.get(op, _UNKNOWN)
        family = kind or info.kind
        input_elements = input_bytes = 0
        for value in inputs:
            input_elements += value.elements
            input_bytes += value.elements * value.itemsize
        output_elements = output_bytes = 0
        for value in outputs:
            output_elements += value.elements
            output_bytes += value.elements * value.itemsize
        weight_elements = weight_bytes = params = params_conv = 0
        if weight is not None:
            weight_elements = weight.elements
            weight_bytes = weight.elements * weight.itemsize
            whole = weight.base or weight
            if not whole.counted:
                whole.counted = True
                if whole.role == "param":
                    params = whole.elements
                if family in CONV_KINDS and whole.role in ("param", "derived"):
                    params_conv = whole.elements
        for other in (*others, bias) if bias is not None else others:
            weight_elements += other.elements
            weight_bytes += other.elements * other.itemsize
            whole = other.base or other
            if not whole.counted:
                whole.counted = True
                if whole.role == "param":
                    params += whole.elements
        live = self.live_bytes + temporary_bytes
        index = len(self.layers)
        if live > self.peak_live_bytes:
            self.peak_live_bytes = live
            self.peak_index = index
        layer = Layer(
            index,
            self.path,
            op,
            family,
            self.stage,
            tuple([value.shape for value in inputs]),
            tuple([value.shape for value in outputs]),
            weight.shape if weight is not None else weight_shape,
            kernel,
            stride,
            dilation,
            groups,
            transposed,
            input_elements,
            output_elements,
            weight_elements,
            bias.elements if bias is not None else 0,
            input_bytes,
            output_bytes,
            weight_bytes,
            params,
            params_conv,
            output_bytes if copied else 0,
            live,
            self._saved(info, inputs, outputs, in_place, weight is not None or bool(others))
            + saved_extra_bytes,
            tuple([value.id for value in inputs]),
            tuple([value.id for value in outputs]),
        )
        self.layers.append(layer)
        return layer

    @staticmethod
    def _saved(
        info: OpInfo,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        in_place: bool,
        weighted: bool,
    ) -> int:
        """Bytes that this call is the first to keep for backward."""
        rule = info.saved_in_place if in_place else info.saved
        if not rule:
            return 0
        if info.saved == "ins" and len(inputs) < 2 and not weighted:
            return 0  # a product with a plain number keeps nothing
        if rule == "clone":
            return inputs[0].elements * inputs[0].itemsize if inputs else 0
        kept = outputs if rule == "out" else inputs if rule == "ins" else inputs[:1]
        total = 0
        for value in kept:
            if not value.storage.saved:
                value.storage.saved = True
                total += value.storage.nbytes
        return total
