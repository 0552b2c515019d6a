"""The measured difference of two cases, attributed to causes; pure functions.

Every entry of both profiles is taken apart into components that add up to its measured time; a
cause's part of the difference is the sum of its components in B minus that in A. So all parts add
up exactly, by cause as by layer, and ``explain(A, B)`` is ``-explain(B, A)``.

Let ``c`` be the arithmetic of an entry and ``m`` its fused traffic, both at the measured ceilings
of the device (roofline: Williams, Waterman, Patterson 2009), and ``w = max(0, m - c)`` what it
waits for memory beyond its arithmetic. Its time ``t`` is

    t = overhead + (pc c + pm w) + (k - 1)(pc c + pm w) + rest

- ``overhead`` is the measured dispatch of one operator (at most ``t``).
- ``pc`` and ``pm`` are common prices: how many times slower than the ceilings the layers of *both*
  networks run, from a non-negative least-squares fit over the two pooled (weights 1 / max(c, m)),
  scaled so that it reproduces their total time. One pair for layers that multiply and accumulate,
  one price of traffic for each role of those that only move (pooling, addition). Pooling makes
  the result antisymmetric, as the Marshall-Edgeworth index does for prices of two years; for one
  layer a network it is the quantity effect at the average rate, close to the Shapley value.
- ``k`` is how much longer than that layers of the same stage and role (1x1, grouped, depthwise,
  pooling) take in both networks together; where only one network has such layers, those of the
  same role.
- ``rest`` is due to size where ``max(c, m)`` is less than SMALL dispatches: too little work to fill
  the machine. Elsewhere nothing names its cause, and it counts as residual.

Prices and ``k`` come from layers that are not small, if there are any. Concatenations, norms and
activations that could have been folded but ran alone, and changes of layout that a backend adds go
to their causes with their whole time. Time that belongs to no known layer, and what latency has
beyond the sum of the entries, is residual.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeAlias

from cspbench.attribution.work import Entry, Family
from cspbench.measure.statistics import Interval

#: A layer is small if its work takes less than this many dispatches at the ceilings.
SMALL = 10
#: A residual of more than this share of the difference explains nothing.
RESIDUAL_SHARE = 0.20

#: Causes in the order of tables, with what they are called.
CAUSES: dict[str, str] = {
    "compute": "arithmetic",
    "intensity": "low arithmetic intensity",
    "traffic": "traffic of pools, additions and resizing",
    "concatenation": "concatenation copies",
    "unfused": "norms and activations that are not fused",
    "layout": "slices and changes of layout",
    "overhead": "overhead of each layer",
    "small": "layers too small to fill the machine",
    "kind": "stages and kinds of layers that run at another rate",
}
RESIDUALS: dict[str, str] = {
    "rate": "layers of one kind at another rate",
    "unjoined": "entries that are no known layer",
    "outside": "time outside the layers",
}
_WHOLE = {
    Family.CONCATENATION: "concatenation",
    Family.UNFUSED: "unfused",
    Family.LAYOUT: "layout",
    Family.NOTHING: "overhead",
    Family.UNKNOWN: "unjoined",
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

    @property
    def outside_ms(self) -> float:
        """What the latency has beyond the sum of the entries; negative where profiling slows."""
        return self.latency.estimate - math.fsum(entry.ms for entry in self.entries)


@dataclass(frozen=True)
class DifferencePart:
    """A cause or a part of the residual in both cases, in ms."""

    key: str
    label: str
    a_ms: float
    b_ms: float
    residual: bool = False

    @property
    def difference_ms(self) -> float:
        """B minus A."""
        return self.b_ms - self.a_ms


@dataclass(frozen=True)
class Group:
    """Layers of one stage and role in both cases, times in ms.

    ``causes`` are the differences by cause that they add up to.
    """

    stage: str
    role: str
    a_count: int
    b_count: int
    a_ms: float
    b_ms: float
    causes: Mapping[str, float]

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

        Parts that cancel each other out explain nothing either. None if there is no difference.
        """
        if self.difference_ms == 0:
            return None
        parts = [part.difference_ms for part in self.parts if part.residual]
        largest = max(map(abs, [self.residual_ms, *parts]))
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
) -> Explanation:
    """Attribute the measured difference of two cases to causes and to layers.

    ``ratio`` is b / a of cases that took turns. The difference is then that of a's latency and this
    ratio, with its interval; without it, it is that of two separate latencies.
    """
    of_a, ms = a.latency, a.latency.estimate
    if ratio is not None:  # all uncertainty is the ratio's
        of_a, b = Interval(ms, ms, ms), replace(b, latency=_scaled(ms, ratio))
    prices = fit_prices(a.entries, b.entries)
    costs = tuple(tuple(components(entry, prices) for entry in side.entries) for side in (a, b))
    low, high = difference_interval(of_a, b.latency)
    return Explanation(
        a, b, low, high,
        parts=tuple(_parts(a, b, costs)),
        groups=tuple(_groups(a, b, costs)),
        costs=(costs[0], costs[1]),
        notes=tuple(notes),
        others=tuple(others),
    )  # fmt: skip


def _scaled(ms: float, ratio: Interval) -> Interval:
    """A latency times a ratio."""
    low, high = (None if bound is None else ms * bound for bound in (ratio.low, ratio.high))
    return Interval(ms * ratio.estimate, low, high)


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


#: A stage (None: any) and a role.
Kind: TypeAlias = tuple[str | None, str]
#: A family, and of those that only move the role as well.
Pool: TypeAlias = tuple[Family, str]


@dataclass(frozen=True)
class Price:
    """How many times slower than the ceilings a family of layers runs in both cases together.

    ``kinds`` holds, by stage and role, how much longer again such layers take (1: as the family);
    stage None stands for all stages.
    """

    compute: float = 0.0
    waiting: float = 0.0
    kinds: Mapping[Kind, float] = field(default_factory=dict)

    def usual_ms(self, entry: Entry) -> float:
        """What an entry would take at the family's prices."""
        return self.compute * entry.compute_ms + self.waiting * entry.waiting_ms

    def kind_factor(self, entry: Entry) -> float:
        """How many times longer than usual layers like this one take."""
        anywhere = self.kinds.get((None, entry.role), 1.0)
        return self.kinds.get((entry.stage, entry.role), anywhere)


def is_small(entry: Entry) -> bool:
    """True if its work takes less than SMALL dispatches at the ceilings."""
    return entry.roof_ms < SMALL * entry.overhead_ms


def fit_prices(a: Iterable[Entry], b: Iterable[Entry]) -> dict[Pool, Price]:
    """Prices of arithmetic and of each kind of movement, from the entries of both cases."""
    pools: dict[Pool, tuple[list[Entry], list[Entry]]] = {}
    for number, side in enumerate((a, b)):
        for entry in side:
            if entry.family not in _WHOLE and entry.roof_ms > 0:
                pools.setdefault(pool_of(entry), ([], []))[number].append(entry)
    return {pool: _price(*sides) for pool, sides in pools.items()}


def pool_of(entry: Entry) -> Pool:
    """What is priced together: all arithmetic, and each role of those that only move."""
    return entry.family, entry.role if entry.family is Family.MOVEMENT else ""


def _price(a: Sequence[Entry], b: Sequence[Entry]) -> Price:
    large = [[entry for entry in side if not is_small(entry)] for side in (a, b)]
    if not any(large):
        large = [list(a), list(b)]
    both = [*large[0], *large[1]]
    compute, waiting = _least_squares(
        [(entry.compute_ms, entry.waiting_ms, entry.own_ms) for entry in both]
    )
    price = Price(compute, waiting)
    kinds: dict[Kind, list[Entry]] = {}
    for entry in both:
        kinds.setdefault((None, entry.role), []).append(entry)
        kinds.setdefault((entry.stage, entry.role), []).append(entry)
    shared = set.intersection(*({(e.stage, e.role) for e in side} for side in large))
    factors = {
        kind: _factor(members, price)
        for kind, members in kinds.items()
        if kind[0] is None or kind in shared
    }
    return Price(compute, waiting, factors)


def _factor(members: Sequence[Entry], price: Price) -> float:
    usual = math.fsum(price.usual_ms(entry) for entry in members)
    return math.fsum(entry.own_ms for entry in members) / usual if usual > 0 else 1.0


def _least_squares(points: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Non-negative (x, y) that make x c + y w nearest to t, weights 1 / (c + w), in total equal."""
    sums = [0.0] * 5
    for c, w, t in points:
        weight = 1 / (c + w)
        for position, term in enumerate((c * c, c * w, w * w, c * t, w * t)):
            sums[position] += weight * term
    cc, cw, ww, ct, wt = sums
    determinant = cc * ww - cw * cw
    x = y = 0.0
    if determinant > 1e-9 * cc * ww:
        x, y = (ct * ww - wt * cw) / determinant, (wt * cc - ct * cw) / determinant
    if x <= 0 or y <= 0:  # the best on an edge
        on_c, on_w = ct / cc if cc > 0 else 0.0, wt / ww if ww > 0 else 0.0
        x, y = (on_c, 0.0) if on_c * ct >= on_w * wt else (0.0, on_w)
    fitted = math.fsum(x * c + y * w for c, w, _ in points)
    scale = math.fsum(t for *_, t in points) / fitted if fitted > 0 else 0.0
    return x * scale, y * scale


def components(entry: Entry, prices: Mapping[Pool, Price]) -> dict[str, float]:
    """The causes of an entry's time in ms; they add up to it."""
    if entry.family in _WHOLE or entry.roof_ms <= 0:
        return {_WHOLE.get(entry.family, "overhead"): entry.ms}
    price = prices[pool_of(entry)]
    usual = price.usual_ms(entry)
    kind = (price.kind_factor(entry) - 1.0) * usual
    causes = {
        "overhead": entry.overhead_ms,
        "kind": kind,
        "small" if is_small(entry) else "rate": entry.own_ms - usual - kind,
    }
    if entry.family is Family.MOVEMENT:
        return causes | {"traffic": usual}
    return causes | {
        "compute": price.compute * entry.compute_ms,
        "intensity": price.waiting * entry.waiting_ms,
    }


def _parts(
    a: Side, b: Side, costs: Sequence[Sequence[Mapping[str, float]]]
) -> list[DifferencePart]:
    sums = [
        {key: math.fsum(cost.get(key, 0.0) for cost in side) for key in (*CAUSES, *RESIDUALS)}
        for side in costs
    ]
    for side, total in zip((a, b), sums, strict=True):
        total["outside"] = side.outside_ms
    return [
        DifferencePart(key, label, sums[0][key], sums[1][key], residual=key in RESIDUALS)
        for key, label in (CAUSES | RESIDUALS).items()
    ]


def _groups(a: Side, b: Side, costs: Sequence[Sequence[Mapping[str, float]]]) -> list[Group]:
    """Sums by stage and role; the time outside the layers is a group of its own."""
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
    return sorted(groups, key=lambda group: -abs(group.difference_ms))
