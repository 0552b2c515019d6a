"""The measured difference of two cases, attributed to causes; pure functions.

Every entry of both profiles is taken apart into components that add up to its measured time
(``prices.py``); a cause's part of the difference is the sum of its components in B minus that in A.
So all parts add up exactly, by cause as by layer, and ``explain(A, B)`` is ``-explain(B, A)``.

Where both cases were profiled in blocks, each block is attributed on its own, and every part has
the Student interval over the blocks. Time that belongs to no known layer, and what latency has
beyond the sum of the entries, is residual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

from cspbench.attribution.prices import components, fit_prices
from cspbench.attribution.work import Entry
from cspbench.measure.statistics import Interval, student_bounds

#: A residual of more than this share of the difference explains nothing.
RESIDUAL_SHARE = 0.10

#: Causes in the order of tables, with what they are called.
CAUSES: dict[str, str] = {
    "compute": "arithmetic",
    "intensity": "low arithmetic intensity",
    "traffic": "traffic of pools, additions and resizing",
    "concatenation": "concatenation copies",
    "unfused": "norms and activations that are not fused",
    "layout": "copies, slices and changes of layout",
    "overhead": "overhead of each layer",
    "small": "layers too small to fill the machine",
    "kind": "stages and kinds of layers that run at another rate",
    "size": "shapes that run at another rate, also alone",
    "faults": "page faults of the allocator",
    "context": "layers that take another time beside their neighbours",
}
#: What a group of time from entry to entry is called.
BETWEEN = "steps from layer to layer"
RESIDUALS: dict[str, str] = {
    "rate": "layers of one kind at another rate",
    "unjoined": "entries that are no known layer",
    "outside": "time outside the layers",
}


class ExplanationVerdict(str, Enum):
    """What the attribution is worth."""

    EXPLAINED = "explained"
    NOT_EXPLAINED = "not explained"
    INDISTINGUISHABLE = "indistinguishable"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Side:
    """One of the two cases: what was measured, and the entries of its profile."""

    case: str
    latency: Interval
    batch: int
    macs: int
    traffic_bytes: int
    entries: tuple[Entry, ...]
    profiled_ms: float
    method: str = ""
    #: How many times longer an inference takes with the profiler at work; None if not measured.
    profiled: float | None = None
    #: Time of an inference that page faults take; a part of the entries' time.
    faults_ms: float = 0.0
    #: What the engine takes from each entry to the next; 0 where its profiler does not tell.
    between_ms: float = 0.0

    @property
    def replayed_share(self) -> float:
        """Share of the entries' time that layers take which were timed alone, too."""
        every = math.fsum(entry.ms for entry in self.entries)
        own = math.fsum(entry.ms for entry in self.entries if entry.replay_ms is not None)
        return own / every if every else 0.0

    @property
    def outside_ms(self) -> float:
        """What the latency has beyond entries and the time between; negative if profiling slows."""
        inside = math.fsum(entry.ms for entry in self.entries) + self.between_ms
        return self.latency.estimate - inside


@dataclass(frozen=True)
class DifferencePart:
    """A cause or a part of the residual in both cases, in ms.

    ``low`` and ``high`` bound the 95 % interval of ``difference_ms`` over blocks (None without).
    """

    key: str
    label: str
    a_ms: float
    b_ms: float
    residual: bool = False
    low: float | None = None
    high: float | None = None

    @property
    def difference_ms(self) -> float:
        """B minus A."""
        return self.b_ms - self.a_ms


@dataclass(frozen=True)
class Group:
    """Layers of one stage and role in both cases, times in ms.

    ``causes`` are the differences by cause that they add up to; ``low`` and ``high`` bound the
    difference over blocks (None without).
    """

    stage: str
    role: str
    a_count: int
    b_count: int
    a_ms: float
    b_ms: float
    causes: Mapping[str, float]
    low: float | None = None
    high: float | None = None

    @property
    def difference_ms(self) -> float:
        """B minus A."""
        return self.b_ms - self.a_ms

    @property
    def main_cause(self) -> str:
        """The cause with the largest part of the difference, either way."""
        return max(self.causes, key=lambda cause: abs(self.causes[cause]))


@dataclass(frozen=True, repr=False)
class Explanation:
    """Why ``b`` takes another time than ``a``.

    ``low`` and ``high`` bound the 95 % interval of ``difference_ms`` (None without one). ``parts``
    are all causes, then the parts of the residual; ``groups`` are sums by stage and role, largest
    difference first. Both add up to ``difference_ms``. ``costs`` are the components of every entry
    of both sides, in their order. ``others`` explain the same two at other batches.
    ``residual_low`` and ``residual_high`` bound the residual over ``blocks`` blocks.
    """

    a: Side
    b: Side
    low: float | None
    high: float | None
    parts: tuple[DifferencePart, ...]
    groups: tuple[Group, ...]
    costs: tuple[tuple[dict[str, float], ...], tuple[dict[str, float], ...]]
    notes: tuple[str, ...] = ()
    others: tuple[Explanation, ...] = field(default=())
    blocks: int = 0
    residual_low: float | None = None
    residual_high: float | None = None

    def __repr__(self) -> str:
        pair = f"{self.b.case} - {self.a.case}"
        return f"Explanation({pair}: {self.difference_ms:+.3f} ms, {self.verdict})"

    @property
    def difference_ms(self) -> float:
        """Latency of B minus that of A."""
        return self.b.latency.estimate - self.a.latency.estimate

    @property
    def residual_ms(self) -> float:
        """What no cause accounts for."""
        return math.fsum(part.difference_ms for part in self.parts if part.residual)

    @property
    def residual_share(self) -> float | None:
        """The residual or its largest part, whichever is larger, as a share of the difference.

        Parts that cancel each other out explain nothing either. Where the residual has an interval,
        its farther bound counts. None if there is no difference.
        """
        if self.difference_ms == 0:
            return None
        parts = [part.difference_ms for part in self.parts if part.residual]
        known = [bound for bound in (self.residual_low, self.residual_high) if bound is not None]
        largest = max(map(abs, [self.residual_ms, *parts, *known]))
        return largest / abs(self.difference_ms)

    @property
    def verdict(self) -> ExplanationVerdict:
        """Indistinguishable where the interval holds 0 or there is none."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return ExplanationVerdict.INDISTINGUISHABLE
        share = self.residual_share
        explained = share is not None and share <= RESIDUAL_SHARE
        return ExplanationVerdict.EXPLAINED if explained else ExplanationVerdict.NOT_EXPLAINED


def attribute(
    a: Side,
    b: Side,
    notes: Sequence[str] = (),
    others: Sequence[Explanation] = (),
    ratio: Interval | None = None,
    blocks: Sequence[tuple[Side, Side]] = (),
) -> Explanation:
    """Attribute the measured difference of two cases to causes and to layers.

    Args:
        a: the first case; the difference is b minus a.
        b: the second case.
        notes: sentences that go along.
        others: the same two at other batches.
        ratio: b / a of cases that took turns. The difference is then that of a's latency and this
            ratio, with its interval; without it, it is that of two separate latencies.
        blocks: both cases as each block shows them; they give every part its interval.
    """
    of_a, ms = a.latency, a.latency.estimate
    if ratio is not None:  # all uncertainty is the ratio's
        of_a, b = Interval(ms, ms, ms), replace(b, latency=scaled(ms, ratio))
    parts, groups, costs = _attributed(a, b)
    each = [_attributed(*sides) for sides in blocks]
    low, high = difference_interval(of_a, b.latency)
    residuals = [math.fsum(p.difference_ms for p in own if p.residual) for own, _, _ in each]
    residual_low, residual_high = student_bounds(residuals)
    return Explanation(
        a, b, low, high,
        parts=tuple(_with_bounds(parts, [own for own, _, _ in each])),
        groups=tuple(_groups_with_bounds(groups, [own for _, own, _ in each])),
        costs=costs,
        notes=tuple(notes),
        others=tuple(others),
        blocks=len(blocks),
        residual_low=residual_low,
        residual_high=residual_high,
    )  # fmt: skip


Costs: TypeAlias = tuple[tuple[dict[str, float], ...], tuple[dict[str, float], ...]]


def _attributed(a: Side, b: Side) -> tuple[list[DifferencePart], list[Group], Costs]:
    prices = fit_prices(a.entries, b.entries)
    of_a, of_b = (
        tuple(components(entry, prices) for entry in side.entries) for side in (a, b)
    )  # fmt: skip
    costs = of_a, of_b
    return _parts(a, b, costs), _groups(a, b, costs), costs


def _with_bounds(
    parts: Sequence[DifferencePart], blocks: Sequence[Sequence[DifferencePart]]
) -> list[DifferencePart]:
    bounded = []
    for number, part in enumerate(parts):
        low, high = _bounds(part.difference_ms, [own[number].difference_ms for own in blocks])
        bounded.append(replace(part, low=low, high=high))
    return bounded


def _groups_with_bounds(groups: Sequence[Group], blocks: Sequence[Sequence[Group]]) -> list[Group]:
    each = [{(g.stage, g.role): g.difference_ms for g in own} for own in blocks]
    bounded = []
    for group in groups:
        kind = group.stage, group.role
        low, high = _bounds(group.difference_ms, [own.get(kind, 0.0) for own in each])
        bounded.append(replace(group, low=low, high=high))
    return bounded


def _bounds(estimate: float, of_blocks: Sequence[float]) -> tuple[float | None, float | None]:
    """95 % bounds over blocks of an estimate from all of them together.

    Prices are fitted anew in each block, so where few blocks agree closely their interval may lie
    beside what all of them give; then it reaches as far.
    """
    low, high = student_bounds(of_blocks)
    if low is None or high is None:
        return None, None
    return min(low, estimate), max(high, estimate)


def scaled(ms: float, ratio: Interval) -> Interval:
    """A latency times a ratio."""
    low, high = (None if bound is None else ms * bound for bound in (ratio.low, ratio.high))
    return Interval(ms * ratio.estimate, low, high)


def ratio_difference(ms: float, ratio: Interval) -> tuple[float | None, float | None]:
    """95 % interval of what a latency times a ratio is more than the latency."""
    return difference_interval(Interval(ms, ms, ms), scaled(ms, ratio))


def difference_interval(a: Interval, b: Interval) -> tuple[float | None, float | None]:
    """95 % interval of b - a from the intervals of both (MOVER).

    Zou, Donner (2008), "Construction of confidence limits about effect measures: a general
    approach", Statistics in Medicine 27: the distances from the estimates to the facing bounds add
    up as roots of sums of squares. Launches of the two cases are independent.
    """
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None, None
    difference = b.estimate - a.estimate
    low = difference - math.hypot(b.estimate - b.low, a.high - a.estimate)
    high = difference + math.hypot(b.high - b.estimate, a.estimate - a.low)
    return low, high


def _parts(
    a: Side, b: Side, costs: Sequence[Sequence[Mapping[str, float]]]
) -> list[DifferencePart]:
    sums = [
        {key: math.fsum(cost.get(key, 0.0) for cost in side) for key in (*CAUSES, *RESIDUALS)}
        for side in costs
    ]
    for side, total in zip((a, b), sums, strict=True):
        total["outside"] = side.outside_ms
        total["overhead"] += side.between_ms
        # Memory is faulted in where a layer first writes it: a replay does not see it, and a layer
        # without a replay seems to run at another rate.
        total["faults"] = side.faults_ms
        total["context"] -= side.replayed_share * side.faults_ms
        total["rate"] -= (1 - side.replayed_share) * side.faults_ms
    return [
        DifferencePart(key, label, sums[0][key], sums[1][key], residual=key in RESIDUALS)
        for key, label in (CAUSES | RESIDUALS).items()
    ]


def _groups(a: Side, b: Side, costs: Sequence[Sequence[Mapping[str, float]]]) -> list[Group]:
    """Sums by stage and role; times between and outside the layers are groups of their own."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for number, (side, own) in enumerate(zip((a, b), costs, strict=True)):
        for entry, cost in zip(side.entries, own, strict=True):
            row = rows.setdefault(
                (entry.stage, entry.role), {"count": [0, 0], "ms": [0.0, 0.0], "causes": {}}
            )
            row["count"][number] += 1
            row["ms"][number] += entry.ms
            for cause, ms in cost.items():
                signed = ms if number else -ms
                row["causes"][cause] = row["causes"].get(cause, 0.0) + signed
    groups = []
    for (stage, role), row in rows.items():
        counts, times = row["count"], row["ms"]
        groups.append(Group(stage, role, counts[0], counts[1], times[0], times[1], row["causes"]))
    change = b.outside_ms - a.outside_ms
    groups.append(
        Group("", RESIDUALS["outside"], 0, 0, a.outside_ms, b.outside_ms, {"outside": change})
    )
    if a.between_ms or b.between_ms:
        change = b.between_ms - a.between_ms
        groups.append(Group("", BETWEEN, 0, 0, a.between_ms, b.between_ms, {"overhead": change}))
    return sorted(groups, key=lambda group: -abs(group.difference_ms))
