"""An explanation in sentences with numbers, and as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cspbench.attribution.causes import (
    CAUSES,
    RESIDUAL_SHARE,
    RESIDUALS,
    DifferencePart,
    Explanation,
    ExplanationVerdict,
    Group,
    Side,
)
from cspbench.attribution.work import in_stage
from cspbench.core.case import Case
from cspbench.core.text import percent

if TYPE_CHECKING:
    import pandas as pd

#: The sentences leave out causes of less than this share of all changes.
WORTH_A_WORD = 0.05
MOST_CAUSES = 5
#: The sentences do not name places that make less than this share of a cause.
LEAST_PLACE = 0.1

CAUSE_COLUMNS = (
    "part", "cause", "a_ms", "b_ms", "difference_ms", "difference_ms_low", "difference_ms_high",
    "share",
)  # fmt: skip
GROUP_COLUMNS = (
    "stage", "role", "a_entries", "b_entries", "a_ms", "b_ms", "difference_ms",
    "difference_ms_low", "difference_ms_high", "main_cause",
)  # fmt: skip
#: What the time of an entry may be made of.
LAYER_CAUSES = (*(cause for cause in CAUSES if cause != "faults"), "rate", "unjoined")
LAYER_COLUMNS = (
    "case", "position", "entry", "stage", "role", "shape", "ms", "replay_ms", "macs",
    "traffic_bytes", "layers", *LAYER_CAUSES,
)  # fmt: skip
NUMBERS = {
    "a_ms": ".3f", "b_ms": ".3f", "difference_ms": "+.3f", "difference_ms_low": "+.3f",
    "difference_ms_high": "+.3f", "share": "+.0%", "ms": ".3f", "replay_ms": ".3f",
    "a_entries": "d", "b_entries": "d",
} | dict.fromkeys(LAYER_CAUSES, "+.3f")  # fmt: skip


#: Causes that take a verb in the singular.
SINGULAR = {"compute", "intensity", "traffic", "overhead"}


def sentences(explanation: Explanation) -> list[str]:
    """The explanation in words, most important first; one sentence or two an item."""
    it = explanation
    texts = [_headline(it), _work(it), _profiler(it), *it.notes]
    texts += [f"{_reasons(it)}.", _residual(it), _judgement(it)]
    texts += [_other_batch(it, other) for other in it.others]
    return [sentence for sentence in texts if sentence]


def _headline(it: Explanation) -> str:
    a, b = it.a, it.b
    times = f"A ({a.case}) takes {ms(a.latency.estimate)}, B ({b.case}) {ms(b.latency.estimate)}"
    if it.low is None or it.high is None:
        return (
            f"One launch each does not show whether A and B differ: {times}. "
            "Measure more launches (--rounds)."
        )
    reach = f"{signed(it.low)} to {signed(it.high)} ms with 95 % confidence"
    if it.verdict is ExplanationVerdict.INDISTINGUISHABLE:
        return (
            f"A and B are indistinguishable: {times}, and the difference of "
            f"{signed(it.difference_ms)} ms may be anything from {reach}. "
            "The rest describes that difference, which may be noise."
        )
    word = "slower" if it.difference_ms > 0 else "faster"
    share = it.difference_ms / a.latency.estimate
    by = f"{ms(abs(it.difference_ms))} ({percent(share, signed=True)}; {reach})"
    return f"B is {word} by {by}: {times}."


def _work(it: Explanation) -> str:
    a, b = it.a, it.b
    facts = [
        _change("MACs", a.macs / a.batch, b.macs / b.batch),
        _change("memory traffic", a.traffic_bytes / a.batch, b.traffic_bytes / b.batch),
    ]
    count = len(b.entries) - len(a.entries)
    if count:
        facts.append(f"{abs(count)} {'more' if count > 0 else 'fewer'} timed entries")
    against = (b.macs / b.batch - a.macs / a.batch) * it.difference_ms < 0
    longer = "longer" if it.difference_ms > 0 else "less"
    return (
        f"B has {_listed([fact for fact in facts if fact])}"
        f"{', yet' if against else ', and'} takes {ms(abs(it.difference_ms))} {longer}."
    )


def _profiler(it: Explanation) -> str:
    """What the profiler costs, where profiled bursts took turns with plain ones."""
    a, b = it.a.profiled, it.b.profiled
    if a is None or b is None:
        return ""
    entries = [entry for side in (it.a, it.b) for entry in side.entries]
    alone = sum(entry.replay_ms is not None for entry in entries)
    replayed = f"; {alone} of {len(entries)} entries were also timed alone" if alone else ""
    return (
        f"Layer times are from {it.blocks} blocks{replayed}. With the profiler at work an "
        f"inference of A takes {a:.2f} and one of B {b:.2f} times as long; layer times are scaled "
        "to the plain latency."
    )


def _change(noun: str, before: float, after: float) -> str:
    if before <= 0:
        return ""
    change = after / before - 1
    if abs(change) < 0.005:
        return f"as many {noun}" if noun == "MACs" else f"as much {noun}"
    few, many = ("fewer", "more") if noun == "MACs" else ("less", "more")
    return f"{percent(abs(change))} {many if change > 0 else few} {noun}"


def _listed(facts: list[str]) -> str:
    return ", ".join(facts[:-1]) + f" and {facts[-1]}" if len(facts) > 1 else "".join(facts)


def _reasons(it: Explanation) -> str:
    causes = _worth([part for part in it.parts if not part.residual])
    if not causes:
        return "No cause makes a difference"
    return ". ".join(_reason(it, part) for part in causes)


def _worth(parts: list[DifferencePart]) -> list[DifferencePart]:
    moved = math.fsum(abs(part.difference_ms) for part in parts)
    kept = [part for part in parts if abs(part.difference_ms) > WORTH_A_WORD * moved]
    return sorted(kept, key=lambda part: -abs(part.difference_ms))[:MOST_CAUSES]


def _reason(it: Explanation, part: DifferencePart) -> str:
    """``Arithmetic makes -3.36 ± 0.06 ms (-1.17 in 1x1 convolution of stages.2)``."""
    where = _where(it, part)
    noun = part.label[0].upper() + part.label[1:]
    aside = "," if noun.endswith(", also alone") else ""
    verb = "makes" if part.key in SINGULAR else "make"
    change = f"{noun}{aside} {verb} {measured(part)} ms"
    return f"{change} ({where})" if where else change


def measured(part: DifferencePart) -> str:
    """``+4.10 ± 0.32``; without an interval ``+4.10``."""
    if part.low is None or part.high is None:
        return signed(part.difference_ms)
    return f"{signed(part.difference_ms)} ± {_digits((part.high - part.low) / 2)}"


def measured_ms(value: float, low: float | None, high: float | None) -> str:
    """``3.14 ± 0.05 ms``; without an interval ``3.14 ms``."""
    if low is None or high is None:
        return ms(value)
    return f"{_digits(value)} ± {_digits((high - low) / 2)} ms"


def _where(it: Explanation, part: DifferencePart) -> str:
    """The groups that make the most of a cause, and how many entries they are."""
    pairs = [(group.causes.get(part.key, 0.0), group) for group in it.groups]
    least = LEAST_PLACE * abs(part.difference_ms)
    same = [(own, group) for own, group in pairs if own * part.difference_ms > 0]
    same = [(own, group) for own, group in same if abs(own) > least]
    same.sort(key=lambda pair: -abs(pair[0]))
    places = [f"{signed(own)} in {name_of(group)}" for own, group in same[:2] if name_of(group)]
    if part.key == "size" and same:
        places.append(_rate(it, part, same[0][1]))
    counts = ""
    if part.key == "concatenation":
        counts = f"{_entries(it.a, part.key, it)} in A, {_entries(it.b, part.key, it)} in B"
    if part.key in ("overhead", "small"):
        counts = f"{_entries(it.a, part.key, it)} layers in A, {_entries(it.b, part.key, it)} in B"
    return "; ".join(filter(None, [counts, ", ".join(filter(None, places))]))


def _rate(it: Explanation, part: DifferencePart, group: Group) -> str:
    """The shape of a group that makes the most of the difference, and the rates it reaches.

    That is a layer of B that is slower than at the common price, or one of A that is faster; the
    other way round where B takes less.
    """
    sign = math.copysign(1, part.difference_ms)
    sides = ((-sign, "A", it.a, it.costs[0]), (sign, "B", it.b, it.costs[1]))
    layers = [
        (own_sign * cost.get("size", 0.0), name, entry, cost)
        for own_sign, name, side, costs in sides
        for entry, cost in zip(side.entries, costs, strict=True)
        if (entry.stage, entry.role) == (group.stage, group.role) and entry.macs and entry.replay_ms
    ]
    if not layers:
        return ""
    most, name, entry, cost = max(layers, key=lambda layer: layer[0])
    usual_ms = sum(cost.get(key, 0.0) for key in ("compute", "intensity", "overhead"))
    if most <= 0 or usual_ms <= 0 or not entry.replay_ms:
        return ""
    gflop = 2 * entry.macs / 1e6
    return (
        f"{entry.role} {entry.shape} in {name}: {_digits(gflop / entry.replay_ms)} instead of "
        f"{_digits(gflop / usual_ms)} GFLOP/s"
    )


def _entries(side: Side, cause: str, it: Explanation) -> int:
    costs = it.costs[0] if side is it.a else it.costs[1]
    return sum(cause in cost for cost in costs)


def name_of(group: Group) -> str:
    """``3x3 convolution of stages.1``."""
    return in_stage(group.role, group.stage)


def _residual(it: Explanation) -> str:
    share = it.residual_share
    parts = [part for part in it.parts if part.residual and (part.a_ms or part.b_ms)]
    residuals = ", ".join(f"{measured(part)} ms of {part.label}" for part in parts)
    of = ""
    if share is not None and it.verdict is not ExplanationVerdict.INDISTINGUISHABLE:
        of = f", {percent(share)} of the difference at most"
    return f"Unexplained: {signed(it.residual_ms)} ms{of}{f' ({residuals})' if parts else ''}."


def _judgement(it: Explanation) -> str:
    if it.verdict is ExplanationVerdict.INDISTINGUISHABLE:
        return "Verdict: indistinguishable."
    if it.verdict is ExplanationVerdict.EXPLAINED:
        return "Verdict: explained."
    largest = max((p for p in it.parts if p.residual), key=lambda p: abs(p.difference_ms))
    return (
        f"Verdict: not explained: over {percent(RESIDUAL_SHARE)} of the difference is residual, "
        f"most of it {largest.label}. Read the causes as hints."
    )


def _other_batch(it: Explanation, other: Explanation) -> str:
    """How the difference an image changes with the batch, and which causes change it."""
    here, there = it.a.batch, other.a.batch
    change_here, change_there = it.difference_ms / here, other.difference_ms / there
    moved = {
        part.key: DifferencePart(part.key, part.label, part.difference_ms / here,
                                 of.difference_ms / there, part.residual)
        for part, of in zip(it.parts, other.parts, strict=True)
    }  # fmt: skip
    worth = _worth(list(moved.values()))
    by_cause = ", ".join(f"{signed(part.difference_ms)} by {part.label}" for part in worth)
    doubt = (
        " (indistinguishable there)"
        if other.verdict is ExplanationVerdict.INDISTINGUISHABLE
        else ""
    )
    turn = "slower" if change_there > 0 else "faster"
    change = change_there - change_here
    return (
        f"At batch {there} B is {turn} by {ms(abs(change_there))} an image{doubt}; at batch {here} "
        f"the difference is {signed(change_here)} ms an image. From {here} to {there} it moves by "
        f"{signed(change)} ms an image{f': {by_cause}' if by_cause else ''}."
    )


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """The object that ``--format json`` prints; every list adds up to ``difference_ms``."""
    it = explanation
    return {
        "a": _side(it.a),
        "b": _side(it.b),
        "difference_ms": it.difference_ms,
        "difference_ms_low": it.low,
        "difference_ms_high": it.high,
        "verdict": it.verdict.value,
        "blocks": it.blocks,
        "residual_ms": it.residual_ms,
        "residual_ms_low": it.residual_low,
        "residual_ms_high": it.residual_high,
        "residual_share": it.residual_share,
        "parts": cause_rows(it),
        "groups": group_rows(it),
        "sentences": sentences(it),
        "other_batches": [as_dict(other) for other in it.others],
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "case": side.case,
        "latency_ms": side.latency.estimate,
        "latency_ms_low": side.latency.low,
        "latency_ms_high": side.latency.high,
        "profiled_ms": side.profiled_ms,
        "profiled_ratio": side.profiled,
        "page_faults_ms": side.faults_ms,
        "layers_ms": math.fsum(entry.ms for entry in side.entries),
        "entries": len(side.entries),
        "macs": side.macs,
        "traffic_bytes_fused": side.traffic_bytes,
        "method": side.method,
    }


def cause_rows(it: Explanation) -> list[dict[str, Any]]:
    """One row a cause and a part of the residual."""
    return [
        {
            "part": "residual" if part.residual else "cause",
            "cause": part.label,
            "a_ms": part.a_ms,
            "b_ms": part.b_ms,
            "difference_ms": part.difference_ms,
            "difference_ms_low": part.low,
            "difference_ms_high": part.high,
            "share": _share(part.difference_ms, it),
        }
        for part in it.parts
    ]


def _share(part_ms: float, it: Explanation) -> float | None:
    return part_ms / it.difference_ms if it.difference_ms else None


def group_rows(it: Explanation) -> list[dict[str, Any]]:
    """One row a stage and role, largest difference first, and the time outside the layers."""
    return [
        {
            "stage": group.stage,
            "role": group.role,
            "a_entries": group.a_count,
            "b_entries": group.b_count,
            "a_ms": group.a_ms,
            "b_ms": group.b_ms,
            "difference_ms": group.difference_ms,
            "difference_ms_low": group.low,
            "difference_ms_high": group.high,
            "main_cause": (CAUSES | RESIDUALS)[group.main_cause],
        }
        for group in it.groups
    ]


def layer_rows(it: Explanation) -> list[dict[str, Any]]:
    """One row an entry of either profile, with its components in ms."""
    rows = []
    for side, costs in zip((it.a, it.b), it.costs, strict=True):
        for position, (entry, cost) in enumerate(zip(side.entries, costs, strict=True)):
            components: Mapping[str, float] = cost
            rows.append(
                {
                    "case": side.case, "position": position, "entry": entry.name,
                    "stage": entry.stage, "role": entry.role, "shape": entry.shape,
                    "ms": entry.ms, "replay_ms": entry.replay_ms,
                    "macs": entry.macs, "traffic_bytes": entry.traffic_bytes,
                    "layers": list(entry.layers),
                    **{cause: components.get(cause, 0.0) for cause in LAYER_CAUSES},
                }
            )  # fmt: skip
    return rows


def frame(explanation: Explanation, by: str = "causes") -> pd.DataFrame:
    """A pandas frame by ``causes``, ``groups`` or ``layers``."""
    import pandas as pd

    rows, columns = {
        "causes": (cause_rows, CAUSE_COLUMNS),
        "groups": (group_rows, GROUP_COLUMNS),
        "layers": (layer_rows, LAYER_COLUMNS),
    }[by]
    return pd.DataFrame(rows(explanation), columns=list(columns))


def short(case: str) -> str:
    """The model part of a case id."""
    return str(Case.parse(case).model_id)


def ms(value: float) -> str:
    """``3.14 ms``, with as many decimals as its size deserves."""
    return f"{_digits(value)} ms"


def signed(value: float) -> str:
    """``+3.14``."""
    sign = "+" if value >= 0 else "-"
    return f"{sign}{_digits(abs(value))}"


def _digits(value: float) -> str:
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
