"""Rules for recurrent layers: what repeats is one row, whatever the number of steps.

A layer of ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` runs the same few operators at each step. Its rows
here are those operators with all steps as their leading dimensions, so a count is the same as step
by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from cspbench.analysis.dispatch import fallback
from cspbench.analysis.errors import DataDependentError
from cspbench.analysis.layer import Shape
from cspbench.analysis.recorder import Value, Weight
from cspbench.analysis.recurrent import Cell, Steps, gru_cell, lstm_cell, plain_cell
from cspbench.analysis.rules.simple import Arguments, Keywords, Rule, is_activation
from cspbench.analysis.tracer import Tracer


class Call(NamedTuple):
    """Arguments of a recurrent function; ``batch`` is that of a packed sequence's first step."""

    x: torch.Tensor
    hx: Sequence[torch.Tensor]
    params: Sequence[torch.Tensor]
    has_biases: bool
    layers: int
    directions: int
    batch: int
    random: bool


def call_of(args: Arguments) -> Call:
    """The arguments of ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``, padded or packed."""
    packed = isinstance(args[2], torch.Tensor) or isinstance(args[3], (tuple, list))
    x, hx, params = (args[0], *args[2:4]) if packed else args[:3]
    rest = args[4:] if packed else args[3:]
    has_biases, layers, dropout, train, bidirectional = rest[:5]
    batch = int(args[1][0]) if packed else x.shape[0 if rest[5] else 1]
    states = (hx,) if isinstance(hx, torch.Tensor) else hx
    random = bool(train and dropout and layers > 1)
    return Call(x, states, params, has_biases, layers, 1 + bidirectional, batch, random)


class TracedSteps(Steps):
    """Steps whose results may outlive them as tensors."""

    def __init__(self, tracer: Tracer, leading: Shape, like: torch.Tensor) -> None:
        super().__init__(tracer.recorder, leading, like.element_size())
        self.tracer = tracer
        self.like = like

    def made(self, width: int) -> tuple[torch.Tensor, Value]:
        """A result that lives as long as its tensor."""
        return self.tracer.empty((*self.leading, width), self.like.dtype, self.itemsize)


def _recurrent(gates: int, cell: Cell) -> Rule:
    def rule(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
        call = call_of(args) if not kwargs else None
        if call is None or call.random or not is_activation(tracer, call.x):
            return fallback(tracer, func, args, kwargs)
        weights = [tracer.filter(param) for param in call.params]
        same = all(param.dtype is call.x.dtype for param in call.params)
        if not same or any(weight is None for weight in weights):
            return fallback(tracer, func, args, kwargs)
        return run(tracer, call, [w for w in weights if w is not None], gates, cell)

    return rule


def run(
    tracer: Tracer, call: Call, weights: list[Weight], gates: int, cell: Cell
) -> tuple[torch.Tensor, ...]:
    """Record all layers and directions of a call; weights stand as torch has them."""
    x = call.x
    each = len(weights) // (call.layers * call.directions)
    steps = TracedSteps(tracer, tuple(x.shape[:-1]), x)
    projected = each == (5 if call.has_biases else 3)
    for layer in range(call.layers):
        outputs = []
        for direction in range(call.directions):
            first = (layer * call.directions + direction) * each
            outputs.append(
                _direction(steps, x, weights[first : first + each], call.has_biases, gates, cell)
            )
        x = outputs[0]
        if call.directions > 1:
            values = [tracer.value(output) for output in outputs]
            x, joined = steps.made(sum(value.shape[-1] for value in values))
            tracer.recorder.record("cat", values, (joined,), copied=True)
        del outputs
    hidden = weights[0].shape[0] // gates
    last = weights[each - 1].shape[0] if projected else hidden
    count = call.layers * call.directions
    states = []
    for place in range(len(call.hx)):
        shape = (count, call.batch, hidden if place else last)
        state, value = tracer.empty(shape, x.dtype, steps.itemsize)
        tracer.recorder.record("stack", (), (value,), copied=True)
        states.append(state)
    return (x, *states)


def _direction(
    steps: TracedSteps,
    x: torch.Tensor,
    weights: list[Weight],
    has_biases: bool,
    gates: int,
    cell: Cell,
) -> torch.Tensor:
    """One direction of one layer; weights are ``w_ih w_hh [b_ih b_hh] [w_hr]``."""
    tracer = steps.tracer
    of_input, of_state, *rest = weights
    biases = rest[:2] if has_biases else [None, None]
    projection = rest[-1] if len(rest) % 2 else None
    wide = of_input.shape[0]
    # The input's gates are made for all steps at once, before the first.
    kept, mine = steps.made(wide)
    steps.linear(tracer.value(x), of_input, biases[0], mine)
    state = steps.passing(of_state.shape[1])
    theirs = steps.linear(state, of_state, biases[1], steps.passing(wide))
    result = cell(steps, mine, theirs, state, wide // gates)
    if projection is not None:
        result = steps.linear(result, projection, None, steps.passing(projection.shape[0]))
    # Each step's state is kept until all of them are stacked.
    out, stacked = steps.made(result.shape[-1])
    tracer.recorder.record(
        "stack", (result,), (stacked,), copied=True, temporary_bytes=result.storage.nbytes
    )
    del kept
    return out


def _lengths(tensor: torch.Tensor) -> list[int]:
    """Lengths of sequences, which must be known.

    Raises:
        DataDependentError: they are an activation.
    """
    real = Tracer.real(tensor)
    if real is None:
        raise DataDependentError("the lengths of packed sequences need the values of a tensor")
    return [int(length) for length in real]


def _pack(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``_pack_padded_sequence(input, lengths, batch_first)``: a copy of what is no padding."""
    x, lengths, batch_first = args
    known = _lengths(lengths)
    if not is_activation(tracer, x):
        return fallback(tracer, func, args, kwargs)
    batch, longest = x.shape[0 if batch_first else 1], x.shape[1 if batch_first else 0]
    if len(known) != batch or not known or min(known) < 1 or max(known) > longest:
        raise ValueError(f"lengths {known} do not fit {batch} sequences of {longest} steps")
    if known != sorted(known, reverse=True):
        raise RuntimeError("`lengths` array must be sorted in decreasing order")
    out, result = tracer.like(x, (sum(known), *x.shape[2:]))
    tracer.recorder.record("_pack_padded_sequence", (tracer.value(x),), (result,), copied=True)
    sizes = [sum(length > step for length in known) for step in range(known[0])]
    return out, torch.tensor(sizes, dtype=torch.int64)


def _pad(tracer: Tracer, func: Any, args: Arguments, kwargs: Keywords) -> Any:
    """``_pad_packed_sequence(data, batch_sizes, batch_first, padding, total_length)``."""
    data, batch_sizes, batch_first, _, total = args
    sizes = _lengths(batch_sizes)
    if not is_activation(tracer, data):
        return fallback(tracer, func, args, kwargs)
    length = max(total, len(sizes))
    leading = (sizes[0], length) if batch_first else (length, sizes[0])
    out, result = tracer.empty((*leading, *data.shape[1:]), data.dtype, data.element_size())
    tracer.recorder.record("_pad_packed_sequence", (tracer.value(data),), (result,), copied=True)
    lengths = [sum(size > row for size in sizes) for row in range(sizes[0])]
    return out, torch.tensor(lengths, dtype=torch.int64)


RULES: dict[str, Rule] = {
    "lstm": _recurrent(4, lstm_cell),
    "gru": _recurrent(3, gru_cell),
    "rnn_tanh": _recurrent(1, plain_cell("tanh")),
    "rnn_relu": _recurrent(1, plain_cell("relu")),
    "_pack_padded_sequence": _pack,
    "_pad_packed_sequence": _pad,
}
