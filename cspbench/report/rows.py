"""Case rows of the report: one plain object a case, made once, read by every section."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from cspbench.core.case import Case, ModelId, format_value
from cspbench.core.statuses import NOT_RUNNABLE, Status
from cspbench.figures.cases import family, is_csp, known, known_text, model_shown, plain
from cspbench.measure.statistics import Interval, quotient
from cspbench.models.stated import axis_value
from cspbench.store.blocks import SEPARATE
from cspbench.store.ratios import InTurn
from cspbench.store.records import Record
from cspbench.views.claims import claim
from cspbench.views.frames import Run

#: How those notes of a run begin that name a changed setting.
_SET_NOTE = "set: "


@dataclass(frozen=True)
class CaseRow:
    """A case as the report shows it; every text is safe to print, missing numbers are None.

    ``latency_low``, ``latency_high`` and ``half_width`` (a share) describe the 95 % interval;
    ``launch_medians_ms`` are in the order of the launches; ``gamma`` and ``fusion`` are empty for
    a network that is not split. ``shown`` is the model id as people look for it; ``system`` is it
    without input, as published numbers name it; ``side`` that of a square input. ``totals`` are
    the analysis totals of its model, empty if it was not analysed. ``command`` measures the case
    again, empty if none does; ``claim`` is a line to quote, empty if it was not measured.
    """

    index: int
    run: str
    id: str
    model_id: str
    shown: str
    system: str
    model: str
    neck: str
    input: str
    side: int | None
    family: str
    csp: bool
    backend: str
    setting: str
    board: str
    batch: int
    threads: int
    gamma: str
    fusion: str
    status: str
    reason: str
    flags: tuple[str, ...]
    latency_ms: float | None
    latency_low: float | None
    latency_high: float | None
    p90_ms: float | None
    p99_ms: float | None
    fps: float | None
    launches: int
    samples: int
    max_relative_error: float | None
    launch_medians_ms: tuple[float, ...]
    totals: Mapping[str, float]
    command: str
    claim: str
    record: Record
    in_turn: InTurn
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    ratio_of: str | None = None
    ratio_group: str | None = None

    @property
    def ratio_half_width(self) -> float | None:
        """Half of the 95 % interval of the ratio as a share of it."""
        return _half_width(self.ratio, self.ratio_low, self.ratio_high)

    @property
    def half_width(self) -> float | None:
        """Half of the 95 % interval as a share of the estimate."""
        return _half_width(self.latency_ms, self.latency_low, self.latency_high)

    def is_form_of(self, plain_row: CaseRow) -> bool:
        """Whether it is a partial network, and the other a plain one it may stand beside."""
        places = [(row.family, row.input, row.setting) for row in (self, plain_row)]
        return self.csp and not plain_row.csp and places[0] == places[1]

    @property
    def outcome(self) -> str:
        """See `outcome_of`."""
        return outcome_of(self.status)

    def total(self, name: str) -> float | None:
        """An analysis total by its name, None if the model was not analysed."""
        value = self.totals.get(name)
        return None if value is None else float(value)


def outcome_of(status: str) -> str:
    """``measured``, ``unfinished``, ``failed`` or ``skipped`` (cannot run here)."""
    if status == Status.OK.value:
        return "measured"
    if status in (Status.INTERRUPTED.value, Status.LOST.value):
        return "unfinished"
    return "skipped" if Status(status) in NOT_RUNNABLE else "failed"


def _half_width(estimate: float | None, low: float | None, high: float | None) -> float | None:
    return None if estimate is None else Interval(estimate, low, high).relative_half_width


def case_rows(runs: Sequence[Run]) -> list[CaseRow]:
    """Rows of all cases of all runs, in plan order."""
    rows: list[CaseRow] = []
    for run in runs:
        frame = run.cases.to_dict(orient="records")
        for record, row in zip(run.records, frame, strict=True):
            rows.append(_row(len(rows), run, record, row))
    return rows


def repeat_command(run: Run, case_id: str) -> str:
    """The command line that measures the case again, as a shell takes it; empty without one.

    Only a suite that was read from a file can be named; ``cspbench explain A B`` makes its own.
    """
    words = _command_words(run)
    only = ["--only", case_id] if words[:1] == ["run"] else []
    return plain(shlex.join(["cspbench", *words, *only])) if words else ""


def run_command(run: Run) -> str:
    """The command line that measures the whole run again; empty without one."""
    words = _command_words(run)
    return plain(shlex.join(["cspbench", *words])) if words else ""


def _command_words(run: Run) -> list[str]:
    meta = run.stored.meta
    suite = meta["suite"]
    cases = [case["id"] for case in meta["cases"]]
    if suite["path"]:
        settings = [word for setting in _settings(suite) for word in ("--set", setting)]
        return ["run", suite["path"], *settings]
    if suite["name"] == "explain" and len(cases) == 2:
        return ["explain", *cases, "--rounds", str(suite["measure"]["rounds"])]
    return []


class LatencyRatio(NamedTuple):
    """A ratio of two latencies with its 95 % interval.

    ``in_turn`` is False where it is the quotient of two separate latencies, which is weaker:
    whatever shows the ratio says so.
    """

    ratio: float
    low: float
    high: float
    in_turn: bool

    def times(self, factor: float) -> LatencyRatio:
        """The same comparison of another amount of work, such as of an image."""
        return LatencyRatio(
            self.ratio * factor, self.low * factor, self.high * factor, self.in_turn
        )

    @property
    def weaker(self) -> str:
        """What stands behind its bounds: ``, separate launches`` or nothing."""
        return "" if self.in_turn else f", {SEPARATE}"


def latency_ratio(row: CaseRow, base: CaseRow, comparisons: int = 1) -> LatencyRatio | None:
    """Ratio of two latencies with a 95 % interval: in turns where the two took turns.

    Args:
        row: the one.
        base: the other.
        comparisons: how many such ratios a statement rests on; of cases in turns the interval
            holds for all of them together.

    Returns:
        None without both intervals.
    """
    if not (row.latency_ms and base.latency_ms):
        return None
    found = None
    if row.run == base.run:
        found = row.in_turn.ratio(row.record.case, base.record.case, comparisons)
    if found is not None and found.ratio.all_low is not None and found.ratio.all_high is not None:
        return LatencyRatio(
            found.ratio.estimate, found.ratio.all_low, found.ratio.all_high, in_turn=True
        )
    ratio = quotient(
        Interval(row.latency_ms, row.latency_low, row.latency_high),
        Interval(base.latency_ms, base.latency_low, base.latency_high),
    )
    if ratio.low is None or ratio.high is None:
        return None
    return LatencyRatio(ratio.estimate, ratio.low, ratio.high, in_turn=False)


def _settings(suite: Mapping[str, Any]) -> list[str]:
    """What ``--set`` changed; runs of older versions have it in their notes only."""
    noted = [note for note in suite["notes"] if note.startswith(_SET_NOTE)]
    return suite["overrides"] or [note.removeprefix(_SET_NOTE) for note in noted]


def _row(index: int, run: Run, record: Record, row: Mapping[Any, Any]) -> CaseRow:
    case = Case.parse(record.case)
    batch_threads = [f"b{case.batch}"] * (case.batch != 1) + [f"t{case.threads}"] * (
        case.threads != 1
    )
    if case.board is not None:
        batch_threads.append(f"on {case.board}")
    return CaseRow(
        index=index,
        run=plain(run.name),
        id=plain(record.case),
        model_id=plain(case.model_id),
        shown=model_shown(record.case),
        system=plain(ModelId(case.model, case.neck)),
        model=plain(case.model),
        neck=plain(case.neck) if case.neck else "",
        input=plain(row["input"]),
        side=_side(case.model_id),
        family=family(case.model.name),
        csp=is_csp(record.case),
        backend=plain(case.backend),
        setting=" ".join([plain(case.backend), *batch_threads]),
        board=case.board or "",
        batch=case.batch,
        threads=case.threads,
        gamma=_axis(record.case, "gamma"),
        fusion=_axis(record.case, "fusion"),
        status=record.status.value,
        reason=plain(record.reason),
        flags=tuple(row["flags"]),
        latency_ms=known(row["latency_ms"]),
        latency_low=known(row["latency_ms_low"]),
        latency_high=known(row["latency_ms_high"]),
        p90_ms=known(row["p90_ms"]),
        p99_ms=known(row["p99_ms"]),
        fps=known(row["fps"]),
        launches=int(row["launches"]),
        samples=int(row["samples"]),
        max_relative_error=known(row["max_relative_error"]),
        launch_medians_ms=record.launch_medians_ms,
        totals=run.totals(record.case),
        command=repeat_command(run, record.case),
        claim="" if record.latency_ms is None else claim(run, record, row),
        record=record,
        in_turn=run.in_turn,
        ratio=known(row["ratio"]),
        ratio_low=known(row["ratio_low"]),
        ratio_high=known(row["ratio_high"]),
        ratio_of=known_text(row["ratio_of"]),
        ratio_group=known_text(row["ratio_group"]),
    )


def _axis(case_id: str, name: str) -> str:
    value = axis_value(case_id, name)
    return "" if value is None else plain(format_value(value))


def _side(model: ModelId) -> int | None:
    """Side of a square input."""
    if model.input is None or model.input[0] != model.input[1]:
        return None
    return model.input[0]
