"""LSTM, GRU and RNN of ONNX as the products and pointwise operators of their steps."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.analysis.recorder import Recorder, Value, Weight
from cspbench.analysis.recurrent import Cell, Steps, gru_cell, lstm_cell, plain_cell

_CELLS: dict[str, tuple[int, Cell]] = {
    "lstm": (4, lstm_cell), "gru": (3, gru_cell), "rnn": (1, plain_cell("tanh")),
}  # fmt: skip


def record_recurrent(
    recorder: Recorder,
    name: str,
    x: Value,
    of_input: Weight,
    of_state: Weight,
    bias: Weight | None,
    outputs: Sequence[Value],
) -> None:
    """Record one layer: for each direction the products of input and state, and their cell.

    Args:
        recorder: gets the layers.
        name: ``lstm``, ``gru`` or ``rnn``.
        x: the input, (steps, batch, features), or batch first with ``layout`` 1.
        of_input: (directions, gates x hidden, features).
        of_state: (directions, gates x hidden, hidden).
        bias: (directions, 2 x gates x hidden).
        outputs: of the node.
    """
    gates, cell = _CELLS[name]
    directions, wide = of_input.shape[:2]
    steps = Steps(recorder, tuple(x.shape[:-1]), x.itemsize)
    results = []
    for _ in range(directions):
        parts = [_part(weight) for weight in (of_input, of_state)]
        mine = steps.linear(x, parts[0], bias and _part(bias), steps.passing(wide))
        state = steps.passing(of_state.shape[2])
        theirs = steps.linear(state, parts[1], None, steps.passing(wide))
        results.append(cell(steps, mine, theirs, state, wide // gates))
    recorder.record("stack", results, outputs, copied=True)


def _part(weight: Weight) -> Weight:
    """The weight of one direction."""
    shape = weight.shape[1:]
    return weight.seen_as(shape, (1,) * len(shape), weight.itemsize)
