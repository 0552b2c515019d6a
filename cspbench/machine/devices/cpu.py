"""The processor on which workers themselves run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from cspbench.machine.devices.spec import DEVICES, HOST, Device, PowerSource, Probe

_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


def cache_sizes(folder: Path = _CACHE) -> Iterator[tuple[str, int]]:
    """Level (``L1d``, ``L2``, ``L3``) and bytes of the data caches, from sysfs."""
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = (
                (index / name).read_text().strip() for name in ("type", "level", "size")
            )
        except OSError:
            continue
        if kind != "Instruction":
            number = int(size.rstrip("KM")) * (2**20 if size.endswith("M") else 2**10)
            yield f"L{level}{'d' if kind == 'Data' else ''}", number


def available() -> str | None:
    """Ceilings are measured with torch."""
    return None if importlib.util.find_spec("torch") else "PyTorch is not installed"


def probe(threads: int) -> AbstractContextManager[Probe]:
    """Torch's operators on the processor."""
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
