"""Did a launch run with the threads that it was given?"""

from __future__ import annotations

from cspbench.machine.sensors.proc import Interference

#: The system counts processor time in ticks of 10 ms.
TICK_S = 0.01
#: A worker may use this share more than its threads: Python between two inferences.
SPARE = 0.3


def wrong_threads(wanted: int, told: object, seen: Interference | None) -> str | None:
    """Why a launch on the CPU did not run with the threads that it should have; None if it did.

    What the backend says counts, and what the system saw: the processor time of the window.
    """
    if told is not None and told != wanted:
        return f"{wanted} threads were asked for, the backend has {told}"
    if seen is None or seen.seconds <= 0 or seen.own_cpu_s is None:
        return None
    # Both ends of the window may be a tick off.
    used = (seen.own_cpu_s - 2 * TICK_S) / seen.seconds
    if used > (1 + SPARE) * wanted:
        return f"{wanted} threads were asked for, {used:.1f} processors were used"
    return None
