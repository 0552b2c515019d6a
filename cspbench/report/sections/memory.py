"""Memory: what was measured in launches of its own, or what the definition says."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.measure.memory import MemoryUse
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, own_section


def memory(rows: Sequence[CaseRow]) -> list[Line]:
    """One line a case whose memory was measured; without any, one line an analysed network.

    Weights are counted as fp32.
    """
    measured = [row for row in rows if row.record.memory]
    if not measured:
        first = {row.model_id: row for row in reversed(rows) if row.totals}
        measured = [row for row in rows if first.get(row.model_id) is row]
    return [_memory_line(row) for row in measured]


def _memory_line(row: CaseRow) -> Line:
    params = row.total("params")
    use = row.record.memory or MemoryUse()
    return {
        "model": row.model_id,
        "setting": row.setting if row.record.memory else "",
        "weights": numbers.size(None if params is None else 4 * params),
        "live": numbers.size(row.total("peak_live_bytes")),
        "peak": numbers.size(use.peak_memory_bytes),
        "loaded": numbers.size(use.loaded_bytes),
        "retained": numbers.size(use.retained_bytes),
        "transient": numbers.size(use.transient_bytes),
    }


SECTIONS.add(own_section(__file__, 100, "Memory", lambda context: {"memory": memory(context.rows)}))
