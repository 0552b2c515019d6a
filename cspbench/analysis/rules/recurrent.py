"""Rules for recurrent layers: what repeats is one row, whatever the number of steps.

A layer of ``nn.LSTM``, ``nn.GRU`` or ``nn.RNN`` runs the same few operators at each step. Its rows
here are those operators with all steps as their leading dimensions, so a count is the same as step
by step.

Memory is that of torch's own path on the CPU: one kernel of oneDNN for each layer and direction of
an LSTM of float32, plain operators for all others.
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
    batch_first: bool = False


def call_of(args: Arguments) -> Call:
    """The arguments of ``lstm``, ``gru``, ``rnn_tanh`` or ``rnn_relu``, padded or packed."""
    packed = isinstance(args[2], torch.Tensor) or isinstance(args[3], (tuple, list))
    x, hx, params = (args[0], *args[2:4]) if packed else args[:3]
    rest = args[4:] if packed else args[3:]
    has_biases, layers, dropout, train, bidirectional = rest[:5]
    batch = int(args[1][0]) if packed else x.shape[0 if rest[5] else 1]
    states = (hx,) if isinstance(hx, torch.Tensor) else hx
    random = bool(train and dropout and layers > 1)
    first = not packed and bool(rest[5]) and min(x.shape[:2]) > 1
    return Call(x, states, params, has_biases, layers, 1 + bidirectional, batch, random, first)


class TracedSteps(Steps):
    """Steps whose results may outlive them as tensors."""

    def __init__(
        self, tracer: Tracer, leading: Shape, like: torch.Tensor, fused: bool = False
    ) -> None:
        super().__init__(tracer.recorder, leading, like.element_size())
        self.tracer = tracer
        self.like = like
        #: Whether the input is copied for its product, because it lies with the batch first.
        self.copies_input = False
        self._fused = fused
        self._kept: list[tuple[str, torch.Tensor]] = []

    def kept(self, what: str, width: int) -> Value:
        """A result of all steps that is held until it is dropped; a fused kernel holds none."""
        if self._fused:
            return self.passing(width)
        tensor, value = self.made(width)
        self._kept.append((what, tensor))
        return value

    def drop_earlier(self, what: str) -> None:
        """Let go of all but the last that is kept of a kind: another direction took its place."""
        places = [i for i, (kind, _) in enumerate(self._kept) if kind == what]
        for place in reversed(places[:-1]):
            del self._kept[place]

    def release(self) -> None:
        """Let go of all that a layer kept."""
        self._kept.clear()

    def copied(self, x: torch.Tensor) -> torch.Tensor:
        """The input with the time first, as the fused kernel takes it."""
        copy, value = self.made(x.shape[-1])
        self.tracer.recorder.record("contiguous", (self.tracer.value(x),), (value,), copied=True)
        return copy

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
        known = [weight for weight in weights if weight is not None]
        packed = isinstance(args[3], (tuple, list))
        fused = cell is lstm_cell and not packed and _is_fused(call)
        return run(tracer, call, known, gates, cell, fused)

    return rule


def _is_fused(call: Call) -> bool:
    """True if torch hands an LSTM over to oneDNN, which knows no projections."""
    projected = len(call.hx) > 1 and call.hx[0].shape[-1] != call.hx[1].shape[-1]
    return call.x.dtype is torch.float32 and not projected and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]


def run(
    tracer: Tracer,
    call: Call,
    weights: list[Weight],
    gates: int,
    cell: Cell,
    fused: bool = False,
) -> tuple[torch.Tensor, ...]:
    """Record all layers and directions of a call; weights stand as torch has them.

    ``fused``: a kernel does each layer and direction, whose gates and steps are its own memory.
    """
    x = call.x
    each = len(weights) // (call.layers * call.directions)
    steps = TracedSteps(tracer, tuple(x.shape[:-1]), x, fused)
    projected = each == (5 if call.has_biases else 3)
    copy = steps.copied(x) if fused and call.batch_first else None
    hidden = weights[0].shape[0] // gates
    last = weights[each - 1].shape[0] if projected else hidden
    widths = [last, hidden][: len(call.hx)]
    states: list[torch.Tensor] = []
    for layer in range(call.layers):
        steps.copies_input = not fused and call.batch_first and layer == 0
        outputs = []
        for direction in range(call.directions):
            first = (layer * call.directions + direction) * each
            outputs.append(
                _direction(steps, x, weights[first : first + each], call.has_biases, gates, cell)
            )
        x = _joined(steps, outputs)
        outputs.clear()
        steps.release()
        # The last states of each direction are held until those of all layers are stacked.
        states.extend(
            tracer.empty((call.directions, call.batch, width), x.dtype, steps.itemsize)[0]
            for width in widths
        )
    stacks = []
    for width in widths:
        shape = (call.layers * call.directions, call.batch, width)
        stack, value = tracer.empty(shape, x.dtype, steps.itemsize)
        tracer.recorder.record("stack", (), (value,), copied=True)
        stacks.append(stack)
    del copy
    return (x, *stacks)


def _joined(steps: TracedSteps, outputs: list[torch.Tensor]) -> torch.Tensor:
    """What a layer puts out: the results of its directions side by side."""
    if len(outputs) == 1:
        return outputs[0]
    values = [steps.tracer.value(output) for output in outputs]
    both, joined = steps.made(sum(value.shape[-1] for value in values))
    steps.tracer.recorder.record("cat", values, (joined,), copied=True)
    return both


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
    mine = steps.kept("gates", wide)
    steps.linear(tracer.value(x), of_input, biases[0], mine, x.nbytes if steps.copies_input else 0)
    steps.drop_earlier("gates")
    state = steps.passing(of_state.shape[1])
    theirs = steps.linear(state, of_state, biases[1], steps.passing(wide))
    result = cell(steps, mine, theirs, state, wide // gates)
    if projection is not None:
        result = steps.linear(result, projection, None, steps.passing(projection.shape[0]))
    # Each step's state is kept until those of all directions are joined.
    steps.kept("states", result.shape[-1])
    out, stacked = steps.made(result.shape[-1])
    tracer.recorder.record("stack", (result,), (stacked,), copied=True)
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
