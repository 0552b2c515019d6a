"""The clock that surrounds an inference; tests replace it through its protocol."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in nanoseconds."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary origin."""


class MonotonicClock:
    """``time.perf_counter_ns``: CLOCK_MONOTONIC, not moved by changes of the wall clock."""

    now_ns = staticmethod(time.perf_counter_ns)
