"""``explain``: two cases of a stored run, or two that are measured on the spot."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.attribution.blocks import BlockSides, Ground
from cspbench.attribution.causes import Explanation, Side, attribute
from cspbench.attribution.engines import (
    EngineComparison,
    EngineSide,
    compare_engines,
    compare_engines_apart,
    engine_of,
    same_network,
)
from cspbench.attribution.facts import latency_of, layers_of, peak_of_case, record_of
from cspbench.attribution.pair import measure_plan, plan_pair
from cspbench.attribution.work import entries_of
from cspbench.core.case import Case
from cspbench.core.files import RESULTS
from cspbench.core.text import matches, nearest
from cspbench.errors import InputError
from cspbench.models.typed import parse_model
from cspbench.store.records import Record

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: Sides by run and case, so that each is read once however many pairs it is in.
_SIDES: weakref.WeakKeyDictionary[Run, dict[str, Side]] = weakref.WeakKeyDictionary()
#: Flags of launches whose latency is not the network's alone.
_SPOILING = ("contended", "throttled", "not_steady")


def explain(
    a: str,
    b: str,
    run: Run | str | Path | None = None,
    *,
    backend: str = "opencv-cpu",
    batch: int = 1,
    threads: int = 1,
) -> Explanation | EngineComparison:
    """Why does B take another time than A? One network on two engines is compared layer by layer.

    Args:
        a: a case id, or a pattern that one case of the run matches (the model part is enough).
            Without a run: a case id or a model id.
        b: likewise; the difference is B minus A.
        run: a stored run that measured both with ``measure.layers``, or its directory. Without it
            both are measured now and the run is stored under ``results/``; while another run
            measures on this machine this one waits, with a warning.
        backend: of model ids; ignored with a run, like the next two.
        batch: of model ids.
        threads: of model ids.

    Raises:
        InputError: no such case, or one without latency, layer times, analysis or ceilings.
    """
    if run is None:
        plan = plan_pair(a, b, backend=backend, batch=batch, threads=threads)
        run = measure_plan(plan, RESULTS, waiting=warnings.warn)
        first, second = (record.case for record in run.records)
        return explain_measured(run, first, second)
    if isinstance(run, (str, Path)):
        from cspbench.views.frames import load

        run = load(run)
    return explain_measured(run, find_case(run, a), find_case(run, b))


def explain_measured(run: Run, a: str, b: str) -> Explanation | EngineComparison:
    """Explain two cases of a run by their ids, or compare two engines on one network.

    Raises:
        InputError: as `explain`.
    """
    if a == b:
        raise InputError(f"A and B are the same case, {a}: name two different ones")
    return _compare_engines(run, a, b) if same_network(a, b) else explain_networks(run, a, b)


def explain_networks(run: Run, a: str, b: str) -> Explanation:
    """Explain two networks by their cases; other batches of both go along where measured.

    Raises:
        InputError: as `explain`.
    """
    others = []
    for batch in _other_batches(run, a, b):
        pair = [_at(case, batch) for case in (a, b)]
        others.append(_explain_pair(run, pair[0], pair[1]))
    return _explain_pair(run, a, b, others)


def explainable(run: Run, case: str) -> bool:
    """True if a case of a run has all that an explanation reads."""
    try:
        side_of(run, case)
    except InputError:
        return False
    return True


def _compare_engines(run: Run, a: str, b: str) -> EngineComparison:
    first, second = record_of(run, a), record_of(run, b)
    sides = [
        EngineSide(record.case, latency_of(record), layers_of(run, Case.parse(record.case)))
        for record in (first, second)
    ]
    found = run.in_turn.ratio(b, a)
    blocks = run.in_turn.shared(a, b)
    if found is not None and blocks:
        return compare_engines(sides[0], sides[1], blocks, found.ratio.interval)
    if first.layers is None or second.layers is None:
        raise InputError(_no_layers(run, first if first.layers is None else second))
    return compare_engines_apart(sides[0], sides[1], (first.layers, second.layers))


def _explain_pair(run: Run, a: str, b: str, others: Sequence[Explanation] = ()) -> Explanation:
    notes = notes_on(a, b)
    found = run.in_turn.ratio(b, a)
    ratio = None if found is None else found.ratio.interval
    blocks = run.in_turn.shared(a, b)
    if ratio is None or not blocks:
        notes += _disturbances(run, (a, b))
        return attribute(side_of(run, a), side_of(run, b), notes, others, ratio)
    sides = BlockSides(_ground_of(run, a), _ground_of(run, b), blocks, ratio)
    return attribute(*sides.mean(), notes, others, ratio, sides.each)


def _disturbances(run: Run, cases: Sequence[str]) -> list[str]:
    """What spoilt the timed launches, in a sentence; the layers have a launch of their own."""
    flagged = {flag for record in run.records if record.case in cases for flag in record.flags}
    spoilt = [flag.replace("_", " ") for flag in _SPOILING if flag in flagged]
    if not spoilt:
        return []
    sentence = (
        f"The timed launches were {' and '.join(spoilt)}. That changes the latencies and hardly "
        "the layer times, so it shows as time outside the layers."
    )
    return [sentence]


def find_case(run: Run, text: str) -> str:
    """The one case that ``text`` names: its id, its part before the backend, or a pattern.

    Raises:
        InputError: none or several.
    """
    ids = [record.case for record in run.records]
    if text in ids:
        return text
    hits = [
        case
        for case in ids
        if matches(text, case) or matches(text, case.split("/")[0]) or _model_is(case, text)
    ]
    if len(hits) == 1:
        return hits[0]
    if not hits:
        raise InputError(f"no case of run {run.name} matches {text!r}{nearest(text, ids)}")
    shown = ", ".join(hits[:4]) + (", ..." if len(hits) > 4 else "")
    raise InputError(
        f"{text!r} matches {len(hits)} cases of run {run.name} ({shown}): write more of its id"
    )


def _model_is(case: str, text: str) -> bool:
    """Whether a text, as people type models, is the model of a case (with its size or without)."""
    model = Case.parse(case).model_id
    try:
        typed = parse_model(text)
    except InputError:  # a pattern
        return False
    return typed in (model, replace(model, input=None))


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
    ground = _ground_of(run, case)
    record = record_of(run, case)
    if record.layers is None:
        raise InputError(_no_layers(run, record))
    entries = tuple(entries_of(record.layers, ground.layers, ground.peak))
    return ground.side(entries, record.layers)


def _ground_of(run: Run, case: str) -> Ground:
    latency = latency_of(record_of(run, case))
    parsed = Case.parse(case)
    return Ground(
        case, latency, parsed.batch, tuple(layers_of(run, parsed)), peak_of_case(run, case)
    )


def _no_layers(run: Run, record: Record) -> str:
    tried = [launch for launch in record.launches if launch.job == "layers"]
    if tried:
        return f"{record.case} has no layer times: {tried[-1].reason or tried[-1].status}"
    suite = run.stored.meta["suite"]
    return (
        f"{record.case} has no layer times; measure them with: cspbench run "
        f"{suite['path'] or suite['name']} --set measure.layers=true"
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


def _other_batches(run: Run, a: str, b: str) -> list[int]:
    """Batches at which the run has all that explains the same two cases."""
    if Case.parse(a).batch != Case.parse(b).batch:
        return []
    ids = {record.case for record in run.records}
    batches = {Case.parse(case).batch for case in ids} - {Case.parse(a).batch}
    return [
        batch
        for batch in sorted(batches)
        if all(_at(case, batch) in ids and explainable(run, _at(case, batch)) for case in (a, b))
    ]


def _at(case: str, batch: int) -> str:
    return str(replace(Case.parse(case), batch=batch))
