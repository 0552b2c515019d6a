"""One network on two engines, or in two runs: which layers make the difference, and what is fused.

The layers are the network's own. Entries of the two profiles that compute the same layers are put
side by side; where one engine runs in one entry what the other runs in several, all of these are
one row. Causes are not named: two engines share no prices, and nor do two runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cspbench.analysis.layer import Layer
from cspbench.attribution.causes import (
    RESIDUALS,
    ExplanationVerdict,
    difference_interval,
    ratio_difference,
)
from cspbench.attribution.work import in_stage, main_layer, plain_stage, role_of, shape_of
from cspbench.backends.spec import ALLOCATOR
from cspbench.core.case import Case
from cspbench.core.options import Value
from cspbench.core.text import percent
from cspbench.jobs.layers import LayerTimes
from cspbench.measure.statistics import Interval, student_bounds
from cspbench.store.ratios import SharedBlock
from cspbench.views.layer_join import LayerRow, join

ENGINE_COLUMNS = (
    "stage", "role", "shape", "a_entries", "b_entries", "a_ms", "b_ms", "difference_ms",
    "difference_ms_low", "difference_ms_high",
)  # fmt: skip
#: Rows of time that belongs to no layer of the network.
UNJOINED, OUTSIDE = RESIDUALS["unjoined"], RESIDUALS["outside"]
#: The sentences name so many layers, and none that makes less than this share of all changes.
MOST_LAYERS, WORTH_A_WORD = 4, 0.03
NO_PRICES = "two engines share no prices, so no causes are named."
#: Of two cases that shared no block.
APART = (
    "The two latencies are from separate launches, so their difference is weaker than one from "
    "bursts in turn."
)


@dataclass(frozen=True)
class ComparedSide:
    """One of the two cases: its latency in ms, and the network's layers at the case's batch.

    ``place`` says where it ran: ``on opencv-cpu``, ``in run NAME``.
    """

    case: str
    latency: Interval
    layers: Sequence[Layer]
    place: str


@dataclass(frozen=True)
class LayerPair:
    """Layers of the network that each engine runs in entries of its own, times in ms.

    ``layers`` are positions in the network's Analysis; empty for time that belongs to none.
    ``low`` and ``high`` bound the 95 % interval of the difference over blocks (None without).
    """

    layers: frozenset[int]
    stage: str
    role: str
    shape: str
    a_entries: tuple[str, ...]
    b_entries: tuple[str, ...]
    a_ms: float
    b_ms: float
    low: float | None = None
    high: float | None = None

    @property
    def difference_ms(self) -> float:
        """B minus A."""
        return self.b_ms - self.a_ms

    @property
    def name(self) -> str:
        """``3x3 convolution 64 to 128 channels at 16x16 of stages.1``."""
        return in_stage(f"{self.role} {self.shape}".strip(), self.stage)


@dataclass(frozen=True, repr=False)
class LayerComparison:
    """One network in two places. ``pairs``, largest difference first, add up to the difference.

    ``low`` and ``high`` bound the 95 % interval of ``difference_ms`` (None without one). ``how``
    says where the layer times are from, ``notes`` what else differs.
    """

    a: ComparedSide
    b: ComparedSide
    b_ms: float
    low: float | None
    high: float | None
    pairs: tuple[LayerPair, ...]
    blocks: int
    how: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"LayerComparison({self.b.case} - {self.a.case}: {self.difference_ms:+.3f} ms)"

    @property
    def difference_ms(self) -> float:
        """Latency of B minus that of A."""
        return self.b_ms - self.a.latency.estimate

    @property
    def verdict(self) -> ExplanationVerdict | None:
        """Indistinguishable where the interval holds 0 or there is none; else nothing is judged."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return ExplanationVerdict.INDISTINGUISHABLE
        return None


def same_network(a: str, b: str) -> bool:
    """Whether two cases are one network at one batch, on backends or in modes that differ."""
    first, second = Case.parse(a), Case.parse(b)
    networks = [(case.model_id, case.batch) for case in (first, second)]
    return networks[0] == networks[1] and engine_of(first) != engine_of(second)


def engine_of(case: Case) -> tuple[str, dict[str, Value]]:
    """What runs the layers: another allocator is not another engine."""
    options = {name: value for name, value in case.backend.options if name != ALLOCATOR.name}
    return case.backend.name, options


def compare_engines(
    a: ComparedSide, b: ComparedSide, blocks: Sequence[SharedBlock], ratio: Interval
) -> LayerComparison:
    """Compare two engines from the blocks in which both were profiled; ``ratio`` is b / a."""
    base = a.latency.estimate
    each = [
        _pairs(
            _rows(block.a.layers, a.layers, base),
            _rows(block.b.layers, b.layers, base * block.ratio),
            (base, base * block.ratio),
            a.layers,
        )
        for block in blocks
    ]
    ms = base * ratio.estimate
    low, high = ratio_difference(base, ratio)
    how = f"Layer times are from {len(blocks)} blocks, scaled to the plain latency; {NO_PRICES}"
    return LayerComparison(a, b, ms, low, high, _mean(each, ms), len(blocks), how)


def compare_engines_apart(
    a: ComparedSide, b: ComparedSide, profiles: tuple[LayerTimes, LayerTimes]
) -> LayerComparison:
    """Compare two engines from profiles that took no turns: nothing but latency has an interval."""
    low, high = difference_interval(a.latency, b.latency)
    pairs = pairs_apart(a, b, [profiles])
    how = f"Layer times are of one launch each, scaled to the latency; {NO_PRICES} {APART}"
    return LayerComparison(a, b, b.latency.estimate, low, high, pairs, 0, how)


def pairs_apart(
    a: ComparedSide, b: ComparedSide, profiles: Sequence[tuple[LayerTimes, LayerTimes]]
) -> tuple[LayerPair, ...]:
    """Layers side by side from profiles that took no turns; of several with their intervals."""
    ms = a.latency.estimate, b.latency.estimate
    each = [
        _pairs(_rows(of_a, a.layers, ms[0]), _rows(of_b, b.layers, ms[1]), ms, a.layers)
        for of_a, of_b in profiles
    ]
    return _mean(each, ms[1])


def _rows(times: LayerTimes, layers: Sequence[Layer], ms: float) -> list[tuple[LayerRow, float]]:
    """Entries with their share of a plain inference of ``ms``."""
    scale = ms / times.total_ns
    return [(row, row.ns * scale) for row in join(times, layers) if row.ns > 0]


def _pairs(
    a: Sequence[tuple[LayerRow, float]],
    b: Sequence[tuple[LayerRow, float]],
    latencies: tuple[float, float],
    layers: Sequence[Layer],
) -> list[LayerPair]:
    """Entries of both sides that compute the same layers, together; the rest in two rows."""
    sets = [frozenset(row.layers) for row, _ in (*a, *b) if row.layers]
    pairs = [_pair(own, a, b, layers) for own in _joined(sets)]
    left = [math.fsum(ms for row, ms in side if not row.layers) for side in (a, b)]
    names = [tuple(row.name for row, _ in side if not row.layers) for side in (a, b)]
    pairs.append(LayerPair(frozenset(), "", UNJOINED, "", names[0], names[1], left[0], left[1]))
    inside = [math.fsum(ms for _, ms in side) for side in (a, b)]
    outside = [whole - own for whole, own in zip(latencies, inside, strict=True)]
    pairs.append(LayerPair(frozenset(), "", OUTSIDE, "", (), (), outside[0], outside[1]))
    return pairs


def _joined(sets: Iterable[frozenset[int]]) -> list[frozenset[int]]:
    """Unions of the sets that overlap, in the order of their first layers."""
    groups: list[frozenset[int]] = []
    for own in sets:
        overlapping = [group for group in groups if group & own]
        groups = [group for group in groups if not group & own]
        groups.append(own.union(*overlapping))
    return sorted(groups, key=min)


def _pair(
    own: frozenset[int],
    a: Sequence[tuple[LayerRow, float]],
    b: Sequence[tuple[LayerRow, float]],
    layers: Sequence[Layer],
) -> LayerPair:
    sides = [[(row.name, ms) for row, ms in side if own & set(row.layers)] for side in (a, b)]
    names = [tuple(name for name, _ in side) for side in sides]
    times = [math.fsum(ms for _, ms in side) for side in sides]
    main = main_layer([layers[number] for number in sorted(own)])
    return LayerPair(
        own, plain_stage(main.stage), role_of(main), shape_of(main),
        names[0], names[1], times[0], times[1],
    )  # fmt: skip


def _mean(blocks: Sequence[Sequence[LayerPair]], b_ms: float) -> tuple[LayerPair, ...]:
    """Means over the blocks with their intervals; B's are scaled so that they add up to ``b_ms``.

    An engine gives every block the same entries; a row that a block lacks took no time there.
    """
    by_key: dict[tuple[frozenset[int], str], list[LayerPair]] = {}
    for block in blocks:
        for pair in block:
            by_key.setdefault((pair.layers, pair.role), []).append(pair)
    scale = b_ms / fmean([math.fsum(pair.b_ms for pair in block) for block in blocks])
    found = []
    for pairs in by_key.values():
        missing = [0.0] * (len(blocks) - len(pairs))
        low, high = student_bounds([pair.difference_ms for pair in pairs] + missing)
        first = pairs[0]
        found.append(
            LayerPair(
                first.layers, first.stage, first.role, first.shape,
                first.a_entries, first.b_entries,
                fmean([pair.a_ms for pair in pairs] + missing),
                scale * fmean([pair.b_ms for pair in pairs] + missing),
                low, high,
            )
        )  # fmt: skip
    return _sorted(found)


def _sorted(pairs: Iterable[LayerPair]) -> tuple[LayerPair, ...]:
    return tuple(sorted(pairs, key=lambda pair: -abs(pair.difference_ms)))


def sentences(it: LayerComparison) -> list[str]:
    """The comparison in words, most important first."""
    from cspbench.attribution.text import ms, signed

    name = _common_name(it)
    times = f"{ms(it.a.latency.estimate)} {it.a.place}, {ms(it.b_ms)} {it.b.place}"
    if it.verdict is ExplanationVerdict.INDISTINGUISHABLE:
        head = f"A and B are indistinguishable: {name} takes {times}."
    else:
        assert it.low is not None
        assert it.high is not None
        word = "slower" if it.difference_ms > 0 else "faster"
        share = percent(it.difference_ms / it.a.latency.estimate, signed=True)
        reach = f"{signed(it.low)} to {signed(it.high)} ms with 95 % confidence"
        head = (
            f"B is {word} by {ms(abs(it.difference_ms))} ({share}; {reach}): {name} takes {times}."
        )
    return [head, *_which_layers(it), *_fusion(it), it.how, *it.notes]


def _common_name(it: LayerComparison) -> str:
    """The case, if both are the same; else their network."""
    return it.a.case if it.a.case == it.b.case else str(Case.parse(it.a.case).model_id)


def _which_layers(it: LayerComparison) -> list[str]:
    from cspbench.attribution.text import signed

    moved = math.fsum(abs(pair.difference_ms) for pair in it.pairs)
    worth = [pair for pair in it.pairs if abs(pair.difference_ms) > WORTH_A_WORD * moved]
    if not worth:
        return ["No single layer makes the difference: it is spread over all of them."]
    named = "; ".join(
        f"{signed(pair.difference_ms)} ms {pair.name}" for pair in worth[:MOST_LAYERS]
    )
    rest = it.difference_ms - math.fsum(pair.difference_ms for pair in worth[:MOST_LAYERS])
    return [f"By layer: {named}; all others {signed(rest)} ms."]


def _fusion(it: LayerComparison) -> list[str]:
    """What one engine runs in fewer entries than the other."""
    from cspbench.attribution.text import ms

    texts = []
    for name, other, ours, theirs, took in (
        ("A", "B", "a_entries", "b_entries", "b_ms"),
        ("B", "A", "b_entries", "a_entries", "a_ms"),
    ):
        fused = [
            pair for pair in it.pairs
            if pair.layers and 0 < len(getattr(pair, ours)) < len(getattr(pair, theirs))
        ]  # fmt: skip
        if fused:
            entries = sum(len(getattr(pair, theirs)) for pair in fused)
            own = sum(len(getattr(pair, ours)) for pair in fused)
            total = math.fsum(getattr(pair, took) for pair in fused)
            texts.append(
                f"{name} fuses what {other} runs apart: {own} of its entries do the work of "
                f"{entries} of {other}, which take {ms(total)}."
            )
    return texts


def rows(it: LayerComparison) -> list[dict[str, Any]]:
    """One row for layers that both engines run, largest difference first."""
    return [
        {
            "stage": pair.stage, "role": pair.role, "shape": pair.shape,
            "a_entries": len(pair.a_entries), "b_entries": len(pair.b_entries),
            "a_ms": pair.a_ms, "b_ms": pair.b_ms, "difference_ms": pair.difference_ms,
            "difference_ms_low": pair.low, "difference_ms_high": pair.high,
        }
        for pair in it.pairs
    ]  # fmt: skip


def as_dict(it: LayerComparison) -> dict[str, Any]:
    """The object that ``--format json`` prints; ``layers`` add up to ``difference_ms``."""
    verdict = it.verdict
    layers = [
        own | {"a_entries": list(pair.a_entries), "b_entries": list(pair.b_entries)}
        for own, pair in zip(rows(it), it.pairs, strict=True)
    ]
    sides: Mapping[str, ComparedSide] = {"a": it.a, "b": it.b}
    return {
        **{
            name: {"case": ground.case, "latency_ms": ms}
            for (name, ground), ms in zip(
                sides.items(), (it.a.latency.estimate, it.b_ms), strict=True
            )
        },
        "difference_ms": it.difference_ms,
        "difference_ms_low": it.low,
        "difference_ms_high": it.high,
        "verdict": verdict.value if verdict else None,
        "blocks": it.blocks,
        "layers": layers,
        "sentences": sentences(it),
    }
