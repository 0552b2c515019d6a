"""What the site keeps of a run: enough for every page, a thousandth of the run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from cspbench.core.case import Case
from cspbench.core.text import slug
from cspbench.figures.cases import known, plain
from cspbench.jobs.layers import LayerTimes
from cspbench.machine.comparability import Use, identity
from cspbench.measure.statistics import Interval
from cspbench.report.rows import repeat_command
from cspbench.site.archive import Source
from cspbench.store.records import Record
from cspbench.store.rundir import StoredRun, read_run
from cspbench.store.schema import check_environment
from cspbench.views.conditions import CLOCKS, clock, load_before
from cspbench.views.frames import Run
from cspbench.views.ratios import with_ratio_flags

Json = dict[str, Any]

#: What pages call the load of a run.
LOAD = "Load average before launches"

#: Longest texts of a summary, and most problems of a run's files that are named.
REASON_CHARACTERS = 300
PROBLEMS = 5
#: Most entries of a layer profile that a site keeps of a case: the longest ones.
LAYERS = 150
#: Most libraries, or instruction sets, of a machine.
FACTS = 200
#: Significant digits of a number.
DIGITS = 6


class CaseSummary(NamedTuple):
    """A case of a run; ``key`` names its files, ``ratio`` is what the run says of its reference."""

    case: str
    key: str
    backend: str
    board: str
    status: str
    reason: str
    flags: list[str]
    ms: float | None
    low: float | None
    high: float | None
    launches: int
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    command: str

    @property
    def latency_ms(self) -> Interval | None:
        """The latency with its interval; None if it was not measured."""
        return None if self.ms is None else Interval(self.ms, self.low, self.high)


@dataclass
class RunSummary:
    """A run; ``environment`` holds the known facts, ``boards`` those of a fleet's boards.

    ``levels`` are its load and clocks while it measured: by name the level, in a unit that the name
    tells.
    """

    key: str
    name: str
    path: str
    version: list[str]
    created: str
    cspbench: str
    suite: str
    suite_path: str
    description: str
    reference: str
    environment: Json
    ceilings: Json
    boards: dict[str, Json]
    problems: list[str]
    has_layers: bool
    levels: dict[str, float]
    cases: list[CaseSummary] = field(default_factory=list)

    @property
    def commit(self) -> str:
        """Of the suite's repository, its first characters."""
        return str(self.environment.get("git_commit") or "")[:12]

    def environment_of(self, board: str) -> Json:
        """Facts of the machine of a fleet's board, of the run's own machine for other names."""
        return dict(self.boards[board]["environment"]) if board in self.boards else self.environment

    @functools.cached_property
    def machine_keys(self) -> dict[str, str]:
        """By board ("" without a fleet), the key of its machine."""
        return {board: machine_key(self.environment_of(board)) for board in ("", *self.boards)}

    def as_stored(self) -> StoredRun:
        """The run as comparisons of machines read it, without launches."""
        meta = {"environment": self.environment, "created": self.created, "run": self.name,
                "fleet": {"boards": self.boards}}  # fmt: skip
        return StoredRun(Path(self.name), meta, [])


def machine_key(environment: Mapping[str, Any]) -> str:
    """Key of a machine: what must be equal for a history is equal."""
    facts = identity(environment, Use.HISTORY)
    return slug(
        " ".join(str(facts[name]) for name in ("host", "cpu") if name in facts) or "unknown"
    )


def summarise(source: Source) -> tuple[RunSummary, Json]:
    """Read a run; return its summary and the layer times of its cases.

    Raises:
        InputError: it cannot be read.
    """
    stored = read_run(source.path)
    run = Run(stored)
    meta, suite = stored.meta, stored.meta["suite"]
    boards = (meta.get("fleet") or {}).get("boards", {})
    ratios = {row["case"]: row for row in run.ratios.to_dict(orient="records")}
    seats = (meta.get("fleet") or {}).get("seats", {})
    layers = {plain(one.case): _layers(one.layers) for one in run.records if one.layers}
    summary = RunSummary(
        key=source.key,
        name=plain(meta["run"] or source.path.name),
        path=plain(source.path),
        version=list(source.version),
        created=plain(meta["created"]),
        cspbench=plain(meta["cspbench"]),
        suite=plain(suite["name"]),
        suite_path=plain(suite["path"] or ""),
        description=plain(suite["description"])[:REASON_CHARACTERS],
        reference=plain(meta.get("reference") or ""),
        environment=_facts(meta["environment"]),
        ceilings=dict(meta.get("ceilings", {})),
        boards={
            name: {"environment": _facts(board.get("environment", {})),
                   "ceilings": board.get("ceilings", {})}
            for name, board in boards.items()
        },
        problems=[plain(problem)[:REASON_CHARACTERS] for problem in stored.problems[:PROBLEMS]],
        has_layers=bool(layers),
        levels=_levels(stored),
        cases=[
            _case(record, ratios.get(record.case, {}), seats.get(record.case, ""),
                  repeat_command(run, record.case))
            for record in run.records
        ],
    )  # fmt: skip
    return summary, layers


def _levels(stored: StoredRun) -> dict[str, float]:
    """Load before the launches and clocks during them, where they are known."""
    clocks = {f"{name}, MHz": clock(stored, gauge) for gauge, name in CLOCKS.items()}
    levels = {LOAD: load_before(stored), **clocks}
    return {
        name: float(f"{level:.{DIGITS}g}") for name, level in levels.items() if level is not None
    }


def _facts(environment: Mapping[str, Any]) -> Json:
    """The known facts of a machine, none of them long."""
    return {name: _short(fact) for name, fact in check_environment(environment).items()}


def _short(fact: Any) -> Any:
    if isinstance(fact, str):
        return plain(fact)[:REASON_CHARACTERS]
    if isinstance(fact, Mapping):
        return {_short(name): _short(one) for name, one in list(fact.items())[:FACTS]}
    return [_short(one) for one in fact[:FACTS]] if isinstance(fact, list) else fact


def _case(record: Record, ratio: Mapping[Any, Any], board: str, command: str) -> CaseSummary:
    latency = record.latency_ms
    return CaseSummary(
        case=plain(record.case),
        key=slug(plain(record.case)),
        backend=plain(Case.parse(record.case).backend),
        board=board,
        status=record.status.value,
        reason=plain(record.reason)[:REASON_CHARACTERS],
        flags=with_ratio_flags(record.flags, ratio),
        ms=_rounded(latency.estimate if latency else None),
        low=_rounded(latency.low if latency else None),
        high=_rounded(latency.high if latency else None),
        launches=len(record.good),
        ratio=_rounded(known(ratio.get("ratio"))),
        ratio_low=_rounded(known(ratio.get("ratio_low"))),
        ratio_high=_rounded(known(ratio.get("ratio_high"))),
        command=command,
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _layers(times: LayerTimes) -> list[list[Any]]:
    """Entries of a profile in their order: name, operator, ms; only the longest."""
    order = sorted(range(len(times.entries)), key=lambda number: -times.entries[number][2])
    kept = [times.entries[number] for number in sorted(order[:LAYERS])]
    return [[plain(name), plain(op), _rounded(ns / 1e6)] for name, op, ns, _ in kept]
