"""Energy of an inference, where a sensor of power was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cspbench.figures.cases import plain
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, SectionSpec


@dataclass(frozen=True)
class EnergyLine:
    """Energy of a case, as text."""

    model: str
    setting: str
    energy: str
    power: str
    idle: str
    method: str


def energy(rows: Sequence[CaseRow]) -> list[EnergyLine]:
    """One line a case whose energy was measured."""
    lines = []
    for row in rows:
        use = row.record.energy
        if use:
            lines.append(
                EnergyLine(
                    model=row.model_id,
                    setting=row.setting,
                    energy=numbers.short(1000 * use.energy_per_inference_j),
                    power=numbers.short(use.power_w),
                    idle=numbers.short(use.idle_power_w),
                    method=plain(use.energy_method),
                )
            )
    return lines


SECTIONS.add(
    SectionSpec(
        "energy",
        heading="Energy",
        title="Energy",
        order=110,
        data=lambda context: {"energy": energy(context.rows)},
        template=Path(__file__).with_suffix(".html"),
    )
)
