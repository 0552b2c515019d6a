"""Summary of the runs: fastest, best AP50 per millisecond, surprise, and how much was measured."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple, TypeAlias

from cspbench.core.text import number_of, percent
from cspbench.literature.by_model import published_values
from cspbench.report import numbers
from cspbench.report.numbers import milliseconds, plus_minus, short, times
from cspbench.report.rows import CaseRow, LatencyRatio, latency_ratio
from cspbench.report.section import SECTIONS, ReportContext, own_section
from cspbench.store.blocks import SEPARATE

#: A slow and a fast case, and how many times as long the slow one takes, with its interval.
_Slower: TypeAlias = tuple[CaseRow, CaseRow, LatencyRatio]

#: Fewer BFLOPs by at least this share count as fewer.
FEWER = 0.02
#: Of so many pairs with the largest ratios of latencies the intervals are looked at.
MOST_PAIRS = 200


@dataclass(frozen=True)
class Sentence:
    """One statement with the case it is about and a heading of a word or two."""

    heading: str
    text: str
    case: str | None = None


def summary(rows: Sequence[CaseRow], ap50: Mapping[str, float]) -> list[Sentence]:
    """Up to three sentences, with published AP50 by model id; what the runs lack has none."""
    measured = [row for row in rows if row.latency_ms is not None]
    if not measured:
        return [Sentence("Nothing measured", "No case of this run has a latency; see below why.")]
    found = (fastest(measured), most_accurate_per_ms(measured, ap50), surprise(measured))
    return [sentence for sentence in found if sentence is not None]


def fastest(measured: Sequence[CaseRow]) -> Sentence:
    """The fastest case an image, and how far behind the next is or how many cannot be told apart.

    Cases that took turns are ranked by their ratios, which are surer than their latencies.
    """
    best = max(measured, key=lambda row: row.fps or 0.0)
    if best.ratio:
        in_turn = [row for row in measured if row.run == best.run and row.ratio]
        best = min(in_turn, key=lambda row: (row.ratio or 0.0) / row.batch)
    text = (
        f"{best.model_id} on {best.setting}: {milliseconds(best.latency_ms)} ms "
        f"({plus_minus(best.half_width)}), {short(best.fps)} fps, measured."
    )
    rest = [row for row in measured if row is not best]
    others = [(an_image(row, best, len(rest)), row) for row in rest]
    rivals = sum(ratio is not None and ratio.low <= 1 for ratio, _ in others)
    surely = [(ratio, row) for ratio, row in others if ratio is not None]
    heading = "Fastest"
    if "untrusted" in best.flags:
        text += (
            " It is not called the fastest, because the ratios of its run are not trusted: the "
            "reference took another time than itself."
        )
        return Sentence("Not ranked", text, best.id)
    if best.half_width is None:
        text += " One launch gives no interval."
    elif rivals > 1 and 2 * rivals >= len(others):
        heading = "Too noisy to rank"
        text = (
            f"{rivals} of {len(others)} other cases cannot be told apart from the fastest, {text}"
            f"{_busy(measured)}"
        )
    elif rivals:
        text += f" {number_of(rivals, 'other case')} cannot be told apart from it."
    elif surely:
        ratio, row = min(surely, key=lambda pair: pair[0])
        text += (
            f" The next, {row.model_id} on {row.setting}, takes {short(ratio.ratio)} times as long "
            f"an image ({short(ratio.low)} to {short(ratio.high)})."
        )
    return Sentence(heading, text + _apart_from(ratio for ratio, _ in surely), best.id)


def _apart_from(ratios: Iterable[LatencyRatio]) -> str:
    """How many of the comparisons with the fastest are weaker, if any is."""
    in_turn = [ratio.in_turn for ratio in ratios]
    apart = in_turn.count(False)
    if not apart:
        return ""
    which = number_of(apart, "other case") if apart < len(in_turn) else "The others"
    return (
        f" {which} took no turns with it: latencies of {SEPARATE} are compared there, which is "
        "weaker."
    )


def _busy(measured: Sequence[CaseRow]) -> str:
    """That the machine was busy, where the flags of most cases say so."""
    contended = sum("contended" in row.flags for row in measured)
    if 2 * contended < len(measured):
        return ""
    return f" The machine was busy: {contended} of {len(measured)} cases are flagged contended."


def an_image(row: CaseRow, best: CaseRow, comparisons: int) -> LatencyRatio | None:
    """How many times as long as ``best`` a case takes an image, with bounds as `latency_ratio`."""
    ratio = latency_ratio(row, best, comparisons)
    return None if ratio is None else ratio.times(best.batch / row.batch)


def most_accurate_per_ms(measured: Sequence[CaseRow], ap50: Mapping[str, float]) -> Sentence | None:
    """The case with most published AP50 per measured millisecond (an image)."""
    known = [row for row in measured if row.model_id in ap50 and row.fps]
    if not known:
        return None
    best = max(known, key=lambda row: ap50[row.model_id] * (row.fps or 0.0))
    value = ap50[best.model_id] * (best.fps or 0.0) / 1000
    return Sentence(
        "Most AP50 per millisecond",
        f"{best.model_id} on {best.setting}: AP50 {ap50[best.model_id]:g} (published) in "
        f"{milliseconds(best.latency_ms)} ms (measured), {short(value)} points per millisecond.",
        best.id,
    )


def surprise(measured: Sequence[CaseRow]) -> Sentence | None:
    """The clearest case of fewer BFLOPs and yet slower; else the widest gap between backends."""
    inversion = _inversion(measured)
    if inversion is not None:
        fewer, more, ratio = inversion
        less = 1 - (fewer.total("bflops") or 0.0) / (more.total("bflops") or 1.0)
        return Sentence(
            "Surprise",
            f"{fewer.model_id} has {percent(less)} fewer BFLOPs (computed) than {more.model_id}, "
            f"and takes {_times(ratio)} as long on {fewer.setting} (measured).",
            fewer.id,
        )
    gap = _backend_gap(measured)
    if gap is not None:
        slow, fast, ratio = gap
        return Sentence(
            "Widest gap",
            f"{slow.model_id} takes {_times(ratio)} as long on {slow.setting} as on "
            f"{fast.setting} (measured).",
            slow.id,
        )
    return None


def _times(ratio: LatencyRatio) -> str:
    """``2.00 times (1.93 to 2.07)``."""
    return f"{times(ratio.ratio)} ({short(ratio.low)} to {short(ratio.high)}{ratio.weaker})"


def _inversion(measured: Sequence[CaseRow]) -> _Slower | None:
    # Only within a run: two runs may be of two machines, or of one on two days.
    groups: dict[tuple[str, str, str], list[CaseRow]] = defaultdict(list)
    for row in measured:
        if row.total("bflops"):
            groups[(row.run, row.setting, row.input)].append(row)
    return _surest(pair for group in groups.values() for pair in _inverted(group))


def _inverted(group: Sequence[CaseRow]) -> Iterator[tuple[CaseRow, CaseRow]]:
    """Pairs of which the first has fewer BFLOPs and takes longer."""
    facts = [(row.total("bflops") or 0.0, row.latency_ms or 0.0, row) for row in group]
    for fewer, long, slow in facts:
        for more, short_, fast in facts:  # a thousand cases are half a million pairs
            if long > short_ and fewer < more * (1 - FEWER):
                yield slow, fast


def _backend_gap(measured: Sequence[CaseRow]) -> _Slower | None:
    groups: dict[tuple[str, str, int, int], list[CaseRow]] = defaultdict(list)
    for row in measured:
        groups[(row.run, row.model_id, row.batch, row.threads)].append(row)
    ends = [
        (max(group, key=_latency), min(group, key=_latency))
        for group in groups.values()
        if len(group) > 1
    ]
    return _surest(ends)


def _apart(pair: tuple[CaseRow, CaseRow]) -> float:
    return _latency(pair[0]) / _latency(pair[1])


def _latency(row: CaseRow) -> float:
    return row.latency_ms or 0.0


def _surest(pairs: Iterable[tuple[CaseRow, CaseRow]]) -> _Slower | None:
    """Of pairs (slow, fast) with the largest ratios the first whose interval lies above 1.

    It is chosen among many, so its interval is one that holds for all of them together.
    """
    widest = heapq.nlargest(MOST_PAIRS, pairs, key=_apart)
    for slow, fast in widest:
        ratio = latency_ratio(slow, fast, len(widest))
        if ratio is not None and ratio.low > 1:
            return slow, fast, ratio
    return None


class Tile(NamedTuple):
    """A number of the summary."""

    name: str
    value: str
    of: str = ""


def tiles(rows: Sequence[CaseRow]) -> list[Tile]:
    """The numbers of the summary; those that do not apply are left out."""
    measured = [row for row in rows if row.outcome == "measured"]
    widths = [row.half_width for row in measured if row.half_width is not None]
    every = [
        Tile("cases measured", str(len(measured)), f"of {len(rows)}"),
        Tile("launches", str(sum(row.launches for row in rows))),
        Tile("samples", f"{sum(row.samples for row in rows):,}".replace(",", "\u202f")),
        Tile("median interval", numbers.plus_minus(median(widths) if widths else None)),
        Tile("flagged", str(sum(bool(row.flags) for row in measured))),
        Tile("cannot run here", str(sum(row.outcome == "skipped" for row in rows))),
        Tile("unfinished", str(sum(row.outcome == "unfinished" for row in rows))),
        Tile("failed", str(sum(row.outcome == "failed" for row in rows))),
    ]
    optional = ("median interval", "cannot run here", "unfinished")
    return [tile for tile in every if tile.name not in optional or tile.value not in ("0", "–")]


def data(context: ReportContext) -> Mapping[str, Any]:
    """Sentences and tiles."""
    sentences = summary(context.rows, published_values("ap50_pct"))
    return {"sentences": sentences, "tiles": tiles(context.rows)}


SECTIONS.add(own_section(__file__, 10, "Summary", data))
