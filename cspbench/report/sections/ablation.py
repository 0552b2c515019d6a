"""Variants in γ and fusion beside their plain network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cspbench.report import numbers
from cspbench.report.rows import CaseRow, latency_ratio
from cspbench.report.section import SECTIONS, Line, own_section


def ablation(rows: Sequence[CaseRow]) -> list[Line]:
    """Variants in γ and fusion beside the plain network of the same family, neck and setting.

    The plain network of ``csppeleenet`` is ``peleenet``: the same name without ``csp``. Groups
    with fewer than two variants are no ablation.
    """
    groups: dict[tuple[str, ...], list[CaseRow]] = defaultdict(list)
    for row in rows:
        if row.latency_ms is not None:
            groups[(row.run, _plain_name(row), row.neck, row.input, row.setting)].append(row)
    lines: list[Line] = []
    for group in groups.values():
        if sum(row.csp for row in group) >= 2:
            base = next((row for row in group if not row.csp), None)
            lines += [_ablation_line(row, base) for row in group]
    return lines


def _plain_name(row: CaseRow) -> str:
    return row.model.split("[")[0].removeprefix("csp")


def _ablation_line(row: CaseRow, base: CaseRow | None) -> Line:
    other = base if base is not row else None
    ratio = latency_ratio(row, other) if other else None
    own, plain = row.total("bflops"), other.total("bflops") if other else None
    return {
        "model": row.model_id,
        "setting": row.setting,
        "gamma": row.gamma or numbers.MISSING,
        "fusion": row.fusion or "not split",
        "bflops": numbers.fixed(own, 3),
        "bflops_change": numbers.percent(own / plain - 1 if own and plain else None),
        "latency": numbers.milliseconds(row.latency_ms),
        "change": numbers.percent(ratio.ratio - 1) if ratio else numbers.MISSING,
        "interval": (
            f"{numbers.percent(ratio.low - 1)} to {numbers.percent(ratio.high - 1)}{ratio.weaker}"
            if ratio
            else numbers.MISSING
        ),
    }


SECTIONS.add(
    own_section(
        __file__, 60, "Partial ratio γ and fusion",
        lambda context: {"ablation": ablation(context.rows)}, title="γ and fusion",
    )
)  # fmt: skip
