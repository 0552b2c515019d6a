"""Memory: what was measured in launches of its own, or what the definition says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cspbench.measure.memory import MemoryUse
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, SectionSpec


@dataclass(frozen=True)
class MemoryLine:
    """What a case needs, as text: computed from its network, and measured where it was."""

    model: str
    setting: str
    weights: str
    live: str
    peak: str
    loaded: str
    retained: str
    transient: str


def memory(rows: Sequence[CaseRow]) -> list[MemoryLine]:
    """One line a case whose memory was measured; without any, one line an analysed network.

    Weights are counted as fp32.
    """
    measured = [row for row in rows if row.record.memory]
    if not measured:
        first = {row.model_id: row for row in reversed(rows) if row.totals}
        measured = [row for row in rows if first.get(row.model_id) is row]
    return [_memory_line(row) for row in measured]


def _memory_line(row: CaseRow) -> MemoryLine:
    params = row.total("params")
    use = row.record.memory or MemoryUse()
    return MemoryLine(
        model=row.model_id,
        setting=row.setting if row.record.memory else "",
        weights=numbers.size(None if params is None else 4 * params),
        live=numbers.size(row.total("peak_live_bytes")),
        peak=numbers.size(use.peak_memory_bytes),
        loaded=numbers.size(use.loaded_bytes),
        retained=numbers.size(use.retained_bytes),
        transient=numbers.size(use.transient_bytes),
    )


SECTIONS.add(
    SectionSpec(
        "memory",
        heading="Memory",
        title="Memory",
        order=100,
        data=lambda context: {"memory": memory(context.rows)},
        template=Path(__file__).with_suffix(".html"),
    )
)
