"""Measure cases: blocks until an interim analysis decides each, or until an arm is lost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, median
from typing import Protocol

from cspbench.backends.spec import BACKENDS, device_of
from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.gating.decide import (
    INTERIM_ANALYSES,
    MOVED,
    Decision,
    Finding,
    InterimAnalysis,
    decide,
    starvation,
    waiting,
)
from cspbench.gating.duet import PAIRS, SIDES, Block, MakeArm, Side, measure_blocks
from cspbench.gating.prepare import Pair, Prepared
from cspbench.gating.sides import OpenSide
from cspbench.gating.verdict import Unmeasured, percent
from cspbench.jobs.load import LoadRequest
from cspbench.machine.devices.spec import DEVICES
from cspbench.runner.arms import ArmLostError, ArmSpec, WorkerArm
from cspbench.store.blocks import DEVICE, ELAPSED, RUNNING
from cspbench.suite.suite import Gate, Measure

#: Longest warm-up of an arm, because every block repeats it.
WARMUP_SECONDS = 1.0


@dataclass
class CaseData:
    """The blocks of one measurement and the decision that they lead to.

    Both sides keep to one processor and alternate every few milliseconds, so that neighbouring
    bursts meet the same machine. `Block.estimate` says what they show.

    With ``one_thread`` (on a processor) a burst knows how long its process did not run, be it that
    it waited for the processor or blocked, and running time decides. Elsewhere elapsed time does.
    """

    outcome: Decision | Unmeasured
    blocks: list[Block] = field(default_factory=list)
    #: Status of the arm that was lost; None if no arm was lost.
    status: Status | None = None
    one_thread: bool = False

    @property
    def seconds(self) -> float:
        """How long the blocks took; one that ended with a lost arm is not among them."""
        return math.fsum(block.seconds for block in self.blocks)

    @property
    def moved(self) -> float | None:
        """The estimate that a second measurement is to confirm; None without such a finding."""
        if isinstance(self.outcome, Decision) and self.outcome.finding in MOVED:
            return self.outcome.estimate
        return None

    @property
    def of(self) -> str:
        """What the ratios are of."""
        if self.one_thread and self._knows_running:
            return RUNNING
        by_device = self.blocks and all(block.by_device for block in self.blocks)
        return DEVICE if by_device else ELAPSED

    @property
    def _knows_running(self) -> bool:
        return all(block.knows_running for block in self.blocks)

    @property
    def estimates(self) -> list[float]:
        """One log-ratio a block, of the time that decides."""
        return self.running_estimates if self.of == RUNNING else self.elapsed_estimates

    @property
    def elapsed_estimates(self) -> list[float]:
        """One log-ratio a block, of elapsed time.

        Where running time decides that is running time and what each side waited in all.
        """
        if self.of == RUNNING:
            return self.with_all_waits
        return [block.estimate(*map(self._clock(block), SIDES)) for block in self.blocks]

    @property
    def with_all_waits(self) -> list[float]:
        """One log-ratio a block, of running time and of what each side waited in all."""
        if not self._knows_running:
            return self.elapsed_estimates
        waits = [block.waited("head") - block.waited("base") for block in self.blocks]
        return [ran + wait for ran, wait in zip(self.running_estimates, waits, strict=True)]

    @property
    def running_estimates(self) -> list[float]:
        """One log-ratio a block, of the time without waiting for a processor, if that is known."""
        if not self._knows_running:
            return self.elapsed_estimates
        return [block.estimate(*map(block.running_ns, SIDES)) for block in self.blocks]

    @property
    def elapsed(self) -> float | None:
        """The log-ratio of elapsed time, by the host's clock; None if nothing was measured."""
        if self.of != DEVICE:
            return fmean(self.elapsed_estimates) if self.blocks else None
        return fmean(block.estimate(*map(block.host_ns, SIDES)) for block in self.blocks)

    def _clock(self, block: Block) -> Callable[[Side], list[float]]:
        """What tells elapsed times: a device's events, if all blocks have them."""
        return block.inference_ns if self.of == DEVICE else block.host_ns

    def median_ms(self, side: Side) -> float | None:
        """Median over bursts of the time of an inference, of the time that decides."""
        running = self.of == RUNNING
        times = [
            ns
            for block in self.blocks
            for ns in (block.running_ns if running else self._clock(block))(side)
        ]
        return median(times) / 1e6 if times else None


def measure_cases(
    makes: Mapping[str, MakeArm],
    gate: Gate,
    interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES,
    report: Callable[[str, Decision], None] = lambda _name, _decision: None,
    pairs: int = PAIRS,
    *,
    one_thread: Collection[str] = (),
    earlier: Mapping[str, float] = {},
    keep: Callable[[Mapping[str, CaseData]], None] = lambda _: None,
) -> dict[str, CaseData]:
    """Measure blocks of each case until an interim analysis decides it or an arm of it is lost.

    Args:
        makes: by the name of a case what makes the arms of both sides.
        gate: smallest effect and tolerance.
        interim: the interim analyses.
        report: gets the name of a case and the decision so far after each of its blocks.
        pairs: pairs of bursts in a block.
        one_thread: cases whose both sides work with one thread on a processor, so that running
            time decides.
        earlier: of a second measurement the estimates of the first.
        keep: gets what was measured when it is over, also where it was interrupted.
    """
    nothing = Unmeasured("arm_ended", "nothing was measured")
    found = {name: CaseData(nothing, one_thread=name in one_thread) for name in makes}
    undecided = dict(makes)
    stream = measure_blocks(undecided, pairs)
    with contextlib.ExitStack() as stack:
        stack.callback(keep, found)
        stack.enter_context(contextlib.closing(stream))  # type: ignore[type-var]
        for name, block in stream:
            data = found[name]
            if isinstance(block, ArmLostError):
                data.outcome = Unmeasured(block.reason, str(block))
                data.status = block.outcome.status
                continue
            data.blocks.append(block)
            decision = decide(
                data.estimates, gate.min_effect, gate.tolerance, interim, earlier.get(name)
            )
            report(name, decision)
            data.outcome = decision
            if decision.finding is not Finding.GO_ON:
                data.outcome = _checked(data, decision, gate.min_effect)
                del undecided[name]
    return found


def measure_case(
    make_arm: MakeArm,
    gate: Gate,
    interim: Sequence[InterimAnalysis] = INTERIM_ANALYSES,
    pairs: int = PAIRS,
    *,
    one_thread: bool = False,
    earlier: float | None = None,
) -> CaseData:
    """Measure a single case."""
    only = "the case"
    alone = [only] if one_thread else []
    before = {} if earlier is None else {only: earlier}
    return measure_cases(
        {only: make_arm}, gate, interim, pairs=pairs, one_thread=alone, earlier=before
    )[only]


def _checked(data: CaseData, decision: Decision, min_effect: float) -> Decision | Unmeasured:
    """The decision with what waiting for a processor has to do with it."""
    elapsed, running = data.elapsed_estimates, data.running_estimates
    if data.of == RUNNING:
        return replace(decision, waiting=waiting(elapsed, running, min_effect))
    moved = decision.finding in (Finding.SLOWER, Finding.FASTER)
    # Waits in lumps are in no median: whether one side was held back unseen, their sums say.
    shift = starvation(elapsed if moved else data.with_all_waits, running, min_effect, moved=moved)
    if shift is None:
        return decision
    side = "head" if shift > 0 else "base"
    text = f"waiting for a processor made the {side} slower by {percent(abs(shift))}"
    return Unmeasured("starved", text, max(abs(shift), abs(decision.estimate)))


def works_alone(case: Case) -> bool:
    """Whether a case works with one thread on a processor."""
    backend = case.backend
    device = device_of(BACKENDS.get(backend.name), dict(backend.options))
    return case.threads == 1 and DEVICES.get(device).on_host


class ArmsOf(Protocol):
    """Makes what makes the arms of a pair; with ``layers`` its backends profile them, too."""

    def __call__(
        self, pair: Pair, base: OpenSide, head: OpenSide, *, layers: bool = False
    ) -> MakeArm:
        """The two sides' arms."""


def arms_of(pair: Pair, base: OpenSide, head: OpenSide, *, layers: bool = False) -> MakeArm:
    """Real workers for both sides of a pair."""
    sides: dict[Side, tuple[OpenSide, Prepared]] = {
        "base": (base, pair.base),
        "head": (head, pair.head),
    }

    def make(side: Side) -> WorkerArm:
        opened_side, prepared = sides[side]
        return WorkerArm(
            ArmSpec(
                side,
                replace(load_request(prepared, opened_side.suite.measure), layers=layers),
                timeout_seconds=opened_side.suite.measure.timeout_seconds,
                python=opened_side.python,
                path=opened_side.path,
            )
        )

    return make


def load_request(prepared: Prepared, measure: Measure) -> LoadRequest:
    """The request that makes an arm load a case."""
    backend = prepared.case.backend
    return LoadRequest(
        prepared.case,
        Path(prepared.artifact),
        Path(prepared.reference),
        device=device_of(BACKENDS.get(backend.name), dict(backend.options)),
        seed=measure.seed,
        warmup_seconds=min(measure.warmup_seconds, WARMUP_SECONDS),
    )
