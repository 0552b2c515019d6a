"""Checks that a launch ran with the threads of its case."""

from __future__ import annotations

from cspbench.machine.sensors.proc import Interference

#: The system counts processor time in ticks of 10 ms.
TICK_S = 0.01
#: A worker may use this share more processor time than its threads: Python between inferences.
SPARE = 0.3


def wrong_threads(threads: int, reported: object, window: Interference | None) -> str | None:
    """Why a launch on the CPU did not run with its number of threads; None if it did.

    Checked are the number that the backend reports, and the processor time of the window.
    """
    if reported is not None and reported != threads:
        return f"{threads} threads were asked for, the backend has {reported}"
    if window is None or window.seconds <= 0 or window.own_cpu_s is None:
        return None
    # Both ends of the window may be a tick off.
    used = (window.own_cpu_s - 2 * TICK_S) / window.seconds
    if used > (1 + SPARE) * threads:
        return f"{threads} threads were asked for, {used:.1f} processors were used"
    return None
