"""State of a board before and after a launch, and a bounded wait to cool down."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from cspbench.machine.facts import governor
from cspbench.machine.sensors.tegra import clocks_locked, nvpmodel_mode
from cspbench.machine.sensors.thermal import hottest_c

#: A board hotter than this waits before a launch.
COOL_TO_C = 75.0
#: The longest wait.
COOL_SECONDS = 120.0
_POLL_SECONDS = 1.0
#: Settings in a state, which nothing but a person changes.
SETTINGS = ("governor", "nvpmodel", "jetson_clocks")


def state() -> dict[str, Any]:
    """Read what may change during a launch: temperature, load, governor, power mode, clocks."""
    return {
        "temperature_c": hottest_c(),
        "load_1m": round(os.getloadavg()[0], 2),
        "governor": governor(),
        "nvpmodel": nvpmodel_mode(),
        "jetson_clocks": clocks_locked(),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of the settings that differ between before and after the launch."""
    return [name for name in SETTINGS if before.get(name) != after.get(name)]


def cool_down(
    limit_c: float,
    seconds: float,
    read: Callable[[], float | None] = hottest_c,
    sleep: Callable[[float], None] = time.sleep,
    waiting: Callable[[str], None] = lambda _sentence: None,
) -> float:
    """Wait until the board is at most ``limit_c``, but never longer than ``seconds``.

    Args:
        limit_c: the temperature.
        seconds: bound of the wait.
        read: reads the temperature.
        sleep: waits some seconds.
        waiting: called with a sentence if there is something to wait for.

    Returns:
        the seconds waited.
    """
    waited = 0.0
    while waited < seconds:
        now = read()
        if now is None or now <= limit_c:
            break
        waiting(f"the board is hotter than {limit_c:g} °C; it cools down, at most {seconds:g} s")
        step = min(_POLL_SECONDS, seconds - waited)
        sleep(step)
        waited += step
    return waited
