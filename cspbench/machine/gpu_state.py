"""What NVML says of the card that CUDA takes first: settings that bound it, and its users."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cspbench.errors import Unavailable
from cspbench.machine.sensors.nvml import first_device

#: Variables that change what is measured on a card and that a user may need. They are recorded.
SETTINGS = (
    "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_MODULE_LOADING", "CUDA_DEVICE_MAX_CONNECTIONS", "CUDA_FORCE_PTX_JIT",
    "CUDA_CACHE_DISABLE", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE",
)  # fmt: skip


@dataclass(frozen=True)
class GpuState:
    """Settings and load of one card; what it or its driver does not tell is None.

    ``power_limit_w`` is enforced, ``power_default_w`` what the card came with. ``clock_mhz`` is the
    applications clock of the SMs, ``clock_default_mhz`` and ``clock_most_mhz`` the default one and
    the highest. ``pcie`` and ``pcie_most`` are (generation, lanes). ``processes`` counts processes
    that compute or draw on it, as far as the driver lists them.
    """

    name: str | None = None
    driver: str | None = None
    power_limit_w: float | None = None
    power_default_w: float | None = None
    clock_mhz: int | None = None
    clock_default_mhz: int | None = None
    clock_most_mhz: int | None = None
    persistence: bool | None = None
    exclusive: bool | None = None
    ecc: bool | None = None
    mig: bool | None = None
    pcie: tuple[int, int] | None = None
    pcie_most: tuple[int, int] | None = None
    processes: int | None = None
    utilisation_percent: float | None = None

    def facts(self) -> dict[str, Any]:
        """Those that are facts of the machine in a run."""
        return {
            "gpu_power_limit_w": self.power_limit_w,
            "gpu_clock_mhz": self.clock_mhz,
            "gpu_ecc": self.ecc,
            "gpu_mig": self.mig,
            "gpu_persistence": self.persistence,
        }


def read_state(nvml: Any = None) -> GpuState:
    """Read the card.

    Args:
        nvml: pynvml, or what stands in for it.

    Raises:
        Unavailable: there is no pynvml, no driver, or no card for this process.
    """
    if nvml is None:
        try:
            import pynvml
        except ImportError:
            raise Unavailable("pynvml is not installed (pip install nvidia-ml-py)") from None
        nvml = pynvml
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise Unavailable(f"NVML reports: {error}") from None
    try:
        if not nvml.nvmlDeviceGetCount():
            raise Unavailable("NVML lists no device")
        return _state(nvml, first_device(nvml))
    except nvml.NVMLError as error:  # the variable names a card that is not there
        raise Unavailable(f"NVML reports: {error}") from None
    finally:
        nvml.nvmlShutdown()


def _state(nvml: Any, card: Any) -> GpuState:
    def ask(read: Callable[[], Any]) -> Any:
        # A card does not support all questions, and an old pynvml does not have all functions.
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            return read()
        return None

    def watts(read: Callable[[], Any]) -> float | None:
        milliwatts = ask(read)
        return None if milliwatts is None else milliwatts / 1000

    def link(which: str) -> tuple[int, int] | None:
        generation = ask(lambda: getattr(nvml, f"nvmlDeviceGet{which}PcieLinkGeneration")(card))
        width = ask(lambda: getattr(nvml, f"nvmlDeviceGet{which}PcieLinkWidth")(card))
        return None if generation is None or width is None else (generation, width)

    def enabled(read: Callable[[], Any]) -> bool | None:
        answer = ask(read)
        if isinstance(answer, list | tuple):  # now, and after the next reset
            answer = answer[0]
        return None if answer is None else bool(answer)

    listed = [
        ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(card)),
        ask(lambda: nvml.nvmlDeviceGetGraphicsRunningProcesses(card)),
    ]
    known = {process.pid for processes in listed if processes is not None for process in processes}
    exclusive = ask(lambda: nvml.nvmlDeviceGetComputeMode(card))
    driver = ask(nvml.nvmlSystemGetDriverVersion)
    sm = nvml.NVML_CLOCK_SM
    return GpuState(
        name=_text(ask(lambda: nvml.nvmlDeviceGetName(card))),
        driver=_text(driver),
        power_limit_w=watts(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(card)),
        power_default_w=watts(lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(card)),
        clock_mhz=ask(lambda: nvml.nvmlDeviceGetApplicationsClock(card, sm)),
        clock_default_mhz=ask(lambda: nvml.nvmlDeviceGetDefaultApplicationsClock(card, sm)),
        clock_most_mhz=ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(card, sm)),
        persistence=enabled(lambda: nvml.nvmlDeviceGetPersistenceMode(card)),
        exclusive=None if exclusive is None else exclusive == _EXCLUSIVE_PROCESS,
        ecc=enabled(lambda: nvml.nvmlDeviceGetEccMode(card)),
        mig=enabled(lambda: nvml.nvmlDeviceGetMigMode(card)),
        pcie=link("Curr"),
        pcie_most=link("Max"),
        processes=None if listed == [None, None] else len(known),
        utilisation_percent=ask(lambda: nvml.nvmlDeviceGetUtilizationRates(card).gpu),
    )


#: NVML_COMPUTEMODE_EXCLUSIVE_PROCESS: one process a card, so nothing takes turns on it.
_EXCLUSIVE_PROCESS = 3


def _text(value: Any) -> str | None:
    """Old versions of pynvml give bytes."""
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


def settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The user's variables that change what is measured on a card."""
    return {name: environment[name] for name in SETTINGS if name in environment}
