"""The sides of an explanation: what a stored run knows of a case, and in what two cases differ."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from cspbench.attribution.blocks import Ground
from cspbench.attribution.causes import Side
from cspbench.attribution.engines import engine_of
from cspbench.attribution.facts import (
    latency_of,
    layers_of,
    newest_layers,
    peak_of_case,
    record_of,
)
from cspbench.attribution.work import entries_of
from cspbench.core.case import Case

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: Sides by run and case, so that each is read once however many pairs it is in.
_SIDES: weakref.WeakKeyDictionary[Run, dict[str, Side]] = weakref.WeakKeyDictionary()


def side_of(run: Run, case: str) -> Side:
    """What a run knows of a case; read once.

    Raises:
        InputError: it lacks the latency, the layer times, the analysis or the ceilings, with what
            to do about it.
    """
    known = _SIDES.setdefault(run, {})
    if case not in known:
        known[case] = _read_side(run, case)
    return known[case]


def _read_side(run: Run, case: str) -> Side:
    ground = ground_of(run, case)
    record = record_of(run, case)
    layers = newest_layers(run, record)
    return ground.side(tuple(entries_of(layers, ground.layers, ground.peak)), layers)


def ground_of(run: Run, case: str) -> Ground:
    """A case's latency, layers and ceilings, without layer times."""
    latency = latency_of(record_of(run, case))
    parsed = Case.parse(case)
    return Ground(
        case, latency, parsed.batch, tuple(layers_of(run, parsed)), peak_of_case(run, case)
    )


def notes_on(a: str, b: str) -> list[str]:
    """In what else than the network the two cases differ, a sentence each."""
    first, second = Case.parse(a), Case.parse(b)
    pairs: dict[str, tuple[object, object]] = {
        "backend": (engine_of(first), engine_of(second)),
        "batch": (first.batch, second.batch),
        "threads": (first.threads, second.threads),
        "board": (first.board, second.board),
        "input": (first.input, second.input),
    }
    return [
        f"A and B differ in {name} too: the causes do not separate that from the network."
        for name, (of_a, of_b) in pairs.items()
        if of_a != of_b
    ]
