"""How much longer injected work makes an inference, by the bursts without it beside each burst.

Both bursts are of one process, a few milliseconds apart, so that neither the machine nor what a
process draws once is in their quotient. What the extra work does to the caches of the next
inference is in it. The second of the two begins with the caches of the first, and in each second
pair of sides the first of the two with those of the other side. The two change places after every
two bursts, so each of them stands at each of these four places, and what that makes cancels.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from cspbench.core.text import percent
from cspbench.gating.duet import Block, MakeArm, measure_blocks
from cspbench.measure.statistics import student_bounds
from cspbench.runner.arms import ArmLostError, Burst

#: A size is named if it is known to so much of an inference's time.
KNOWN_SHARE = 0.005
#: Most blocks in which one size is measured, those of the gate among them.
MOST_BLOCKS = 72


@dataclass(frozen=True)
class Injected:
    """A share of extra work: what was ``meant``, and what was seen, with its 95 % interval.

    The interval is Student's over blocks. Nothing was seen where the bursts have none beside them.
    """

    meant: float
    seen: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def half(self) -> float | None:
        """Half of the interval's width."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def is_known(self) -> bool:
        """Whether it is known well enough to be named; that there is none always is."""
        return not self.meant or (self.half is not None and self.half <= KNOWN_SHARE)

    @property
    def text(self) -> str:
        """``3.4 ± 0.1 %``, or ``not known (meant: 3 %)``: not to half a percent."""
        if not self.meant:
            return "0 %"
        if self.seen is None or self.half is None or not self.is_known:
            return f"not known (meant: {percent(self.meant, 0)})"
        return f"{self.seen * 100:.1f} ± {percent(self.half, 1)}"


def injected(meant: float, blocks: Sequence[Block], *, running: bool) -> Injected:
    """The size of the extra work of the head's processes.

    Args:
        meant: the share that was asked for.
        blocks: of the head with the extra work; each with a burst without it beside each burst.
        running: whether the time without waiting for a processor counts.
    """
    seen = [_seen(block, running) for block in blocks]
    logs = [value for value in seen if value is not None]
    if not meant or len(logs) < 2 or len(logs) < len(seen):
        return Injected(meant)
    low, high = student_bounds(logs)
    assert low is not None
    assert high is not None
    return Injected(meant, *map(math.expm1, (fmean(logs), low, high)))


def until_known(
    meant: float, blocks: Sequence[Block], make: MakeArm, *, running: bool
) -> list[Block]:
    """These blocks, and more of the same arms until the size of the extra work is known.

    Args:
        meant: the share that was asked for.
        blocks: those of a gate.
        make: makes calibrated arms.
        running: as for `injected`.
    """
    found = list(blocks)
    if len(found) < 2 or injected(meant, found, running=running).seen is None:
        return found  # nothing was measured, or these arms tell no size
    with contextlib.closing(measure_blocks({"size": make})) as more:  # type: ignore[type-var]
        while len(found) < MOST_BLOCKS and not injected(meant, found, running=running).is_known:
            _, block = next(more)
            if isinstance(block, ArmLostError):
                break
            found.append(block)
    return found


def beside_seconds(blocks: Sequence[Block]) -> float:
    """How long the bursts without the extra work took."""
    bursts = [burst for block in blocks for burst in (*block.base, *block.head)]
    results = [burst.result.without_extra for burst in bursts if burst.result is not None]
    return math.fsum((result.wall_ns or 0) / 1e9 for result in results if result is not None)


def _seen(block: Block, running: bool) -> float | None:
    """Of one block: log of the quotient of an inference with and without; None if not measured."""
    longer = [block.head[number] for number in block.steady]
    results = [burst.result.without_extra if burst.result else None for burst in longer]
    plain = [Burst(one.ns, one.count, one.lost_ns) for one in results if one is not None]
    if len(plain) < len(longer) or not all(block.kinds):
        return None
    times = [
        [burst.running_ns if running else burst.inference_ns for burst in bursts]
        for bursts in (plain, longer)
    ]
    return block.estimate(*times)
