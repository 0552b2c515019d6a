"""The static gate: the exact differences of two analyses, and the layers that make them.

Pure functions from two analyses and the suite's rules to changes. Nothing here is measured, so
there is no noise, and any change beyond its rule counts.
"""

from __future__ import annotations

import difflib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TypeAlias

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.record import Analysis
from cspbench.suite.rules import StaticRule, always_compared
from cspbench.suite.rules import rules as gate_rules

#: How many layers a change names.
NAMED_LAYERS = 5
#: The change that says what the models compute differently, whatever it costs.
CHANGED_LAYERS = "changed_layers"
#: How many kinds of such differences it names, and how many layers of each.
NAMED_KINDS, NAMED_OF_A_KIND = 12, 3
#: What makes two layers differ, beside their operator.
_FACTS = ("input_shapes", "output_shapes", "kernel", "stride", "dilation", "groups", "params")
#: Whose inputs may change places.
_COMMUTATIVE = ("add", "mul")
#: A layer of the base and the one in its place in the head.
Unlike: TypeAlias = tuple[Layer | None, Layer | None]
#: "equal", or how they differ, and the layers from and up to which that holds of base and head.
Aligned: TypeAlias = tuple[str, int, int, int, int]


@dataclass(frozen=True)
class StaticChange:
    """One metric of one model on both sides.

    ``change`` is head / base - 1 (None if the base is 0). ``limit`` is the largest growth that the
    suite allows (None without a rule). ``layers`` holds a phrase for each layer that changed, most
    costly first. Of CHANGED_LAYERS these are the first of ``kinds``, which names all layers by how
    they differ.
    """

    model: str
    metric: str
    base: Number
    head: Number
    change: float | None
    limit: float | None
    blocked: bool
    layers: tuple[str, ...] = ()
    kinds: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The change, its limit and the layers that make it."""
        return self.short + (f": {'; '.join(self.layers)}" if self.layers else "")

    @property
    def short(self) -> str:
        """The change and its limit."""
        text = f"{self.metric} {self.base:,} -> {self.head:,}"
        if self.change is not None:
            text += f" ({self.change * 100:+.2f} %)"
        if self.limit is not None:
            text += f", the suite allows {self.limit * 100:+g} %"
        return text


def compare_static(
    model: str, base: Analysis, head: Analysis, rules: Mapping[str, float]
) -> list[StaticChange]:
    """Compare two analyses; only metrics that differ are returned.

    Where layers differ, CHANGED_LAYERS names how, be it at no cost: an activation for another.

    Args:
        model: name of the comparison.
        base: analysis of the base.
        head: analysis of the head.
        rules: metric -> largest allowed growth as a share. With any rule, a head with a lower
            ``coverage`` than the base is blocked too, because its totals are incomplete.
    """
    changes = []
    alignment = aligned(base, head)
    unlike = list(unlike_layers(base, head, alignment))
    for rule in _compared(rules):
        old, new = rule.value(base), rule.value(head)
        if old is None or new is None or old == new:
            continue
        share = (new - old) / old if old else None
        limit = rules.get(rule.name)
        # Half a part per billion is rounding of the rule, not growth.
        blocked = limit is not None and (new > old if share is None else share > limit + 5e-10)
        layers = tuple(changed_layers(unlike, rule.part))
        changes.append(StaticChange(model, rule.name, old, new, share, limit, blocked, layers))
    kinds = changed_kinds(unlike) | rewired_kinds(base, head, alignment)
    if kinds:
        count = sum(map(len, kinds.values()))
        changes.append(
            StaticChange(
                model, CHANGED_LAYERS, 0, count, None, None, False, _named_kinds(kinds), kinds
            )
        )
    if head.coverage != base.coverage:
        changes.append(
            StaticChange(
                model, "coverage", base.coverage, head.coverage,
                (head.coverage - base.coverage) / base.coverage if base.coverage else None,
                0.0 if rules else None, bool(rules) and head.coverage < base.coverage,
                tuple(f"{op} is not counted" for op in head.unsupported),
            )
        )  # fmt: skip
    return changes


def unknown_rules(base: Analysis, head: Analysis, rules: Mapping[str, float]) -> list[str]:
    """Names of the static rules whose metric is missing in an analysis."""
    return [
        rule.name for rule in static_rules(rules) if None in (rule.value(base), rule.value(head))
    ]


def static_rules(rules: Mapping[str, float]) -> list[StaticRule]:
    """Those of a suite's rules that need no measurement."""
    return [rule for rule in _compared(rules) if rule.name in rules]


def _compared(limits: Mapping[str, float]) -> list[StaticRule]:
    """The static rules that every gate compares, and those of the suite."""
    known = gate_rules()
    names = dict.fromkeys([*always_compared(), *limits])
    return [rule for name in names if isinstance(rule := known.get(name), StaticRule)]


def changed_layers(unlike: Iterable[Unlike], part: Callable[[Layer], Number]) -> list[str]:
    """Phrases for the layers that were added, removed or changed, most costly first.

    ``part`` gives the cost of a layer.
    """
    differences = sorted(_differences(unlike, part), key=lambda item: -item[0])
    # A norm or an activation that came with a convolution costs nothing and is not named.
    costly = [phrase for cost, phrase in differences if cost]
    phrases = costly or [phrase for _, phrase in differences]
    return _first(phrases, NAMED_LAYERS, "more")


def _first(phrases: list[str], most: int, rest: str) -> list[str]:
    """The first of them, and how many are not named."""
    more = len(phrases) - most
    return phrases[:most] + ([f"and {more} {rest}"] if more > 0 else [])


def changed_kinds(unlike: Iterable[Unlike]) -> dict[str, list[str]]:
    """In what the layers differ, most often first, each with the names of those layers."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for before, after in unlike:
        if before is None or after is None:
            layer = before or after
            assert layer is not None
            kind = f"{layer.op} {'added' if before is None else 'removed'}"
        elif before.op != after.op:
            layer, kind = after, f"{before.op} became {after.op}"
        else:
            facts = [name for name in _FACTS if getattr(before, name) != getattr(after, name)]
            layer, kind = after, f"{after.op} with other {' and '.join(facts)}"
        kinds[kind].append(layer.name)
    return dict(sorted(kinds.items(), key=lambda item: -len(item[1])))


def _named_kinds(kinds: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    phrases = []
    for kind, names in kinds.items():
        more = len(names) - NAMED_OF_A_KIND
        listed = ", ".join(names[:NAMED_OF_A_KIND]) + (f" and {more} more" if more > 0 else "")
        phrases.append(f"{kind}: {listed}")
    return tuple(_first(phrases, NAMED_KINDS, "more kinds"))


def _differences(
    unlike: Iterable[Unlike], part: Callable[[Layer], Number]
) -> Iterator[tuple[float, str]]:
    for before, after in unlike:
        if before is not None and after is not None:
            grown = float(part(after) - part(before))
            yield abs(grown), f"changed {_phrase(before)} to {_phrase(after)}"
        elif before is not None:
            yield float(part(before)), f"removed {_phrase(before)}"
        elif after is not None:
            yield float(part(after)), f"added {_phrase(after)}"


def rewired_kinds(
    base: Analysis, head: Analysis, alignment: Sequence[Aligned]
) -> dict[str, list[str]]:
    """Layers that are as they were but read what other layers made, by operator.

    Only where both sides have all those layers: one that came or went is named itself.
    """
    before, after = _makers(base), _makers(head)
    same = [
        pair
        for tag, i1, i2, j1, j2 in alignment
        if tag == "equal"
        for pair in zip(range(i1, i2), range(j1, j2), strict=True)
    ]
    twin: dict[int | None, int | None] = {None: None, **dict(same)}  # None makes a model's inputs
    shared = set(twin.values())
    kinds: dict[str, list[str]] = defaultdict(list)
    for old, new in same:
        layer = head.layers[new]
        expected, makers = [twin.get(maker, -1) for maker in before[old]], after[new]
        if -1 in expected or not shared.issuperset(makers):
            continue
        if expected == makers or (
            layer.op in _COMMUTATIVE and Counter(expected) == Counter(makers)
        ):
            continue
        kinds[f"{layer.op} of other layers"].append(layer.name)
    return dict(kinds)


def _makers(analysis: Analysis) -> list[list[int | None]]:
    """For each layer the numbers of those that made what it reads."""
    maker = {value: n for n, layer in enumerate(analysis.layers) for value in layer.outputs}
    return [[maker.get(value) for value in layer.inputs] for layer in analysis.layers]


def unlike_layers(base: Analysis, head: Analysis, alignment: Sequence[Aligned]) -> Iterator[Unlike]:
    """Layers that differ; None where a side has none."""
    for tag, i1, i2, j1, j2 in alignment:
        if tag != "equal":
            yield from zip_longest(base.layers[i1:i2], head.layers[j1:j2])


def aligned(base: Analysis, head: Analysis) -> Sequence[Aligned]:
    """Which layers of the base and the head are the same.

    They are aligned by what they compute and not by name, because an inserted layer shifts the
    names of all layers after it.
    """
    old, new = (list(map(_signature, side.layers)) for side in (base, head))
    return difflib.SequenceMatcher(None, old, new, False).get_opcodes()


def twins(base: Analysis, head: Analysis) -> dict[int, int]:
    """By the number of a layer of the head that of the base's that it is, or took the place of."""
    return {
        new: old
        for _, i1, i2, j1, j2 in aligned(base, head)
        for old, new in zip(range(i1, i2), range(j1, j2), strict=False)
        if base.layers[old].op == head.layers[new].op
    }


def _signature(layer: Layer) -> tuple[object, ...]:
    return layer.op, *(getattr(layer, name) for name in _FACTS)


def _phrase(layer: Layer) -> str:
    kernel = f" {'x'.join(map(str, layer.kernel))}" if layer.kernel else ""
    shapes = [layer.input_shapes, layer.output_shapes]
    sides = ["x".join(map(str, shape[0][1:])) if shape else "?" for shape in shapes]
    return f"{layer.name} ({layer.op}{kernel}, {sides[0]} -> {sides[1]}, {layer['macs']:,} MACs)"
