"""The static gate: what two analyses differ in, exactly, and which layers make the difference.

Pure: two analyses and the suite's rules in, changes out. Nothing here is measured, so there is no
noise and any change beyond its rule counts.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.record import Analysis

#: Totals that are always compared; a suite's rules add to them.
COMPARED = ("macs", "params", "cio_conv", "cio_paper", "peak_live_bytes", "layers")
#: Rules of metrics that are measured, not analysed.
MEASURED = frozenset({"peak_memory_bytes"})
#: How many layers a change names.
NAMED_LAYERS = 5


@dataclass(frozen=True)
class StaticChange:
    """One metric of one model on both sides.

    ``change`` is head / base - 1 (None if the base had nothing), ``limit`` the largest growth that
    the suite allows (None: no rule), ``layers`` one phrase a layer that changed, most costly first.
    """

    model: str
    metric: str
    base: Number
    head: Number
    change: float | None
    limit: float | None
    blocked: bool
    layers: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What changed, by how much, and where."""
        return self.short + (f": {'; '.join(self.layers)}" if self.layers else "")

    @property
    def short(self) -> str:
        """What changed and by how much."""
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

    Args:
        model: what the comparison is called.
        base: analysis of the base.
        head: analysis of the head.
        rules: metric -> largest allowed growth as a share. With any rule, a head of which less can
            be counted than of the base (``coverage``) is blocked too: its totals say nothing.
    """
    before, after = _totals(base), _totals(head)
    metrics = dict.fromkeys([*COMPARED, *(name for name in rules if name not in MEASURED)])
    changes = []
    for metric in metrics:
        old, new = before.get(metric), after.get(metric)
        if old is None or new is None or old == new:
            continue
        share = (new - old) / old if old else None
        limit = rules.get(metric)
        # Half a part per billion is rounding of the rule, not growth.
        blocked = limit is not None and (new > old if share is None else share > limit + 5e-10)
        layers = tuple(changed_layers(base, head, metric))
        changes.append(StaticChange(model, metric, old, new, share, limit, blocked, layers))
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


def _totals(analysis: Analysis) -> dict[str, Number]:
    return {**analysis.totals, "layers": len(analysis.layers)}


def changed_layers(base: Analysis, head: Analysis, metric: str) -> list[str]:
    """Phrases for the layers that were added, removed or changed, most costly first.

    Layers are aligned by what they compute, not by name: an inserted layer shifts the names of all
    that follow.
    """
    weigh = metric if metric in ("params", "traffic_bytes", "memory_access_cost") else "macs"
    found = sorted(_differences(base, head, weigh), key=lambda item: -item[0])
    # A norm or an activation that came along with a convolution needs no mention of its own.
    weighty = [phrase for weight, phrase in found if weight]
    phrases = weighty or [phrase for _, phrase in found]
    more = len(phrases) - NAMED_LAYERS
    return phrases[:NAMED_LAYERS] + ([f"and {more} more"] if more > 0 else [])


def _differences(base: Analysis, head: Analysis, weigh: str) -> Iterator[tuple[float, str]]:
    old, new = base.layers, head.layers
    matcher = difflib.SequenceMatcher(
        None, [_signature(layer) for layer in old], [_signature(layer) for layer in new], False
    )
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        both = min(i2 - i1, j2 - j1) if tag == "replace" else 0
        for before, after in zip(old[i1 : i1 + both], new[j1 : j1 + both], strict=True):
            grown = float(after[weigh] - before[weigh])
            yield abs(grown), f"changed {_told(before)} to {_told(after)}"
        for layer in old[i1 + both : i2]:
            yield float(layer[weigh]), f"removed {_told(layer)}"
        for layer in new[j1 + both : j2]:
            yield float(layer[weigh]), f"added {_told(layer)}"


def _signature(layer: Layer) -> tuple[object, ...]:
    return (
        layer.op, layer.input_shapes, layer.output_shapes, layer.kernel, layer.stride,
        layer.dilation, layer.groups, layer.params,
    )  # fmt: skip


def _told(layer: Layer) -> str:
    kernel = f" {'x'.join(map(str, layer.kernel))}" if layer.kernel else ""
    shapes = [layer.input_shapes, layer.output_shapes]
    sides = ["x".join(map(str, shape[0][1:])) if shape else "?" for shape in shapes]
    return f"{layer.name} ({layer.op}{kernel}, {sides[0]} -> {sides[1]}, {layer['macs']:,} MACs)"
