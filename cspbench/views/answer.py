"""The answer to "which engine and how many threads are fastest for this model", from a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench.core.case import Case
from cspbench.core.text import number_of
from cspbench.models.build import split_source
from cspbench.store.blocks import SEPARATE

if TYPE_CHECKING:
    from cspbench.store.ratios import InTurn
    from cspbench.store.records import Record
    from cspbench.views.frames import Run


#: So many cases that cannot be told apart are named.
MOST_NAMED = 3


@dataclass(frozen=True)
class Slower:
    """A case beside another, here the fastest: how many times as long it takes.

    ``low`` and ``high`` bound the ratios of all cases compared together with 95 % confidence;
    None where the two never took turns or shared one block alone. ``ratio_of`` says what the ratio
    is of, as in the frames: where the two never took turns, of their latencies.
    """

    case: str
    ratio: float
    low: float | None
    high: float | None
    ratio_of: str

    @property
    def told_apart(self) -> bool:
        """Whether it is slower for certain."""
        return self.low is not None and self.low > 1

    def scaled(self, by: float) -> Slower:
        """The same comparison of another amount of work, such as of an image."""
        low, high = (None if bound is None else by * bound for bound in (self.low, self.high))
        return Slower(self.case, by * self.ratio, low, high, self.ratio_of)


@dataclass(frozen=True)
class Answer:
    """The fastest case of a model at a batch size, and the others in their order."""

    fastest: Record
    others: tuple[Slower, ...]
    #: Why the ratios are not to be trusted; empty if they are.
    distrust: tuple[str, ...] = ()

    @property
    def case(self) -> Case:
        """The fastest."""
        return Case.parse(self.fastest.case)

    @property
    def command(self) -> str:
        """The command that measures the fastest case again."""
        case = self.case
        words = ["cspbench", "run", str(case.model_id), "--backend", str(case.backend)]
        words += ["--threads", str(case.threads), "--batch", str(case.batch)]
        source = split_source(case.model.name)
        if source is not None and source[0].runs_code:
            words.append("--allow-code")
        return shlex.join(words)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        memory = self.fastest.memory
        latency = self.fastest.latency_ms
        return {
            "model": str(self.case.model_id),
            "batch": self.case.batch,
            "fastest": self.fastest.case,
            "latency_ms": latency.estimate if latency else None,
            "peak_memory_bytes": memory.peak_memory_bytes if memory else None,
            "others": [vars(one) | {"told_apart": one.told_apart} for one in self.others],
            "command": self.command,
            "distrust": list(self.distrust),
        }


def answers(run: Run) -> list[Answer]:
    """One answer for each model and batch size of which a case was measured."""
    groups: dict[tuple[str, int, str | None], list[Record]] = {}
    for record in run.records:
        if record.latency_ms is not None:
            case = Case.parse(record.case)
            groups.setdefault((str(case.model_id), case.batch, case.board), []).append(record)
    return [_answer(records, run) for records in groups.values()]


def verdict(run: Run) -> str:
    """The fastest case of a run in a sentence or two; empty where fewer than two were measured."""
    records = [record for record in run.records if record.latency_ms is not None]
    if len(records) < 2:
        return ""
    if run.distrust:
        return "No case is called the fastest, because the ratios of this run are not trusted."
    first = records[0]
    images = {record.case: Case.parse(record.case).batch for record in records}

    def an_image(record: Record) -> float:
        return beside(record, first, run.in_turn, 1).ratio / images[record.case]

    fastest, *others = sorted(records, key=an_image)
    rest = [
        one.scaled(images[fastest.case] / images[one.case])
        for one in (beside(record, fastest, run.in_turn, len(others)) for record in others)
    ]
    if all(one.low is None for one in rest):
        apart = all(one.ratio_of == SEPARATE for one in rest)
        how = f" by latencies of {SEPARATE}" if apart else ""
        return f"{fastest.case} was fastest{how}. No interval says how sure that is."
    separate = [one for one in rest if one.ratio_of == SEPARATE]
    ranked = _ranked(fastest.case, [one for one in rest if one.ratio_of != SEPARATE])
    if not separate:
        return ranked
    which = number_of(len(separate), "other case")
    return f"{ranked} Only latencies of {SEPARATE} rank {which}, which took no turns with it."


def _ranked(fastest: str, rest: Sequence[Slower]) -> str:
    """How sure it is that the fastest is, of the others that took turns with it."""
    alike = [one.case for one in rest if not one.told_apart]
    if not alike:
        bounds = f"({rest[0].low:.2f} to {rest[0].high:.2f})"
        return (
            f"{fastest} is fastest. The next, {rest[0].case}, takes {rest[0].ratio:.2f} times "
            f"as long an image {bounds}."
        )
    if len(alike) > 1 and 2 * len(alike) >= len(rest):
        return (
            f"Too noisy to rank: {len(alike)} of {len(rest)} other cases cannot be told apart from "
            f"the fastest, {fastest}."
        )
    names = ", ".join(alike[:MOST_NAMED]) + ", ..." * (len(alike) > MOST_NAMED)
    return f"{fastest} is fastest. These cannot be told apart from it: {names}."


def _answer(records: Sequence[Record], run: Run) -> Answer:
    """Cases in the order of their ratios to the first, which took turns; the fastest leads."""
    first, in_turn = records[0], run.in_turn
    ordered = sorted(records, key=lambda record: beside(record, first, in_turn, 1).ratio)
    fastest, *others = ordered
    compared = tuple(beside(record, fastest, in_turn, len(others)) for record in others)
    return Answer(fastest, compared, tuple(run.distrust))


def beside(record: Record, base: Record, in_turn: InTurn, comparisons: int) -> Slower:
    """A measured case beside another: in turns where they shared blocks, else by latencies."""
    together = in_turn.ratio(record.case, base.case, comparisons) if record is not base else None
    if together is not None:
        ratio = together.ratio
        return Slower(record.case, ratio.estimate, ratio.all_low, ratio.all_high, together.of)
    own, other = record.latency_ms, base.latency_ms
    assert own is not None, "only measured cases are compared"
    assert other is not None, "only measured cases are compared"
    return Slower(record.case, own.estimate / other.estimate, None, None, SEPARATE)


def no_interval(ratio_of: str) -> str:
    """Why a comparison has no bounds, where it has none."""
    return f"{SEPARATE if ratio_of == SEPARATE else 'one block'}: no interval"


def sentences(answer: Answer) -> list[str]:
    """The answer in words: what is fastest and what it costs, each other case, the command."""
    case, latency, memory = answer.case, answer.fastest.latency_ms, answer.fastest.memory
    assert latency is not None, "the fastest was measured"
    known = latency.low is not None and latency.high is not None
    bounds = f" ({latency.low:.3g} to {latency.high:.3g})" if known else ""
    used = memory.peak_memory_bytes if memory else None
    cost = f", {used / 2**20:.0f} MiB of memory" if used is not None else ""
    surely = "was fastest" if answer.distrust else "is fastest"
    verb = surely if answer.others else "takes"
    colon = ": " if answer.others else " "
    head = f"{case.model_id}, batch {case.batch}: {_setting(case)} {verb}{colon}"
    others = [*answer.distrust, *(f"  {_compared(one)}" for one in answer.others)]
    return [f"{head}{latency.estimate:.3g} ms{bounds}{cost}", *others, f"again   {answer.command}"]


def _compared(one: Slower) -> str:
    name = _setting(Case.parse(one.case))
    if one.low is None or one.high is None:
        return f"{name} takes {one.ratio:.2f} times as long ({no_interval(one.ratio_of)})"
    bounds = f"({one.low:.2f} to {one.high:.2f})"
    if one.told_apart:
        return f"{name} takes {one.ratio:.2f} times as long {bounds}"
    return f"{name} cannot be told apart: {one.ratio:.2f} times as long {bounds}"


def _setting(case: Case) -> str:
    board = f" on {case.board}" if case.board else ""
    return f"{case.backend} with {number_of(case.threads, 'thread')}{board}"
