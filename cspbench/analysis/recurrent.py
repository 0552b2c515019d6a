"""The operators of one step of recurrent layers, for PyTorch's layers and those of ONNX.

All steps are the leading dimensions of one row, so a count is the same as step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Recorder, Storage, Value, Weight


class Steps:
    """Records the operators of all steps of one direction of one layer."""

    def __init__(self, recorder: Recorder, leading: Shape, itemsize: int) -> None:
        self.recorder = recorder
        self.leading = leading
        self.itemsize = itemsize

    def passing(self, width: int, of: Value | None = None) -> Value:
        """A result of each step that the next operator takes over; or a slice of one."""
        shape = (*self.leading, width)
        storage = of.storage if of is not None else Storage(math.prod(shape) * self.itemsize)
        number = of.id if of is not None else self.recorder.new_id()
        return Value(number, shape, self.itemsize, storage, None, self.recorder)

    def do(self, op: str, inputs: Sequence[Value], width: int) -> Value:
        """One operator without weights."""
        result = self.passing(width)
        self.recorder.record(op, inputs, (result,))
        return result

    def linear(
        self, x: Value, weight: Weight, bias: Weight | None, out: Value, copied: int = 0
    ) -> Value:
        """A product with a weight, for which ``copied`` bytes of the input are copied."""
        self.recorder.record("linear", (x,), (out,), weight, bias=bias, temporary_bytes=copied)
        return out


#: ``cell(steps, gates of the input, gates of the state, state, width) -> state``
Cell = Callable[[Steps, Value, Value, Value, int], Value]


def lstm_cell(steps: Steps, mine: Value, theirs: Value, _: Value, width: int) -> Value:
    """One step of an LSTM; its new memory is made of the old one, not of its state."""
    gates = steps.do("add", (mine, theirs), 4 * width)
    open_ = steps.do("sigmoid", (steps.passing(3 * width, gates),), 3 * width)
    gate = steps.passing(width, open_)
    proposal = steps.do("tanh", (steps.passing(width, gates),), width)
    memory = steps.passing(width)
    kept = steps.do("mul", (gate, memory), width)
    added = steps.do("mul", (gate, proposal), width)
    memory = steps.do("add", (kept, added), width)
    return steps.do("mul", (gate, steps.do("tanh", (memory,), width)), width)


def gru_cell(steps: Steps, mine: Value, theirs: Value, state: Value, width: int) -> Value:
    """One step of a GRU."""
    pair = steps.passing(2 * width, mine), steps.passing(2 * width, theirs)
    open_ = steps.do("sigmoid", (steps.do("add", pair, 2 * width),), 2 * width)
    gate = steps.passing(width, open_)
    reset = steps.do("mul", (steps.passing(width, theirs), gate), width)
    proposal = steps.do(
        "tanh", (steps.do("add", (steps.passing(width, mine), reset), width),), width
    )
    change = steps.do("mul", (steps.do("sub", (state, proposal), width), gate), width)
    return steps.do("add", (change, proposal), width)


def plain_cell(op: str) -> Cell:
    """One step of a plain recurrent layer."""

    def cell(steps: Steps, mine: Value, theirs: Value, _: Value, width: int) -> Value:
        return steps.do(op, (steps.do("add", (mine, theirs), width),), width)

    return cell
