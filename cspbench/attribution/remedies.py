"""What would make B faster: networks that differ from it in one option, predicted layer by layer.

Every layer of such a network is taken to reach the rate of the most alike layer that was timed in A
or B: of the same role, and nearest in arithmetic and traffic (distance of their logarithms). The
prediction is B's latency and the difference between the sums of both networks' predicted layers, so
what the model gets wrong for B itself cancels. A variant is another network with other weights:
what becomes of its accuracy is not known here.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cspbench.analysis.layer import Layer
from cspbench.analysis.ops import FOLDABLE_KINDS
from cspbench.analysis.roofline import Peak
from cspbench.attribution.causes import CAUSES, Explanation, Side, scaled
from cspbench.attribution.facts import layers_of, peak_of_case
from cspbench.attribution.prices import Pool, Price, fit_prices, pool_of
from cspbench.attribution.work import Entry, Family, at_batch, expected_entries, in_stage
from cspbench.core.case import Case, ModelId, Ref, format_value
from cspbench.core.options import Axis, Value
from cspbench.errors import CspbenchError, InputError

if TYPE_CHECKING:
    from cspbench.runner.plan import Plan
    from cspbench.views.frames import Run

#: The share of B's latency that a variant must be predicted to save to be named.
WORTH = 0.02
#: Variants that are named, and those that ``--try`` measures.
MOST, TRIED = 3, 2
#: Fractions that are tried: the nearest below and above the network's own.
FRACTIONS = (0.25, 0.5, 0.75)
#: Norms and activations that every engine computes within the convolution before them.
ALWAYS_FUSED = frozenset({"batch_norm", "relu"})
_PRICED = (Family.ARITHMETIC, Family.MOVEMENT)


@dataclass(frozen=True)
class Remedy:
    """A network that differs from B in one option, times in ms.

    ``places`` are the stages and roles that change the most, with their predicted differences.
    ``measured_ms`` with its 95 % interval is what ``--try`` measured, relative to B; None before.
    """

    case: str
    change: str
    b_ms: float
    predicted_ms: float
    places: tuple[tuple[str, float], ...]
    measured_ms: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def predicted_gain_ms(self) -> float:
        """What it is predicted to save; negative if it costs."""
        return self.b_ms - self.predicted_ms


@dataclass(frozen=True)
class Rates:
    """What layers took in A and B, from which those of another network are predicted."""

    known: tuple[Entry, ...]
    prices: Mapping[Pool, Price]
    #: ms an element of norms and activations by operator, where the engine could fold them.
    unfused: Mapping[str, float]

    def usual_ms(self, entry: Entry) -> float:
        """What its work would take at the common prices; at the ceilings where there are none."""
        price = self.prices.get(pool_of(entry))
        usual = price.usual_ms(entry) if price and entry.family in _PRICED else 0.0
        return usual if usual > 0 else entry.roof_ms

    def predicted_ms(self, entry: Entry) -> float:
        """Time of a layer in a network, from the most alike ones."""
        alike = [own for own in self.known if (own.family, own.role) == (entry.family, entry.role)]
        alike = alike or [own for own in self.known if own.family is entry.family]
        usual = self.usual_ms(entry)
        if not alike:
            return entry.overhead_ms + usual
        nearest = min(_distance(own, entry) for own in alike)
        same = [own for own in alike if _distance(own, entry) <= nearest + 1e-9]
        work = math.fsum(self.usual_ms(own) for own in same)
        took = math.fsum(own.ms - own.overhead_ms for own in same)
        return entry.overhead_ms + (usual * took / work if work > 0 else usual)


def _distance(a: Entry, b: Entry) -> float:
    pairs = ((a.compute_ms, b.compute_ms), (a.memory_ms, b.memory_ms))
    return math.hypot(*(math.log((one + 1e-9) / (other + 1e-9)) for one, other in pairs))


def rates_of(sides: Sequence[tuple[Side, Sequence[Layer]]]) -> Rates:
    """Rates of the layers of A and B, from their entries and the layers of their analyses."""
    known = tuple(
        entry
        for side, _ in sides
        for entry in side.entries
        if entry.family in (*_PRICED, Family.CONCATENATION) and entry.roof_ms > 0
    )
    took: dict[str, float] = defaultdict(float)
    elements: dict[str, int] = defaultdict(int)
    for side, layers in sides:
        by_name = {layer.name: layer for layer in layers}
        for layer in filter(_foldable, layers):
            elements[layer.op] += layer.output_elements
        for entry in side.entries:
            if entry.family is Family.UNFUSED and entry.layers and entry.layers[0] in by_name:
                took[by_name[entry.layers[0]].op] += entry.ms
    unfused = {op: took[op] / count for op, count in elements.items() if count}
    return Rates(known, fit_prices(sides[0][0].entries, sides[1][0].entries), unfused)


def _foldable(layer: Layer) -> bool:
    return layer.kind in FOLDABLE_KINDS and not int(layer["traffic_bytes_fused"])


def by_place(layers: Sequence[Layer], peak: Peak, rates: Rates) -> dict[str, float] | None:
    """Predicted ms of a network by stage and role; None where an activation was never timed."""
    found: dict[str, float] = defaultdict(float)
    for entry in expected_entries(layers, peak):
        found[in_stage(entry.role, entry.stage)] += rates.predicted_ms(entry)
    for layer in filter(_foldable, layers):
        price = rates.unfused.get(layer.op, 0.0 if layer.op in ALWAYS_FUSED else None)
        if price is None:
            return None
        found[CAUSES["unfused"]] += price * layer.output_elements
    return dict(found)


def variants_of(case: Case) -> Iterator[tuple[Case, str]]:
    """Cases whose network differs in one option of its model or neck, and that change in words."""
    from cspbench.models.build import spec_of
    from cspbench.models.spec import NECKS

    parts: list[tuple[str, Ref, Sequence[Axis]]] = [
        ("model", case.model, spec_of(case.model_id).all_axes)
    ]
    if case.neck is not None:
        parts.append(("neck", case.neck, NECKS.get(case.neck.name).axes))
    for part, ref, axes in parts:
        own = dict(ref.options)
        for axis in axes:
            now = own.get(axis.name, axis.default)
            for value in _other_values(axis, now):
                changed: Any = {part: Ref.of(ref.name, own | {axis.name: value})}
                variant = _canonical(replace(case, **changed))
                if variant is not None and variant != case:
                    prefix = "" if part == "model" else f"{part} "
                    yield variant, prefix + _change(ref, getattr(variant, part), axes)


def _change(before: Ref, after: Ref, axes: Sequence[Axis]) -> str:
    """``gamma=0.75 instead of 0.5``; an option may bring another one with it."""
    old, new = (
        {axis.name: axis.default for axis in axes} | dict(ref.options) for ref in (before, after)
    )
    return ", ".join(
        f"{name}={format_value(value)} instead of {format_value(old[name])}"
        for name, value in new.items()
        if value != old[name]
    )


def _other_values(axis: Axis, now: Value) -> Sequence[Value]:
    if axis.kind == "fraction":
        fractions = [float(now), *FRACTIONS]
        below = [value for value in fractions if value < float(now)]
        above = [value for value in fractions if value > float(now)]
        return [*below[-1:], *above[:1]]
    choices = axis.choices if axis.kind == "choice" else (False, True)
    return [value for value in choices if value != now] if axis.kind in ("choice", "flag") else []


def _canonical(case: Case) -> Case | None:
    """The case with a model id as the project writes it; None if the network does not exist."""
    from cspbench.models.identity import canonical

    try:
        model = canonical(case.model_id)
    except InputError:
        return None
    return replace(case, model=model.model, neck=model.neck)


def remedies_of(it: Explanation, run: Run) -> list[Remedy]:
    """The variants of B that are predicted to save the most, best first; empty if none is worth it.

    Raises:
        InputError: the run lacks the ceilings.
    """
    peak = peak_of_case(run, it.b.case)
    cases = [Case.parse(side.case) for side in (it.a, it.b)]
    sides = [
        (side, layers_of(run, case)) for side, case in zip((it.a, it.b), cases, strict=True)
    ]  # fmt: skip
    rates = rates_of(sides)
    own = by_place(sides[1][1], peak, rates)
    if own is None:
        return []
    found = []
    for variant, change in variants_of(cases[1]):
        layers = _analysed(variant.model_id, variant.batch)
        other = None if layers is None else by_place(layers, peak, rates)
        if other is not None:
            found.append(_remedy(str(variant), change, it.b.latency.estimate, own, other))
    worth = [one for one in found if one.predicted_gain_ms >= WORTH * one.b_ms]
    return sorted(worth, key=lambda one: one.predicted_ms)[:MOST]


def _analysed(model: ModelId, batch: int) -> Sequence[Layer] | None:
    from cspbench.analysis.api import analyze_id

    try:
        return at_batch(analyze_id(model).layers, batch)
    except CspbenchError:  # the options do not go together, or it cannot run at this size
        return None


def _remedy(
    case: str, change: str, b_ms: float, own: Mapping[str, float], other: Mapping[str, float]
) -> Remedy:
    changes = {
        place: other.get(place, 0.0) - own.get(place, 0.0)
        for place in dict.fromkeys(itertools.chain(own, other))
    }
    places = sorted(changes.items(), key=lambda pair: -abs(pair[1]))[:2]
    return Remedy(case, change, b_ms, b_ms + math.fsum(changes.values()), tuple(places))


def plan_trial(b: str, remedies: Sequence[Remedy], rounds: int) -> Plan:
    """Plan to measure a case and its best variants in turns.

    Raises:
        InputError: a variant cannot run here.
    """
    from cspbench.attribution.pair import MAX_SECONDS, plan_runnable
    from cspbench.suite.suite import Measure, Suite

    ids = [b, *(one.case for one in remedies[:TRIED])]
    cases = tuple(Case.parse(id_) for id_ in ids)
    measure = Measure(rounds=rounds, max_seconds=MAX_SECONDS, memory=False)
    return plan_runnable(Suite("remedies", cases, measure, f"what would help {b}"))


def with_measured(remedies: Sequence[Remedy], run: Run, b: str) -> list[Remedy]:
    """The remedies with what a run of `plan_trial` measured of them; ``b`` is B's case."""
    found = []
    for one in remedies:
        ratio = run.in_turn.ratio(one.case, b)
        if ratio is None:
            found.append(one)
            continue
        ms = scaled(one.b_ms, ratio.ratio.interval)
        found.append(replace(one, measured_ms=ms.estimate, low=ms.low, high=ms.high))
    return found


def sentences(remedies: Sequence[Remedy]) -> list[str]:
    """What would help, a sentence each."""
    from cspbench.attribution.text import measured_ms, ms, signed

    if not remedies:
        return []
    head = (
        "What would help B, predicted from the layers timed here (another network, with an "
        "accuracy of its own):"
    )
    texts = [head]
    for one in remedies:
        places = ", ".join(f"{signed(change)} in {place}" for place, change in one.places)
        text = f"{one.change}: {ms(one.predicted_ms)} instead of {ms(one.b_ms)} ({places})"
        if one.measured_ms is not None:
            text += f"; measured: {measured_ms(one.measured_ms, one.low, one.high)}"
        texts.append(f"- {text}.")
    return texts


def rows(remedies: Sequence[Remedy]) -> list[dict[str, Any]]:
    """One row a variant, for JSON."""
    return [
        {
            "case": one.case, "change": one.change, "predicted_ms": one.predicted_ms,
            "measured_ms": one.measured_ms, "measured_ms_low": one.low,
            "measured_ms_high": one.high,
            "places": [{"place": place, "difference_ms": ms} for place, ms in one.places],
        }
        for one in remedies
    ]  # fmt: skip
