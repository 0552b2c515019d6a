"""Which operators engines compute as one: what lies between them is neither written nor read.

A group begins with a convolution or a linear layer (its head). Behind it come what makes floating
numbers of an integer product, what folds into weights and bias (a batch norm; numbers for each
channel that scale a convolution's result or are added to it, and an added bias of a linear layer),
and one activation. An activation may be several pointwise operators on the same value: Sigmoid and
Mul, HardSigmoid and Mul, Softplus, Tanh and Mul, the five of GELU by Erf. Another view of the same
numbers is nothing. Operators that quantise and dequantise belong to what makes or reads the number.
Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.ops import CONV_KINDS, FREE_KINDS

_POINTWISE = frozenset({"activation", "elementwise"})
_SCALING = frozenset({"mul", "div", "add", "sub"})
_CONVERTING = frozenset({"quantize", "dequantize"})
#: An activation has no more operators; GELU by tanh has nine.
_MOST_OPERATORS = 12


def fused(layers: Sequence[Layer], moved: Sequence[int]) -> list[Number]:
    """Bytes that each layer moves where engines compute several as one.

    The head of a group carries the group's bytes (input, weights, last output), the others have 0.

    Args:
        layers: in the order of execution.
        moved: bytes that each moves alone.
    """
    groups = _Groups(layers, moved)
    for position, layer in enumerate(layers):
        if layer.kind in CONV_KINDS and layer.outputs:
            groups.grow(position)
    return groups.result


class _Groups:
    """The bytes of each layer while groups grow."""

    def __init__(self, layers: Sequence[Layer], moved: Sequence[int]) -> None:
        self.layers = layers
        #: What an activation is in memory less than what its operator puts out, in bytes.
        self.narrower: dict[int, int] = {}
        #: The number that a quantised or dequantised one, or a view, stands for.
        self.same: dict[int, int] = {}
        self.result: list[Number] = list(moved)
        self.readers: dict[int, list[int]] = {}
        self.readers = self._readers(self._convert())

    def _convert(self) -> set[int]:
        """Give what quantises to the layer before it, and what dequantises to those behind it.

        Returns positions of what thus moves nothing by itself, and of views of the same numbers.
        """
        makers: dict[int, Layer] = {}
        if any(layer.op in _CONVERTING for layer in self.layers):
            self.readers = self._readers()
            makers = {value: layer for layer in self.layers for value in layer.outputs}
        converted: set[int] = set()
        for position, layer in enumerate(self.layers):
            if layer.kind != "view" and layer.op not in _CONVERTING:
                continue
            if len(layer.inputs) != 1 or len(layer.outputs) != 1:
                continue
            value, result = layer.inputs[0], layer.outputs[0]
            if layer.kind == "view" and layer.output_elements == layer.input_elements:
                self.same[result] = self.same.get(value, value)
                converted.add(position)
                continue
            change = layer.output_bytes - layer.input_bytes
            if layer.op == "quantize" and self._is_quantised(value, makers.get(value)):
                self.narrower[value] = change
            elif layer.op == "dequantize" and self._is_read_as_number(result):
                self.narrower[result] = -change
            else:
                continue
            self.same[result] = self.same.get(value, value)
            converted.add(position)
        if self.narrower:
            for position, layer in enumerate(self.layers):
                values = (*layer.inputs, *layer.outputs)
                self.result[position] += sum(self.narrower.get(value, 0) for value in values)
        for position in converted:
            self.result[position] = 0
        return converted

    def _readers(self, without: Collection[int] = ()) -> dict[int, list[int]]:
        """Positions of the layers that read each activation, once for each time."""
        readers: dict[int, list[int]] = {}
        for position, layer in enumerate(self.layers):
            if position not in without:
                for value in layer.inputs:
                    readers.setdefault(self._number(value), []).append(position)
        return readers

    def _is_quantised(self, value: int, maker: Layer | None) -> bool:
        """Whether a layer puts out a number that is read quantised alone."""
        if maker is None or maker.kind in FREE_KINDS or maker.op == "dequantize":
            return False
        return len(maker.outputs) == 1 and len(self.readers[value]) == 1

    def _is_read_as_number(self, value: int) -> bool:
        """Whether layers read a dequantised number, and none of them only looks at it."""
        readers = self.readers.get(value, [])
        return bool(readers) and all(
            self.layers[reader].kind not in FREE_KINDS for reader in readers
        )

    def _number(self, value: int) -> int:
        return self.same.get(value, value)

    def _put_out(self, layer: Layer) -> int:
        """Bytes of a layer's results in memory."""
        return layer.output_bytes + sum(self.narrower.get(value, 0) for value in layer.outputs)

    def grow(self, head: int) -> None:
        """Take what follows a head into its group."""
        last = head
        for member in self._rescaling(head):
            last = self._take(head, [member], last)
        biased = self.layers[head].bias_elements > 0
        while (folded := self._folding(head, last, biased)) is not None:
            layer = self.layers[folded]
            # Of a batch norm one of its four vectors is left; what only scales leaves nothing.
            shift = layer.weight_bytes // (4 if layer.kind == "norm" else 1)
            shifts = layer.kind == "norm" or layer.op in ("add", "sub")
            last = self._take(head, [folded], last, shift if shifts and not biased else 0)
            biased |= shifts
        activation = self._activation(last)
        if activation:
            slopes = sum(self.layers[member].weight_bytes for member in activation)
            self._take(head, activation, last, slopes)

    def _take(self, head: int, members: Sequence[int], last: int, weights: int = 0) -> int:
        """Make members part of a group that ended with layer ``last``; the new last one."""
        end = members[-1]
        change = self._put_out(self.layers[end]) - self._put_out(self.layers[last])
        self.result[head] += change + weights
        for member in members:
            self.result[member] = 0
        return end

    def _only_reader(self, position: int) -> int | None:
        """The only reader of a layer's first result, if that reads nothing else."""
        outputs = self.layers[position].outputs
        readers = self.readers.get(self._number(outputs[0]), []) if outputs else []
        alone = len(readers) == 1 and len(self.layers[readers[0]].inputs) == 1
        return readers[0] if alone else None

    def _folding(self, head: int, last: int, biased: bool) -> int | None:
        """The reader of a layer's result that folds into the weights and the bias of the head."""
        member = self._only_reader(last)
        if member is None:
            return None
        layer, channels = self.layers[member], self._channels(head)
        if _is_batch_norm(layer):
            return member
        scales = layer.op in _SCALING and layer.output_elements == layer.input_elements
        if self.layers[head].kind == "linear" and (biased or layer.op != "add"):
            return None
        return member if scales and layer.weight_elements in (0, 1, channels) else None

    def _channels(self, head: int) -> int:
        shape = self.layers[head].output_shapes[0]
        is_conv = self.layers[head].kind == "conv" and len(shape) > 1
        return shape[1] if is_conv else shape[-1] if shape else 1

    def _rescaling(self, head: int) -> list[int]:
        """What makes floating numbers of the sums of an integer product: Cast, scale, bias."""
        cast = self._only_reader(head)
        if cast is None or self.layers[cast].op != "cast":
            return []
        members = [cast]
        while len(members) < 3:  # the product of scales, and the bias
            value = self.layers[members[-1]].outputs[0]
            readers = self.readers.get(value, [])
            if len(readers) != 1 or not self._rescales(self.layers[readers[0]], value):
                break
            members.append(readers[0])
        return members if len(members) > 1 else []

    @staticmethod
    def _rescales(layer: Layer, value: int) -> bool:
        """Whether a layer multiplies or adds a number, or one for each channel."""
        if layer.op not in _SCALING or len(layer.outputs) != 1:
            return False
        channels = max(layer.output_shapes[0], default=1)
        others = layer.input_elements - layer.output_elements + layer.weight_elements
        return value in layer.inputs and 0 <= others <= channels

    def _activation(self, last: int) -> list[int]:
        """Positions of the operators of one activation of a layer's result; empty without one."""
        single = self._only_reader(last)
        if single is not None and self.layers[single].kind == "activation":
            members = [single] if self.layers[single].outputs else []
        elif self.layers[last].outputs:
            members = self._gated(self._number(self.layers[last].outputs[0]))
        else:
            members = []
        while members and len(members) < _MOST_OPERATORS:
            scaled = self._only_reader(members[-1])
            if scaled is None or not _is_scalar(self.layers[scaled]):
                break
            members.append(scaled)
        return members

    def _gated(self, value: int) -> list[int]:
        """The fewest operators that multiply ``value``, number by number, by a function of it."""
        first = min(self.readers.get(value, ()), default=None)
        if first is None or self.layers[first].kind not in _POINTWISE:
            return []
        members: list[int] = []
        inside = {value}
        while len(members) < _MOST_OPERATORS:
            reading = {one for name in inside for one in self.readers.get(name, ())}
            following = min(reading - set(members), default=None)
            if following is None:
                return []
            layer = self.layers[following]
            if not self._is_pointwise(layer, inside):
                return []
            members.append(following)
            result = self._number(layer.outputs[0])
            between = set(inside)
            inside.add(result)
            closed = all(set(self.readers.get(name, ())) <= set(members) for name in between)
            if closed:
                curved = any(self._is_curved(self.layers[member]) for member in members)
                return members if curved and layer.op == "mul" else []
        return []

    def _is_pointwise(self, layer: Layer, inside: set[int]) -> bool:
        return (
            layer.kind in _POINTWISE
            and len(layer.outputs) == 1
            and set(map(self._number, layer.inputs)) <= inside
            and set(layer.input_shapes) == {layer.output_shapes[0]}
        )

    @staticmethod
    def _is_curved(layer: Layer) -> bool:
        return layer.kind == "activation" or layer.op == "erf"


def _is_batch_norm(layer: Layer) -> bool:
    return layer.kind == "norm" and "batch_norm" in layer.op


def _is_scalar(layer: Layer) -> bool:
    """Whether a layer multiplies or adds one number that the network fixes."""
    return layer.op in _SCALING and not layer.weight_elements and len(layer.outputs) == 1
