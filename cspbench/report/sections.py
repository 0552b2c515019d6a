"""Tables of the report's later sections: ablation, memory, failures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cspbench.core.statuses import Status
from cspbench.figures.cases import plain
from cspbench.figures.fps_ap50 import fps_class
from cspbench.measure.memory import MemoryUse
from cspbench.measure.statistics import Interval, quotient
from cspbench.report import numbers
from cspbench.report.data import log_end
from cspbench.report.rows import CaseRow
from cspbench.views.frames import Run

REMEDIES: dict[str, str] = {
    Status.FAILED.value: "read the log; the backend refused the model or its outputs were wrong",
    Status.TIMEOUT.value: "raise measure.timeout_seconds, or measure fewer or smaller cases",
    Status.OOM.value: "use a smaller input or batch, or a machine with more memory",
    Status.CRASHED.value: "read the log; try another engine or version of the backend",
    Status.LOST.value: "resume the run when the machine can be reached again",
    Status.INTERRUPTED.value: "finish the run: cspbench run --resume",
    Status.UNSUPPORTED.value: "choose another backend or engine for this model",
    Status.UNAVAILABLE.value: "measure on a machine that has it; this is not a failure",
}


@dataclass(frozen=True)
class ClassLine:
    """The most accurate case of a speed class, as text."""

    name: str
    cases: int
    model: str
    setting: str
    ap50: str
    fps: str
    per_ms: str


def speed_classes(rows: Sequence[CaseRow], ap50: Mapping[str, float]) -> list[ClassLine]:
    """The most accurate case (the fastest of equals) of each of the paper's speed classes.

    Args:
        rows: all cases.
        ap50: published AP50 by model id.
    """
    groups: dict[str, list[tuple[float, float, CaseRow]]] = defaultdict(list)
    for row in rows:
        if row.fps is not None and row.model_id in ap50:
            groups[fps_class(row.fps)].append((ap50[row.model_id], row.fps, row))
    lines = []
    for name, members in sorted(groups.items(), key=lambda item: item[1][0][1]):
        accuracy, fps, best = max(members, key=lambda member: member[:2])
        lines.append(
            ClassLine(
                name=name,
                cases=len(members),
                model=best.model_id,
                setting=best.setting,
                ap50=numbers.fixed(accuracy, 1),
                fps=numbers.short(fps),
                per_ms=numbers.short(accuracy * fps / 1000),
            )
        )
    return lines


@dataclass(frozen=True)
class AblationLine:
    """A variant beside its plain network, as text."""

    model: str
    setting: str
    gamma: str
    fusion: str
    bflops: str
    bflops_change: str
    latency: str
    change: str
    interval: str


def ablation(rows: Sequence[CaseRow]) -> list[AblationLine]:
    """Variants in γ and fusion beside the plain network of the same family, neck and setting.

    The plain network of ``csppeleenet`` is ``peleenet``: the same name without ``csp``. Groups
    with fewer than two variants are no ablation.
    """
    groups: dict[tuple[str, ...], list[CaseRow]] = defaultdict(list)
    for row in rows:
        if row.latency_ms is not None:
            groups[(row.run, _plain_name(row), row.neck, row.input, row.setting)].append(row)
    lines: list[AblationLine] = []
    for group in groups.values():
        if sum(row.csp for row in group) >= 2:
            base = next((row for row in group if not row.csp), None)
            lines += [_ablation_line(row, base) for row in group]
    return lines


def _plain_name(row: CaseRow) -> str:
    return row.model.split("[")[0].removeprefix("csp")


def _ablation_line(row: CaseRow, base: CaseRow | None) -> AblationLine:
    other = base if base is not row else None
    ratio = latency_ratio(row, other) if other else None
    mine, theirs = row.total("bflops"), other.total("bflops") if other else None
    return AblationLine(
        model=row.model_id,
        setting=row.setting,
        gamma=row.gamma or numbers.MISSING,
        fusion=row.fusion or "not split",
        bflops=numbers.fixed(mine, 3),
        bflops_change=numbers.percent(mine / theirs - 1 if mine and theirs else None),
        latency=numbers.milliseconds(row.latency_ms),
        change=numbers.percent(ratio[0] - 1) if ratio else numbers.MISSING,
        interval=(
            f"{numbers.percent(ratio[1] - 1)} to {numbers.percent(ratio[2] - 1)}"
            if ratio
            else numbers.MISSING
        ),
    )


def latency_ratio(row: CaseRow, base: CaseRow) -> tuple[float, float, float] | None:
    """Ratio of two latencies with a 95 % interval.

    Returns:
        (ratio, low, high), or None without both intervals.
    """
    if not (row.latency_ms and base.latency_ms):
        return None
    ratio = quotient(
        Interval(row.latency_ms, row.latency_low, row.latency_high),
        Interval(base.latency_ms, base.latency_low, base.latency_high),
    )
    if ratio.low is None or ratio.high is None:
        return None
    return ratio.estimate, ratio.low, ratio.high


@dataclass(frozen=True)
class BalanceLine:
    """How a network's compute is spread over its layers, as text."""

    model: str
    bflops: str
    largest: str
    share: str
    name: str
    cio: str
    traffic: str
    fused: str
    copies: str


def balance(runs: Sequence[Run], rows: Sequence[CaseRow]) -> list[BalanceLine]:
    """One line a network that was analysed, in plan order."""
    names: dict[str, str] = {}
    for run in runs:
        names |= largest_layers(run)
    lines: dict[str, BalanceLine] = {}
    for row in rows:
        total, largest = row.total("bflops"), row.total("max_layer_bflops")
        if not total or largest is None:
            continue
        cio = row.total("cio_paper")
        lines[row.model_id] = BalanceLine(
            model=row.model_id,
            bflops=numbers.fixed(total, 3),
            largest=numbers.fixed(largest, 3),
            share=f"{largest / total:.1%}".replace("%", " %"),
            name=names.get(row.model_id, ""),
            cio=numbers.fixed(None if cio is None else cio / 1e6, 2),
            traffic=numbers.size(row.total("traffic_bytes")),
            fused=numbers.size(row.total("traffic_bytes_fused")),
            copies=numbers.size(row.total("copy_bytes")),
        )
    return list(lines.values())


def largest_layers(run: Run) -> dict[str, str]:
    """Module path of the layer with most BFLOPs by model id."""
    return {
        plain(model): plain(analysis.get("places", {}).get("max_layer_bflops", ""))
        for model, analysis in run.stored.meta["analyses"].items()
    }


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
    found = row.record.memory or MemoryUse()
    return MemoryLine(
        model=row.model_id,
        setting=row.setting if row.record.memory else "",
        weights=numbers.size(None if params is None else 4 * params),
        live=numbers.size(row.total("peak_live_bytes")),
        peak=numbers.size(found.peak_memory_bytes),
        loaded=numbers.size(found.loaded_bytes),
        retained=numbers.size(found.retained_bytes),
        transient=numbers.size(found.transient_bytes),
    )


@dataclass(frozen=True)
class Problem:
    """Cases that ended the same way for the same reason."""

    status: str
    outcome: str
    reason: str
    remedy: str
    log: str
    cases: tuple[str, ...]


def problems(rows: Sequence[CaseRow]) -> list[Problem]:
    """Failed cases first, then those that cannot run here; cases of one reason together."""
    groups: dict[tuple[str, str], list[CaseRow]] = defaultdict(list)
    for row in rows:
        if row.outcome != "measured":
            groups[(row.status, row.reason)].append(row)
    found = [
        Problem(
            status=status,
            outcome=members[0].outcome,
            reason=reason or "no reason was given",
            remedy=REMEDIES[status],
            log=_log(members[0]),
            cases=tuple(row.id for row in members),
        )
        for (status, reason), members in groups.items()
    ]
    return sorted(found, key=lambda problem: problem.outcome != "failed")


def _log(row: CaseRow) -> str:
    logs = [launch.log for launch in row.record.launches if launch.log]
    return log_end(logs[-1]) if logs else ""
