"""The doctor's check of a graphics card: what spoils or bounds measurements on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cspbench.errors import Unavailable
from cspbench.machine.check_result import CheckResult
from cspbench.machine.devices import cuda
from cspbench.machine.gpu_state import GpuState, read_state, settings

#: A card that is busier than this before a measurement is used by something else.
BUSY_PERCENT = 5


def gpu(read: Callable[[], GpuState] = read_state) -> Iterator[CheckResult]:
    """Driver, limits, clocks and other users of the card that workers take; nothing without one."""
    if cuda.on_tegra() or not cuda.nvidia_driver_loaded():
        return
    try:
        state = read()
    except Unavailable as reason:
        yield CheckResult(
            "GPU", f"a driver is loaded, but {reason}", "warn",
            "without NVML neither throttling, energy nor free memory of the card is known; in a "
            "container start it with --gpus all and NVIDIA_DRIVER_CAPABILITIES=compute,utility",
        )  # fmt: skip
        return
    yield CheckResult("GPU", f"{state.name}, driver {state.driver}", "good")
    lacking = cuda.available()
    if lacking is not None:
        yield CheckResult(
            "GPU library", lacking, "warn", "install a torch that was built for CUDA to measure it"
        )
    yield from _limits(state)
    yield from _modes(state)
    yield from _users(state)
    chosen = [f"{name}={value}" for name, value in settings().items()]
    if chosen:
        yield CheckResult(
            "GPU variables", ", ".join(chosen), "info",
            "they change what is measured, and are recorded: unset them to measure the defaults",
        )  # fmt: skip


def _limits(state: GpuState) -> Iterator[CheckResult]:
    if state.power_limit_w is not None:
        default = state.power_default_w
        lowered = default is not None and state.power_limit_w < 0.99 * default
        value = f"{state.power_limit_w:.0f} W"
        yield CheckResult(
            "GPU power limit", f"{value} of {default:.0f} W" if lowered else value,
            "warn" if lowered else "good",
            f"it lowers clocks under load: sudo nvidia-smi -pl {default:.0f}" if lowered else "",
        )  # fmt: skip
    if state.clock_most_mhz is not None:
        fixed = state.clock_mhz is not None and state.clock_mhz != state.clock_default_mhz
        value = f"up to {state.clock_most_mhz} MHz"
        yield CheckResult(
            "GPU clocks", f"{value}, applications at {state.clock_mhz} MHz" if fixed else value,
            "info",
            "clocks follow heat and power: to fix them, sudo nvidia-smi --lock-gpu-clocks=MHZ with "
            "a clock that the power limit allows (NVML does not tell locked clocks)",
        )  # fmt: skip
    if state.pcie is not None and state.pcie_most is not None:
        narrow = state.pcie[1] < state.pcie_most[1]
        text = "PCIe {}.0 x{}".format(*state.pcie)
        yield CheckResult(
            "GPU link", f"{text} of x{state.pcie_most[1]}" if narrow else text,
            "warn" if narrow else "good",
            "transfers are slower than they could be: use a slot with all lanes" if narrow else "",
        )  # fmt: skip


def _modes(state: GpuState) -> Iterator[CheckResult]:
    if state.persistence is False:
        yield CheckResult(
            "GPU persistence", "off", "warn",
            "the driver unloads between processes, so each starts at idle clocks: "
            "sudo nvidia-smi -pm 1",
        )  # fmt: skip
    if state.exclusive:
        yield CheckResult(
            "GPU compute mode", "exclusive process", "warn",
            "cases cannot live together on it: sudo nvidia-smi -c 0, or measure.together: 1",
        )  # fmt: skip
    if state.mig:
        yield CheckResult(
            "GPU MIG", "on", "warn",
            "a slice shares its clocks and power with its neighbours: measure on a whole card",
        )  # fmt: skip
    if state.ecc is not None:
        yield CheckResult("GPU ECC", "on" if state.ecc else "off", "info")


def _users(state: GpuState) -> Iterator[CheckResult]:
    busy = state.utilisation_percent is not None and state.utilisation_percent > BUSY_PERCENT
    if state.processes is None and state.utilisation_percent is None:
        yield CheckResult("GPU processes", "not visible here", "info")
        return
    count = "unknown" if state.processes is None else str(state.processes)
    load = "" if state.utilisation_percent is None else f", {state.utilisation_percent:.0f} % busy"
    others = bool(state.processes) or busy
    yield CheckResult(
        "GPU processes", f"{count}{load}", "warn" if others else "good",
        "other programs share the card (see nvidia-smi): stop them, or choose another card with "
        "CUDA_VISIBLE_DEVICES" if others else "",
    )  # fmt: skip
