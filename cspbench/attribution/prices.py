"""What a layer's time is made of: common prices of both networks, and the components by them.

Let ``c`` be the arithmetic of an entry and ``m`` its fused traffic, both at the measured ceilings
of the device (roofline: Williams, Waterman, Patterson 2009), and ``w = max(0, m - c)`` what it
waits for memory beyond its arithmetic. Its time ``t`` in the network and ``p`` alone (replayed: the
layer as a graph of its own, in the same engine and block) are

    t = overhead + (pc c + pm w) + size + context,    size = p - overhead - (pc c + pm w),
                                                      context = t - p

- ``overhead`` is the measured dispatch of one operator (at most ``p``).
- ``pc`` and ``pm`` are common prices: how many times slower than the ceilings the layers of *both*
  networks run, from a non-negative least-squares fit over the two pooled (weights 1 / max(c, m)),
  scaled so that it reproduces their total time. One pair for layers that multiply and accumulate,
  one price of traffic for each role of those that only move (pooling, addition). Pooling makes
  the result antisymmetric, as the Marshall-Edgeworth index does for prices of two years; for one
  layer a network it is the quantity effect at the average rate, close to the Shapley value.
- ``size``: what the layer's own shape costs beyond the common price. It was measured alone.
- ``context``: what it takes longer, or less, beside its neighbours: caches, layouts, fusion.

A layer without a replay has no ``p``. There

    t = overhead + (pc c + pm w) + (k - 1)(pc c + pm w) + rest

- ``k`` is how much longer than the common price layers of the same stage and role (1x1, grouped,
  depthwise, pooling) take in both networks together; where only one network has such layers, those
  of the same role.
- ``rest`` is due to size where ``max(c, m)`` is less than SMALL dispatches: too little work to fill
  the machine. Elsewhere nothing names its cause, and it counts as residual.

Prices and ``k`` come from layers that are not small, if there are any. Concatenations, norms and
activations that could have been folded but ran alone, and changes of layout that a backend adds go
to their causes with their whole time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from cspbench.attribution.work import Entry, Family

#: A layer is small if its work takes less than this many dispatches at the ceilings.
SMALL = 10
#: Less of an entry's work than this share is taken for none when prices are fitted.
_LEAST_SHARE = 1e-9
_WHOLE = {
    Family.CONCATENATION: "concatenation",
    Family.UNFUSED: "unfused",
    Family.LAYOUT: "layout",
    Family.NOTHING: "overhead",
    Family.UNKNOWN: "unjoined",
}

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
        # A share that is nothing but rounding must not carry a price.
        c, w = (part if part * weight > _LEAST_SHARE else 0.0 for part in (c, w))  # noqa: PLW2901
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
    causes = {"overhead": entry.overhead_ms}
    if entry.replay_ms is not None:
        causes |= {"size": entry.own_ms - usual, "context": entry.ms - entry.replay_ms}
    else:
        kind = (price.kind_factor(entry) - 1.0) * usual
        rest = "small" if is_small(entry) else "rate"
        causes |= {"kind": kind, rest: entry.own_ms - usual - kind}
    if entry.family is Family.MOVEMENT:
        return causes | {"traffic": usual}
    return causes | {
        "compute": price.compute * entry.compute_ms,
        "intensity": price.waiting * entry.waiting_ms,
    }
