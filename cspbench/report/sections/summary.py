"""Summary of the runs: fastest, best AP50 per millisecond, surprise, and how much was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from cspbench.core.text import percent
from cspbench.figures.published import published_values
from cspbench.report import numbers
from cspbench.report.numbers import milliseconds, plus_minus, short, times
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, ReportContext, own_section

#: BFLOPs, the bounds of the latency, and whose they are.
_Facts = tuple[float, float, float, CaseRow]

#: Fewer BFLOPs by at least this share count as fewer.
FEWER = 0.02


@dataclass(frozen=True)
class Sentence:
    """One statement with the case it is about and a heading of a word or two."""

    heading: str
    text: str
    case: str | None = None


def summary(rows: Sequence[CaseRow], ap50: Mapping[str, float]) -> list[Sentence]:
    """The three sentences, with published AP50 by model id; each says what the runs lack."""
    measured = [row for row in rows if row.latency_ms is not None]
    if not measured:
        return [Sentence("Nothing measured", "No case of this run has a latency; see below why.")]
    return [fastest(measured), most_accurate_per_ms(measured, ap50), surprise(measured)]


def fastest(measured: Sequence[CaseRow]) -> Sentence:
    """The case with the highest fps, and how many others its interval does not exclude."""
    best = max(measured, key=lambda row: row.fps or 0.0)
    text = (
        f"{best.model_id} on {best.setting}: {milliseconds(best.latency_ms)} ms "
        f"({plus_minus(best.half_width)}), {short(best.fps)} fps, measured."
    )
    rivals = sum(row is not best and _may_be_as_fast(row, best) for row in measured)
    if best.half_width is None:
        text += " One launch gives no interval."
    elif rivals:
        text += f" The intervals of {rivals} other {'case' if rivals == 1 else 'cases'} overlap it."
    return Sentence("Fastest", text, best.id)


def _may_be_as_fast(row: CaseRow, best: CaseRow) -> bool:
    """True if the intervals of time per image overlap."""
    if row.latency_low is None or best.latency_high is None:
        return False
    return row.latency_low / row.batch <= best.latency_high / best.batch


def most_accurate_per_ms(measured: Sequence[CaseRow], ap50: Mapping[str, float]) -> Sentence:
    """The case with most published AP50 per measured millisecond (an image)."""
    heading = "Most AP50 per millisecond"
    known = [row for row in measured if row.model_id in ap50 and row.fps]
    if not known:
        return Sentence(heading, "None of the measured networks has a published AP50.")
    best = max(known, key=lambda row: ap50[row.model_id] * (row.fps or 0.0))
    value = ap50[best.model_id] * (best.fps or 0.0) / 1000
    return Sentence(
        heading,
        f"{best.model_id} on {best.setting}: AP50 {ap50[best.model_id]:g} (published) in "
        f"{milliseconds(best.latency_ms)} ms (measured), {short(value)} points per millisecond.",
        best.id,
    )


def surprise(measured: Sequence[CaseRow]) -> Sentence:
    """The clearest case of fewer BFLOPs and yet slower; else the widest gap between backends."""
    inversion = _inversion(measured)
    if inversion is not None:
        fewer, more = inversion
        less = 1 - (fewer.total("bflops") or 0.0) / (more.total("bflops") or 1.0)
        return Sentence(
            "Surprise",
            f"{fewer.model_id} has {percent(less)} fewer BFLOPs (computed) than {more.model_id}, "
            f"and is {times(_ratio(fewer, more))} as slow on {fewer.setting} (measured; the "
            "intervals do not overlap).",
            fewer.id,
        )
    gap = _backend_gap(measured)
    if gap is not None:
        slow, fast = gap
        return Sentence(
            "Widest gap",
            f"{slow.model_id} takes {times(_ratio(slow, fast))} as long on {slow.setting} as on "
            f"{fast.setting} (measured).",
            slow.id,
        )
    return Sentence("No surprise", "Fewer BFLOPs were never slower beyond the intervals.")


def _ratio(slow: CaseRow, fast: CaseRow) -> float:
    assert slow.latency_ms is not None
    assert fast.latency_ms is not None
    return slow.latency_ms / fast.latency_ms


def _inversion(measured: Sequence[CaseRow]) -> tuple[CaseRow, CaseRow] | None:
    # Only within a run: two runs may be of two machines, or of one on two days.
    groups: dict[tuple[str, str, str], list[_Facts]] = defaultdict(list)
    for row in measured:
        bflops, low, high = row.total("bflops"), row.latency_low, row.latency_high
        if bflops and low is not None and high is not None:
            groups[(row.run, row.setting, row.input)].append((bflops, low, high, row))
    pairs = [pair for group in groups.values() for pair in _inverted(group)]
    return max(pairs, key=lambda pair: _ratio(*pair), default=None)


def _inverted(group: Sequence[_Facts]) -> Iterator[tuple[CaseRow, CaseRow]]:
    """Pairs of which the first has fewer BFLOPs and is surely slower: the intervals lie apart."""
    for fewer, low, _, slow in group:
        for more, _, high, fast in group:  # a thousand cases are half a million pairs
            if low > high and fewer < more * (1 - FEWER):
                yield slow, fast


def _backend_gap(measured: Sequence[CaseRow]) -> tuple[CaseRow, CaseRow] | None:
    groups: dict[tuple[str, str, int, int], list[CaseRow]] = defaultdict(list)
    for row in measured:
        groups[(row.run, row.model_id, row.batch, row.threads)].append(row)
    gaps = []
    for group in groups.values():
        slow = max(group, key=lambda row: row.latency_ms or 0.0)
        fast = min(group, key=lambda row: row.latency_ms or 0.0)
        if (slow.latency_low or 0.0) > (fast.latency_high or float("inf")):
            gaps.append((slow, fast))
    return max(gaps, key=lambda pair: _ratio(*pair), default=None)


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
