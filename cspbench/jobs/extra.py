"""Extra work of a known size behind each inference, to see what an instrument can see.

How much longer it makes an inference is measured in turns: before or after each burst comes one of
as many inferences without it, in the same process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeAlias

#: Turns the extra work off (False) and on again.
Switch: TypeAlias = Callable[[bool], None]


class ExtraWork:
    """An inference, after which its thread is busy for a share of the time that it took.

    What that does to the caches of the next inference comes on top. It holds at any speed of the
    machine. ``now`` is the clock: with one thread on a processor that of the process, which stands
    still while others run.
    """

    def __init__(
        self,
        infer: Callable[[], None],
        share: float,
        now: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self._infer, self._share, self._now = infer, share, now
        self._on = True

    def switch(self, on: bool) -> None:
        """Turn the extra work off and on."""
        self._on = on

    def __call__(self) -> None:
        now = self._now
        start = now()
        self._infer()
        end = now()
        until = end + self._share * (end - start) if self._on else 0
        while now() < until:
            pass
