"""``explain``: two cases of a stored run, or two that are measured on the spot."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cspbench.attribution.blocks import BlockSides
from cspbench.attribution.causes import Explanation, attribute
from cspbench.attribution.engines import (
    APART,
    ComparedSide,
    LayerComparison,
    compare_engines,
    compare_engines_apart,
    same_network,
)
from cspbench.attribution.facts import latency_of, layers_of, newest_layers, record_of
from cspbench.attribution.pair import measure_plan, plan_pair
from cspbench.attribution.runs import explain_runs
from cspbench.attribution.sides import ground_of, notes_on, side_of
from cspbench.core.case import Case
from cspbench.core.files import RESULTS
from cspbench.core.text import matches, nearest
from cspbench.errors import InputError
from cspbench.models.typed import parse_model

if TYPE_CHECKING:
    from cspbench.views.frames import Run

    StoredAt: TypeAlias = Run | str | Path

#: Flags of launches whose latency is not the network's alone.
_SPOILING = ("contended", "throttled", "not_steady")


def explain(
    a: str,
    b: str | None = None,
    run: StoredAt | tuple[StoredAt, StoredAt] | None = None,
    *,
    backend: str = "opencv-cpu",
    batch: int = 1,
    threads: int = 1,
) -> Explanation | LayerComparison:
    """Why does B take another time than A?

    One network on two engines, or in two runs, is compared layer by layer.

    Args:
        a: a case id, or a pattern that one case of the run matches (the model part is enough).
            Without a run: a case id or a model id.
        b: likewise; the difference is B minus A. With two runs it may be left out: A again.
        run: a stored run that measured both with ``measure.layers``, or its directory. Or two of
            them: A's, and B's. Without it both are measured now and the run is stored under
            ``results/``; while another run measures on this machine this one waits, with a warning.
        backend: of model ids; ignored with a run, like the next two.
        batch: of model ids.
        threads: of model ids.

    Raises:
        InputError: no such case, or one without latency, layer times, analysis or ceilings.
    """
    if isinstance(run, tuple):
        base, head = map(_loaded, run)
        return explain_runs(base, head, find_case(base, a), find_case(head, a if b is None else b))
    if b is None:
        raise InputError("B is missing: only with two runs it may be left out")
    if run is None:
        plan = plan_pair(a, b, backend=backend, batch=batch, threads=threads)
        run = measure_plan(plan, RESULTS, waiting=warnings.warn)
        first, second = (record.case for record in run.records)
        return explain_measured(run, first, second)
    run = _loaded(run)
    return explain_measured(run, find_case(run, a), find_case(run, b))


def _loaded(run: StoredAt) -> Run:
    from cspbench.views.frames import load

    return load(run) if isinstance(run, (str, Path)) else run


def explain_measured(run: Run, a: str, b: str) -> Explanation | LayerComparison:
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


def _compare_engines(run: Run, a: str, b: str) -> LayerComparison:
    first, second = record_of(run, a), record_of(run, b)
    sides = [
        ComparedSide(str(case), latency_of(record), layers_of(run, case), f"on {case.backend}")
        for record, case in ((one, Case.parse(one.case)) for one in (first, second))
    ]
    found = run.in_turn.ratio(b, a)
    blocks = run.in_turn.shared(a, b)
    if found is not None and blocks:
        compared = compare_engines(sides[0], sides[1], blocks, found.ratio.interval)
        return replace(compared, notes=(*compared.notes, *run.distrust))
    profiles = newest_layers(run, first), newest_layers(run, second)
    return compare_engines_apart(sides[0], sides[1], profiles)


def _explain_pair(run: Run, a: str, b: str, others: Sequence[Explanation] = ()) -> Explanation:
    notes = notes_on(a, b)
    found = run.in_turn.ratio(b, a)
    ratio = None if found is None else found.ratio.interval
    blocks = run.in_turn.shared(a, b)
    if ratio is None or not blocks:
        notes += _disturbances(run, (a, b))
    notes += [APART] if ratio is None else run.distrust
    if ratio is None or not blocks:
        return attribute(side_of(run, a), side_of(run, b), notes, others, ratio)
    sides = BlockSides(ground_of(run, a), ground_of(run, b), blocks, ratio)
    return attribute(*sides.mean(), notes, others, ratio, sides.each)


def _disturbances(run: Run, cases: Sequence[str]) -> list[str]:
    """What spoilt the timed launches, in a sentence, where layers have a launch of their own."""
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
