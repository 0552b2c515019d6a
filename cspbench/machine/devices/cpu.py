"""The processor on which workers themselves run."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager

from cspbench.machine.devices.spec import DEVICES, HOST, Device, PowerSource, Probe
from cspbench.machine.sysfs import cache_sizes


def available() -> str | None:
    """Requires torch, which measures the ceilings."""
    return None if importlib.util.find_spec("torch") else "PyTorch is not installed"


def probe(threads: int) -> AbstractContextManager[Probe]:
    """Open torch's operators on the processor."""
    from cspbench.machine.devices._torch import opened

    return opened("cpu", threads, ("fp32", "bf16"), 1024, dict(cache_sizes()))


DEVICES.add(
    Device(
        name=HOST,
        summary="the processor",
        on_host=True,
        data_limit=True,
        # RAPL renews its counter about every millisecond.
        power=(
            PowerSource("cpu_energy_j", 0.001),
            PowerSource("board_power_w"),
            PowerSource("rails_power_w"),
        ),
        clocks=("cpu_frequency_max_mhz",),
        probe=probe,
        available=available,
    )
)
