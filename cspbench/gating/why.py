"""Why a case became slower: the layers that made it, from one more block with the profiler on.

Both sides live together again. Bursts of each with its backend's profiler stand beside plain ones,
so a layer's share of an inference holds for the times of the verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle

from cspbench.errors import CspbenchError
from cspbench.gating.duet import SIDES, MakeArm, Side
from cspbench.gating.verdict import CaseVerdict
from cspbench.jobs.layers import LayerTimes
from cspbench.machine.processors import processor_of
from cspbench.runner.arms import Arm, Loaded
from cspbench.runner.interleaved import run_block

#: Rounds of the block.
ROUNDS = 20
#: As many layers are named as make up this share of the difference, but no more than so many.
SHARE, MOST = 0.8, 3


@dataclass(frozen=True)
class LayerShift:
    """Time of a layer in an inference on both sides, in ms; None where a side lacks it."""

    name: str
    op: str
    base_ms: float | None
    head_ms: float | None

    @property
    def change_ms(self) -> float:
        """How much longer it takes on the head."""
        return (self.head_ms or 0.0) - (self.base_ms or 0.0)

    @property
    def text(self) -> str:
        """``conv1 (Conv): 1.20 to 1.80 ms``."""
        if self.base_ms is None:
            times = f"new, {self.head_ms:.3g} ms"
        elif self.head_ms is None:
            times = f"gone, {self.base_ms:.3g} ms"
        else:
            times = f"{self.base_ms:.3g} to {self.head_ms:.3g} ms"
        return f"{self.name} ({self.op}): {times}"


def layer_shifts(
    base: LayerTimes, head: LayerTimes, base_ms: float, head_ms: float
) -> list[LayerShift]:
    """Layers of both sides joined by their names, the largest change first.

    Args:
        base: profile of the base.
        head: profile of the head.
        base_ms: what an inference of the base takes without a profiler.
        head_ms: the same of the head.
    """
    sides = _by_name(base, base_ms), _by_name(head, head_ms)
    shifts = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        both = [side.get(key) for side in sides]
        op = next(entry[0] for entry in both if entry is not None)
        old, new = (None if entry is None else entry[1] for entry in both)
        shifts.append(LayerShift(key[0], op, old, new))
    return sorted(shifts, key=lambda shift: -abs(shift.change_ms))


def _by_name(times: LayerTimes, ms: float) -> dict[tuple[str, int], tuple[str, float]]:
    """Operator and ms of each entry; entries of one name are numbered."""
    seen: Counter[str] = Counter()
    found = {}
    for name, op, ns, _ in times.entries:
        found[name, seen[name]] = op, ns / times.total_ns * ms
        seen[name] += 1
    return found


def why_text(shifts: Sequence[LayerShift], difference_ms: float) -> str:
    """Which layers make up the difference, in words."""
    named, sum_ms = [], 0.0
    for shift in shifts[:MOST]:
        if sum_ms >= SHARE * difference_ms or shift.change_ms <= 0:
            break
        named.append(shift)
        sum_ms += shift.change_ms
    if not named:
        return "no single layer stands out"
    share = sum_ms / difference_ms
    what = "one layer makes" if len(named) == 1 else f"{len(named)} layers make"
    return f"{what} {share * 100:.0f} % of it: {', '.join(shift.text for shift in named)}"


def with_why(verdict: CaseVerdict, make_arm: MakeArm) -> CaseVerdict:
    """A confirmed slowdown with the layers that made it, or the reason why they are not known."""
    assert verdict.ratio is not None
    assert verdict.base_ms is not None
    try:
        profiles = profiled_block(make_arm)
    except CspbenchError as error:
        return replace(verdict, sentence=f"{verdict.sentence}; its layers are not known: {error}")
    head_ms = verdict.base_ms * verdict.ratio
    shifts = layer_shifts(profiles["base"], profiles["head"], verdict.base_ms, head_ms)
    text = why_text(shifts, head_ms - verdict.base_ms)
    layers = tuple(map(asdict, shifts))
    return replace(verdict, sentence=f"{verdict.sentence}; {text}", layers=layers)


def profiled_block(make_arm: MakeArm) -> Mapping[Side, LayerTimes]:
    """Profiles of both sides, which took turns.

    Raises:
        CspbenchError: an arm was lost, or a backend has no profiler of layers.
    """
    profiles: dict[str, LayerTimes] = {}

    def rounds(loaded: Mapping[str, Loaded]) -> int:
        for side, arm in loaded.items():
            if arm.result is not None and not arm.result.profiles:
                raise CspbenchError(f"the {side}'s backend has no profiler of layers")
        return ROUNDS

    def keep(name: str, arm: Arm, _inference_ns: float) -> None:
        found = arm.profile()
        if found is None:
            raise CspbenchError(f"the {name}'s profile has too many entries")
        profiles[name] = found.layers

    run_block(
        {side: make_arm(side) for side in SIDES}, cycle([[0, 1], [1, 0]]), rounds,
        same_counts=True, all_or_none=True, processor=processor_of(0), afterwards=keep,
    )  # fmt: skip
    return {side: profiles[side] for side in SIDES}
