"""Why a case became slower: the layers that made it, from some more blocks with the profiler on.

Both sides live together again. Bursts of each with its backend's profiler stand beside plain ones,
so a layer's share of an inference holds for the times of the verdict. Only blocks are independent:
what a layer takes longer has an interval over them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle
from statistics import fmean
from typing import TypeAlias

from cspbench.analysis.layer import Layer
from cspbench.analysis.record import Analysis
from cspbench.errors import CspbenchError
from cspbench.gating.duet import SIDES, ElsewhereArms, MakeArm, Side, starting_order
from cspbench.gating.static import twins
from cspbench.gating.verdict import CaseVerdict
from cspbench.jobs.layers import LayerTimes
from cspbench.machine.processors import processor_of
from cspbench.measure.statistics import student_bounds
from cspbench.runner.arms import Arm, Loaded
from cspbench.runner.interleaved import run_block
from cspbench.views.layer_join import join

#: Profiled blocks, and rounds of each.
BLOCKS, ROUNDS = 4, 20
#: As many layers are named as make up this share of the difference, but no more than so many.
SHARE, MOST = 0.8, 3
#: Below the one share of the difference no layer is worth a name, above the other some gained.
LEAST_SHARE, MOST_SHARE = 0.1, 1.2


class NoProfileError(CspbenchError):
    """A side's backend cannot tell the times of its layers."""


@dataclass(frozen=True)
class LayerShift:
    """Time of a layer in an inference on both sides, in ms; None where a side lacks it.

    ``low_ms`` and ``high_ms`` bound what it takes longer on the head with 95 % confidence, by
    Student over blocks; None with one block.
    """

    name: str
    op: str
    base_ms: float | None
    head_ms: float | None
    low_ms: float | None = None
    high_ms: float | None = None

    @property
    def change_ms(self) -> float:
        """How much longer it takes on the head."""
        return (self.head_ms or 0.0) - (self.base_ms or 0.0)

    @property
    def is_longer(self) -> bool:
        """Whether it surely takes longer on the head."""
        return (self.change_ms if self.low_ms is None else self.low_ms) > 0

    @property
    def range_text(self) -> str:
        """``+0.55 to +0.65``, or nothing with one block."""
        if self.low_ms is None or self.high_ms is None:
            return ""
        return f"{self.low_ms:+.2g} to {self.high_ms:+.2g}"

    @property
    def text(self) -> str:
        """``conv1 (Conv): 1.2 to 1.8 ms (+0.55 to +0.65 ms)``."""
        if self.base_ms is None:
            times = f"new, {self.head_ms:.3g} ms"
        elif self.head_ms is None:
            times = f"gone, {self.base_ms:.3g} ms"
        else:
            times = f"{self.base_ms:.3g} to {self.head_ms:.3g} ms"
        interval = f" ({self.range_text} ms)" if self.range_text else ""
        return f"{self.name} ({self.op}): {times}{interval}"


def layer_shifts(
    blocks: Sequence[Mapping[Side, LayerTimes]],
    base_ms: float,
    head_ms: float,
    base: Analysis | None = None,
    head: Analysis | None = None,
) -> list[LayerShift]:
    """Layers of both sides, each beside what it is on the other one; the largest change first.

    A layer that came or went shifts the names of those after it. So they are joined by what both
    analyses say that they compute, and by name only what has no other side then: an entry that is
    none of their layers, or whose layer is known on one side.

    Args:
        blocks: profiles of both sides in each block.
        base_ms: what an inference of the base takes without a profiler.
        head_ms: the same of the head.
        base: analysis of the base.
        head: analysis of the head; both are needed.
    """
    layers: tuple[Sequence[Layer], Sequence[Layer]] = ((), ())
    twin: Mapping[int, int] = {}
    if base is not None and head is not None:
        layers, twin = (base.layers, head.layers), twins(base, head)
    before = [_by_layer(block["base"], base_ms, layers[0]) for block in blocks]
    after = _by_name(
        before, [_by_layer(block["head"], head_ms, layers[1], twin) for block in blocks]
    )
    shifts = []
    for key in dict.fromkeys(key for side in (*after, *before) for key in side):
        name, op, _ = next(side[key] for side in (*after, *before) if key in side)
        old, new = (
            [side[key][2] if key in side else 0.0 for side in sides] for sides in (before, after)
        )
        low, high = student_bounds([now - once for once, now in zip(old, new, strict=True)])
        old_ms, new_ms = (
            fmean(times) if any(key in side for side in sides) else None
            for sides, times in ((before, old), (after, new))
        )
        shifts.append(LayerShift(name, op, old_ms, new_ms, low, high))
    return sorted(shifts, key=lambda shift: -abs(shift.change_ms))


#: Name, operator and ms of the entries of a profile, by what they are.
_Entries: TypeAlias = dict[tuple[object, int], tuple[str, str, float]]


def _by_name(before: Sequence[_Entries], after: Sequence[_Entries]) -> list[_Entries]:
    """The head's entries; one without another side has the key of such a one of its name."""
    old, new = ({key: entry[:2] for side in sides for key, entry in side.items()}
                for sides in (before, after))  # fmt: skip
    lone = defaultdict(list)
    for key, named in old.items():
        if key not in new:
            lone[named].append(key)
    keys = {key: lone[named].pop(0) for key, named in new.items() if key not in old and lone[named]}
    return [{keys.get(key, key): entry for key, entry in side.items()} for side in after]


def _by_layer(
    times: LayerTimes, ms: float, layers: Sequence[Layer], twin: Mapping[int, int] | None = None
) -> _Entries:
    """Name, operator and ms of each entry by the layer of the base that it is, or else by its name.

    Entries of one layer or name are numbered. ``twin`` is that of `twins`, for the head.
    """
    seen: Counter[object] = Counter()
    found: _Entries = {}
    for row in join(times, layers):
        key: object = row.name
        if row.layers:
            number = row.layers[0]
            key = number if twin is None else twin.get(number, ("head", number))
        found[key, seen[key]] = row.name, row.op, row.ns / times.total_ns * ms
        seen[key] += 1
    return found


def why_text(shifts: Sequence[LayerShift], difference_ms: float) -> str:
    """Which layers make up the difference, in words."""
    named: list[LayerShift] = []
    sum_ms = 0.0
    for shift in (one for one in shifts if one.is_longer):
        if sum_ms >= SHARE * difference_ms or len(named) == MOST:
            break
        named.append(shift)
        sum_ms += shift.change_ms
    if not named or sum_ms < LEAST_SHARE * difference_ms:
        return "no single layer stands out"
    share = sum_ms / difference_ms
    what = "one layer makes" if len(named) == 1 else f"{len(named)} layers make"
    text = f"{what} {share * 100:.0f} % of it: {', '.join(shift.text for shift in named)}"
    return f"{text} (other layers became faster)" if share > MOST_SHARE else text


def with_why(
    verdict: CaseVerdict, make_arm: MakeArm, base: Analysis | None, head: Analysis | None
) -> CaseVerdict:
    """A confirmed slowdown with the layers that made it, or the reason why they are not known."""
    assert verdict.ratio is not None
    assert verdict.base_ms is not None
    try:
        blocks = [profiled_block(make_arm, number) for number in range(BLOCKS)]
    except CspbenchError as error:
        return replace(verdict, sentence=f"{verdict.sentence}; its layers are not known: {error}")
    head_ms = verdict.base_ms * verdict.ratio
    shifts = layer_shifts(blocks, verdict.base_ms, head_ms, base, head)
    text = why_text(shifts, head_ms - verdict.base_ms)
    layers = tuple(map(asdict, shifts))
    return replace(verdict, sentence=f"{verdict.sentence}; {text}", layers=layers)


def profiled_block(make_arm: MakeArm, number: int = 0) -> Mapping[Side, LayerTimes]:
    """Profiles of both sides, which took turns; blocks keep to the processors in turn.

    Raises:
        ArmLostError: an arm was lost.
        NoProfileError: a backend has no profiler of layers, or too many entries.
    """
    if isinstance(make_arm, ElsewhereArms):
        return make_arm.profiled(number)
    profiles: dict[str, LayerTimes] = {}

    def rounds(loaded: Mapping[str, Loaded]) -> int:
        for side, arm in loaded.items():
            if arm.result is not None and not arm.result.profiles:
                raise NoProfileError(f"the {side}'s backend has no profiler of layers")
        return ROUNDS

    def keep(name: str, arm: Arm, _inference_ns: float) -> None:
        found = arm.profile()
        if found is None:
            raise NoProfileError(f"the {name}'s profile has too many entries")
        profiles[name] = found.layers

    run_block(
        {side: make_arm(side) for side in starting_order(number)}, cycle([[0, 1], [1, 0]]), rounds,
        same_counts=True, all_or_none=True, processor=processor_of(number), afterwards=keep,
    )  # fmt: skip
    return {side: profiles[side] for side in SIDES}
