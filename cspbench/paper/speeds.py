"""Rules for claims about speed: measured cases of one run, their ratio with its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from cspbench import literature
from cspbench.core.text import percent
from cspbench.measure.statistics import Interval
from cspbench.paper.comparison import Comparison, RuleResult, short_name, times
from cspbench.paper.evidence import Evidence, MeasuredCase, speed_ratio
from cspbench.store.blocks import SEPARATE

#: Another device, another library: a ratio of speeds is met within this share either way.
RATIO_BAND = 0.20


def faster(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """One case is faster than another."""
    of, than = test["of"], test["than"]
    measured, backend, missing = evidence.measured([of, than], test["backends"])
    part = (
        Comparison("", missing=missing)
        if missing
        else _faster_part(measured[of], measured[than], backend, evidence.weak([of, than]))
    )
    return RuleResult(
        (part,), test["published"], _used(measured),
        "reproduced if the 95 % interval of the ratio of speeds lies above 1, not if below",
        "measured",
        note=f"published on {test['device']}; only the direction is tested",
    )  # fmt: skip


def _faster_part(
    first: MeasuredCase, second: MeasuredCase, backend: str, weak: tuple[str, ...]
) -> Comparison:
    ratio = speed_ratio(first, second)
    return Comparison(f"{times(ratio)} on {backend}", above_one(ratio), weak)


def above_one(ratio: Interval) -> bool | None:
    """True if a ratio surely is above 1, False if surely below, None if its interval holds 1."""
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return None
    return ratio.low > 1


def ratio(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """One case is so many times as fast as another."""
    of, base = test["of"], test["against"]
    [first, second] = [_cpu_fps(test["table"], model) for model in (of, base)]
    target = float(first["text"]) / float(second["text"])
    measured, backend, missing = evidence.measured([of, base], test["backends"])
    if missing:
        part = Comparison("", missing=missing)
    else:
        ratio = speed_ratio(measured[of], measured[base])
        part = Comparison(
            f"{times(ratio)} on {backend}", meets_ratio(ratio, target), evidence.weak([of, base])
        )
    note = ""
    if first["device"] != second["device"]:
        note = f"{second['text']} fps were published on {second['device']}, by other authors"
    return RuleResult(
        (part,), f"{second['text']} → {first['text']} fps = ×{target:.2f}", _used(measured),
        f"reproduced if the 95 % interval of the ratio reaches ×{target:.2f} ± "
        f"{percent(RATIO_BAND)} and excludes 1",
        "measured", note=note,
    )  # fmt: skip


def meets_ratio(ratio: Interval, target: float) -> bool | None:
    """True if the interval meets ``target`` within RATIO_BAND and excludes 1.

    False if it misses the band; None if it meets both the band and 1, or does not exist.
    """
    if ratio.low is None or ratio.high is None:
        return None
    if ratio.high < target / (1 + RATIO_BAND) or ratio.low > target * (1 + RATIO_BAND):
        return False
    return None if ratio.low <= 1 <= ratio.high else True


def _cpu_fps(table: str, model: str) -> dict[str, str]:
    """The published fps of a system on a CPU, and on which."""
    for entry in literature.published(short_name(model), metric="fps"):
        if entry.table == table and entry.text and entry.device in CPU_DEVICES:
            return {"text": entry.text, "device": entry.device}
    raise KeyError(f"{table} has no fps of {model} on a CPU")


CPU_DEVICES = ("i9-9900K, OpenCV DNN", "Xeon E5-2682v4")


def order(test: Mapping[str, Any], evidence: Evidence) -> RuleResult:
    """Cases are as fast as published, in that order: every pair of them is compared."""
    entries = [
        entry
        for entry in literature.everything()
        if entry.table == test["table"] and entry.device == test["device"] and entry.value
    ]
    entries.sort(key=lambda entry: -(entry.value or 0.0))
    models = [f"{entry.name}@{entry.input}" for entry in entries]
    measured, backend, missing = evidence.measured(models, test["backends"])
    fastest_first = sorted(measured, key=lambda model: -measured[model].fps)
    ours = " > ".join(f"{short_name(m)} {measured[m].fps:.1f}" for m in fastest_first)
    parts = [Comparison(f"{ours} fps on {backend}" if measured else "", True, missing=missing)]
    pairs = [*combinations([model for model in models if model in measured], 2)]
    ratios = [speed_ratio(measured[first], measured[second]) for first, second in pairs]
    parts += [
        Comparison("", above_one(one), evidence.weak(pair))
        for one, pair in zip(ratios, pairs, strict=True)
    ]
    apart = sum(not one.in_turn for one in ratios)
    return RuleResult(
        tuple(parts),
        " > ".join(f"{short_name(m)} {e.text}" for m, e in zip(models, entries, strict=True))
        + f" fps on {test['device']}",
        _used(measured),
        "every pair must be in order by the 95 % interval of its ratio; one pair of firm "
        "definitions in the other order is enough against it",
        "measured",
        note=f"{apart} of {len(pairs)} pairs are compared by {SEPARATE}" if apart else "",
    )


def _used(measured: Mapping[str, MeasuredCase]) -> tuple[str, ...]:
    return tuple(one.case for one in measured.values())
