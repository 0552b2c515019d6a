"""The result of a gate: one object from which every output is rendered, and its JSON form."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cspbench
from cspbench.core.files import new_folder, write_whole
from cspbench.core.statuses import ExitCode
from cspbench.core.text import number_of
from cspbench.errors import InputError
from cspbench.gating.duet import Block
from cspbench.gating.measured import MeasuredChange
from cspbench.gating.static import StaticChange
from cspbench.gating.suites import Rules
from cspbench.gating.verdict import UNSURE, CaseVerdict, Verdict, exit_code, sorted_worst_first
from cspbench.machine.comparability import flatten

FORMAT = 1
GATE_FILE = "gate.json"


class GateInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a gate; ``report`` holds what was measured."""

    def __init__(self, report: GateReport) -> None:
        self.report = report
        super().__init__()


@dataclass(frozen=True)
class Skipped:
    """A case without a verdict: it could not or need not be measured, and that is no failure."""

    case: str
    status: str
    reason: str


@dataclass
class GateReport:
    """The result of one gate.

    ``facts`` holds the origin of each side and the library versions of its workers, and
    ``differences`` those that differ between the sides. ``null`` is the base measured against
    itself. ``rules_from`` is the side whose suite decided, and ``suite_changes`` are sentences on
    what the head changes in the suite. ``unchecked`` are sentences on rules of
    the suite that nothing was known for. ``generations`` holds the raw blocks of every measurement
    (times of an inference in ns); of an ``interrupted`` gate they are all that there is.
    """

    suite: str
    base: str
    head: str
    min_effect: float
    tolerance: float
    rules: Mapping[str, float] = field(default_factory=dict)
    rules_from: Rules = "base"
    suite_changes: list[str] = field(default_factory=list)
    strict: bool = False
    method: str = "duet"
    verdicts: list[CaseVerdict] = field(default_factory=list)
    static: list[StaticChange] = field(default_factory=list)
    measured: list[MeasuredChange] = field(default_factory=list)
    null: CaseVerdict | None = None
    skipped: list[Skipped] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    generations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0
    created: str = field(
        default_factory=lambda: datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        )
    )

    def leave_unchecked(self, why: str) -> None:
        """Tell that a rule of the suite was not checked, in a sentence."""
        self.unchecked.append(why)
        self.notes.append(why)

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of the command."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        return exit_code(self.verdicts, self.strict, unchecked=bool(self.unchecked))

    @property
    def sorted(self) -> list[CaseVerdict]:
        """Verdicts, worst first."""
        return sorted_worst_first(self.verdicts)

    def rows(self) -> list[dict[str, Any]]:
        """The verdicts as plain values, worst first."""
        return [_plain(verdict) for verdict in self.sorted]

    @property
    def counts(self) -> dict[str, int]:
        """How many cases got each verdict, worst first."""
        return dict(Counter(verdict.verdict.value for verdict in self.sorted))

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        counts = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        result = {
            ExitCode.OK: "passed",
            ExitCode.REGRESSION: "failed: slower or costlier",
            ExitCode.NOT_MEASURED: "could not measure everything"
            if Verdict.UNMEASURED.value in self.counts else "not passed: a head waits longer",
            ExitCode.INCONCLUSIVE: "undecided, and --strict asks for a decision"
            if self.counts.keys() & UNSURE else "not complete, and --strict asks for every rule",
            ExitCode.INTERRUPTED: "interrupted",
        }[self.exit_code]  # fmt: skip
        changed = f"; {self.suite_headline}" if self.suite_changes else ""
        nothing = "no case was judged" if self.interrupted else "nothing to compare"
        number = len(self.unchecked)
        unchecked = f"; {number_of(number, 'rule')} not checked" if number else ""
        return f"gate {result} ({counts or nothing}){unchecked}{changed}"

    @property
    def suite_headline(self) -> str:
        """That the head changes the suite, and whose suite decided."""
        return f"the head changes the suite, and the {self.rules_from}'s suite decided"

    @property
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Facts of the sides that differ: name -> (base, head)."""
        base, head = (flatten(self.facts.get(side, {})) for side in ("base", "head"))
        return {
            name: (base.get(name), head.get(name))
            for name in dict.fromkeys([*base, *head])
            if base.get(name) != head.get(name)
        }

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``gate.json`` and ``--format json``; see docs/gate.md."""
        data = asdict(self)
        return {
            "format": FORMAT,
            "cspbench": cspbench.__version__,
            "exit_code": int(self.exit_code),
            "headline": self.headline,
            "counts": self.counts,
            **data,
            "verdicts": self.rows(),
            "null": _plain(self.null) if self.null else None,
            "static": [{**asdict(change), "sentence": change.sentence} for change in self.static],
            "measured": [{**asdict(c), "sentence": c.sentence} for c in self.measured],
            "memory": [
                {"case": c.case, "base": c.base, "head": c.head, "limit": c.limit}
                for c in self.measured
                if c.metric == "peak_memory_bytes"
            ],
            "differences": {name: list(pair) for name, pair in self.differences.items()},
        }


def _plain(verdict: CaseVerdict) -> dict[str, Any]:
    return {**asdict(verdict), "verdict": verdict.verdict.value}


def raw(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """Blocks as JSON: for each burst the time of an inference in ns, elapsed and running."""
    return [
        {
            "number": block.number,
            "first": block.first,
            "schedule": block.schedule,
            "seconds": round(block.seconds, 3),
            "inferences": block.base[0].count if block.base else 0,
            **{
                f"{side}_{name}_ns": [round(value) for value in getattr(block, of)(side)]
                for side in ("base", "head")
                for name, of in (("elapsed", "inference_ns"), ("running", "running_ns"))
            },
        }
        for block in blocks
    ]


def write_gate(report: GateReport, out: Path) -> Path:
    """Write ``gate.json`` into a new folder under ``out``; return the folder.

    Raises:
        InputError: the file cannot be written.
    """
    stamp = report.created.replace("-", "").replace(":", "").replace("T", "-")[:15]
    text = json.dumps(report.as_dict(), indent=1, allow_nan=False)
    try:
        folder = new_folder(out, f"{stamp}-gate-{report.suite}")
        write_whole(folder / GATE_FILE, text.encode())
    except OSError as error:
        raise InputError(f"cannot write the gate under {out}: {error.strerror}") from error
    return folder
