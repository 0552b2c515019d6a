"""Rules for claims about counts: computed from analyses of the networks, exact, no machine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cspbench import literature
from cspbench.analysis.ops import CONV_KINDS
from cspbench.analysis.record import Analysis
from cspbench.core.text import percent
from cspbench.paper.comparison import Comparison, RuleResult, short_name
from cspbench.paper.evidence import Evidence
from cspbench.paper.theory import dense_cio, partial_dense_cio

#: A change that the paper gives in whole percent is met within half of the last digit.
HALF_PERCENT = 0.5
#: "About" means within this many points.
ABOUT_POINTS = 5.0
#: The formula of a partial dense block is for γ 0.5, which saves at most this.
AT_MOST_PCT = 50.0

METRIC_NAMES = {
    "bflops": "BFLOPs of the paper's convention",
    "max_layer_bflops": "BFLOPs of the largest layer",
    "cio_paper": "inputs and outputs of convolutions, pools and softmax",
    "pyramid_written_bytes": "bytes that neck and heads write",
}


def change_text(points: float, digits: int = 1) -> str:
    """A change of so many points: ``−43.8 %``."""
    return percent(points / 100, digits, signed=True, minus="−")


def _not_analysed(models: Sequence[str], evidence: Evidence) -> str:
    missing = [model for model in models if model not in evidence.analyses]
    return f"no run has analysed {' and '.join(missing)}" if missing else ""


def _counted(
    of: str, base: str, metric: str, evidence: Evidence
) -> tuple[float, float] | Comparison:
    """Both totals; or the part of a claim that says why there are none."""
    first, second = evidence.total(of, metric), evidence.total(base, metric)
    missing = _not_analysed([of, base], evidence)
    if missing or first is None or not second:
        return Comparison("", missing=missing or f"the analyses hold no {metric}")
    return first, second


def change(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """A count changes by so many percent against another network; any of several may be meant."""
    of, bases, metric, target = test["of"], test["against"], test["metric"], float(test["pct"])
    parts = []
    for base in bases:
        counted = _counted(of, base, metric, evidence)
        if isinstance(counted, Comparison):
            parts.append(counted)
            continue
        first, second = counted
        change = 100 * (first / second - 1)
        beside = f" against {base}" if len(bases) > 1 else ""
        parts.append(
            Comparison(
                f"{change_text(change)}{beside} ({_from_to(second, first, metric)})",
                abs(change - target) <= HALF_PERCENT,
                evidence.weak([of, base], metric),
            )
        )
    note = ""
    if len(bases) > 1:
        note = "the paper does not name the other network: any of these counts"
        decisive = [part for part in parts if part.agrees or part.missing]
        agreeing = [part for part in parts if part.agrees]
        parts = agreeing or decisive or parts
    return RuleResult(
        tuple(parts), change_text(target, 0), (of, *bases),
        f"{METRIC_NAMES[metric]} counted; met within {HALF_PERCENT} points", note=note,
    )  # fmt: skip


def at_least(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """A count falls by at least so many percent in every pair of networks."""
    metric, bound = test["metric"], float(test["pct"])
    parts = []
    for of, base in test["pairs"]:
        counted = _counted(of, base, metric, evidence)
        if isinstance(counted, Comparison):
            parts.append(counted)
            continue
        first, second = counted
        change = 100 * (first / second - 1)
        text = f"{short_name(of)} {change_text(change)}"
        printed = [_published(model, metric) for model in (of, base)]
        if change > bound and printed[0] and printed[1]:
            text += (
                f" (the published counts say {change_text(100 * (printed[0] / printed[1] - 1))})"
            )
        parts.append(Comparison(text, change <= bound + 1e-9, evidence.weak([of, base])))
    used = tuple(model for pair in test["pairs"] for model in pair)
    return RuleResult(
        tuple(parts), f"{change_text(bound, 0)} or more", used,
        f"{METRIC_NAMES[metric]} counted; every pair must meet it",
    )  # fmt: skip


def _published(model: str, metric: str) -> float | None:
    name, _, side = model.partition("@")
    number = literature.find(name, metric, input_side=int(side))
    return number.value if number else None


def count(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """Counts round to the printed digits."""
    metric, unit = test["metric"], float(test["unit"])
    parts = []
    for model, text in test["printed"].items():
        value = evidence.total(model, metric)
        if value is None:
            parts.append(Comparison("", missing=_not_analysed([model], evidence)))
            continue
        printed = literature.Published(model, model, metric, text, None, None, "claims", "")
        parts.append(
            Comparison(
                f"{short_name(model)} {value / unit:.{printed.digits + 2}f} M",
                printed.agrees(value / unit),
                evidence.weak([model]),
            )
        )
    return RuleResult(
        tuple(parts),
        ", ".join(f"{short_name(model)} {text} M" for model, text in test["printed"].items()),
        tuple(test["printed"]),
        f"{METRIC_NAMES[metric]} counted; each rounds to the printed digits",
    )


def block_traffic(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """What a partial dense block saves of a dense one's inputs and outputs: formula and count."""
    dense, partial = test["dense"], test["partial"]
    rules = {
        "at_most": f"saving above 0 and at most {AT_MOST_PCT:.0f} %, by the formula and counted",
        "about": f"saving within {ABOUT_POINTS:.0f} points of {AT_MOST_PCT:.0f} %, by the formula "
        "and counted",
    }
    missing = _not_analysed([dense, partial], evidence)
    parts = [Comparison("", missing=missing)] if missing else []
    for block in [] if missing else test["blocks"]:
        whole, half = (block_cio(evidence.analyses[model], block) for model in (dense, partial))
        form = block_form(evidence.analyses[dense], block)
        if form is None or not whole:
            text = f"the analysis of {dense} has no dense block {block}"
            parts.append(Comparison("", missing=text))
            continue
        base, growth, layers = form
        formula = 100 * (
            1 - partial_dense_cio(base, growth, layers) / dense_cio(base, growth, layers)
        )
        counted = 100 * (1 - half / whole)
        met = all(_meets(test["rule"], value) for value in (formula, counted))
        parts.append(
            Comparison(
                f"c {base}, d {growth}, m {layers}: −{formula:.0f} % by the formula, "
                f"−{counted:.0f} % counted",
                met,
                evidence.weak([dense, partial]),
            )
        )
    note = (
        "counted are the convolutions that the blocks of PeleeNet and CSPPeleeNet really have, "
        "which are five a layer; the formula is for one"
    )
    printed = {"at_most": "at most −50 %", "about": "about −50 %"}[test["rule"]]
    return RuleResult(tuple(parts), printed, (dense, partial), rules[test["rule"]], note=note)


def _meets(rule: str, saving_pct: float) -> bool:
    if rule == "at_most":
        return 0 < saving_pct <= AT_MOST_PCT
    return abs(saving_pct - AT_MOST_PCT) <= ABOUT_POINTS


def block_cio(analysis: Analysis, block: str) -> int:
    """Elements that the convolutions of a dense block read and write."""
    return sum(
        layer.input_elements + layer.output_elements
        for layer in analysis.layers
        if layer.name.startswith(f"{block}.") and layer.kind in CONV_KINDS
    )


def block_form(analysis: Analysis, block: str) -> tuple[int, int, int] | None:
    """Base channels c, growth d and number of layers m of a dense block, read off its layers.

    A layer ``block.i`` reads the channels of all before it: the first reads c, the second c + d.

    Returns:
        None if the analysis, which may be untrusted, has no such block of two growing layers.
    """
    read: dict[int, int] = {}
    name = re.compile(rf"{re.escape(block)}\.(\d{{1,4}})(\.|$)")
    for layer in analysis.layers:
        found = name.match(layer.name)
        if found and layer.kind in CONV_KINDS and layer.input_shapes and layer.input_shapes[0][1:]:
            read.setdefault(int(found[1]), layer.input_shapes[0][1])
    if read.get(0, 0) < 1 or read.get(1, 0) <= read[0]:
        return None
    return read[0], read[1] - read[0], len(read)


def _from_to(old: float, new: float, metric: str) -> str:
    if metric.endswith("_bytes"):
        return f"from {old / 1e6:.1f} to {new / 1e6:.1f} MB"
    return f"from {old:.3f} to {new:.3f} BFLOPs"
