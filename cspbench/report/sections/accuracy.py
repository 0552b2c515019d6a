"""Speed against accuracy: the most accurate network of each speed class."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cspbench.figures.fps_ap50 import fps_class
from cspbench.literature.by_model import published_values
from cspbench.report import numbers
from cspbench.report.rows import CaseRow
from cspbench.report.section import SECTIONS, Line, own_section


def speed_classes(rows: Sequence[CaseRow], ap50: Mapping[str, float]) -> list[Line]:
    """The most accurate case (the fastest of equals) of each speed class, by published AP50."""
    groups: dict[str, list[tuple[float, float, CaseRow]]] = defaultdict(list)
    for row in rows:
        if row.fps is not None and row.model_id in ap50:
            groups[fps_class(row.fps)].append((ap50[row.model_id], row.fps, row))
    lines = []
    for name, members in sorted(groups.items(), key=lambda item: item[1][0][1]):
        accuracy, fps, best = max(members, key=lambda member: member[:2])
        lines.append(
            {
                "name": name,
                "cases": str(len(members)),
                "model": best.model_id,
                "setting": best.setting,
                "ap50": numbers.fixed(accuracy, 1),
                "fps": numbers.short(fps),
                "per_ms": numbers.short(accuracy * fps / 1000),
            }
        )
    return lines


SECTIONS.add(
    own_section(
        __file__, 50, "Speed against accuracy",
        lambda context: {"classes": speed_classes(context.rows, published_values("ap50_pct"))},
        title="Speed and accuracy",
    )
)  # fmt: skip
