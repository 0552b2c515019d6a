"""Energy of an inference, where a sensor of power was read."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, own_section


def energy(rows: Sequence[CaseRow]) -> list[Line]:
    """One line a case whose energy was measured."""
    lines = []
    for row in rows:
        use = row.record.energy
        if use:
            lines.append(
                {
                    "model": row.model_id,
                    "setting": row.setting,
                    "energy": numbers.short(1000 * use.energy_per_inference_j),
                    "power": numbers.short(use.power_w),
                    "idle": numbers.short(use.idle_power_w),
                    "method": plain(use.energy_method),
                }
            )
    return lines


SECTIONS.add(own_section(__file__, 110, "Energy", lambda context: {"energy": energy(context.rows)}))
