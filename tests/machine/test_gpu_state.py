# ruff: noqa: N802 - the names are pynvml's
"""What the doctor and a run's facts say of a graphics card, by a stand-in for pynvml."""

import os
import types

import pytest

from cspbench.errors import Unavailable
from cspbench.machine import doctor_gpu, facts, gpu_state
from cspbench.machine.doctor import CHECKS
from cspbench.machine.gpu_state import GpuState, read_state, settings


class Card(types.ModuleType):
    """An H100 at a lowered limit, in a slot of half its lanes, which a stranger uses."""

    class NVMLError(Exception):
        pass

    NVML_CLOCK_SM = 1

    def __init__(self, **answers):
        super().__init__("pynvml")
        self.answers, self.open = answers, 0

    def nvmlInit(self):
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return self.answers.get("count", 1)

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetName(self, card):
        return b"NVIDIA H100"

    def nvmlSystemGetDriverVersion(self):
        return "580.1"

    def nvmlDeviceGetEnforcedPowerLimit(self, card):
        return 350_000

    def nvmlDeviceGetPowerManagementDefaultLimit(self, card):
        return 700_000

    def nvmlDeviceGetApplicationsClock(self, card, clock):
        raise self.NVMLError("not supported")

    def nvmlDeviceGetMaxClockInfo(self, card, clock):
        return 1980

    def nvmlDeviceGetPersistenceMode(self, card):
        return 0

    def nvmlDeviceGetComputeMode(self, card):
        return 3

    def nvmlDeviceGetEccMode(self, card):
        return [1, 1]

    def nvmlDeviceGetMigMode(self, card):
        return [0, 1]

    def nvmlDeviceGetCurrPcieLinkGeneration(self, card):
        return 5

    def nvmlDeviceGetCurrPcieLinkWidth(self, card):
        return 8

    def nvmlDeviceGetMaxPcieLinkGeneration(self, card):
        return 5

    def nvmlDeviceGetMaxPcieLinkWidth(self, card):
        return 16

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        return [types.SimpleNamespace(pid=7), types.SimpleNamespace(pid=8)]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card):
        return [types.SimpleNamespace(pid=7)]

    def nvmlDeviceGetUtilizationRates(self, card):
        return types.SimpleNamespace(gpu=40, memory=1)


@pytest.fixture(autouse=True)
def _first_card(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in gpu_state.SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def driver(monkeypatch):
    """A machine with the driver, and a torch for CUDA."""
    monkeypatch.setattr(doctor_gpu.cuda, "on_tegra", lambda: False)
    monkeypatch.setattr(doctor_gpu.cuda, "nvidia_driver_loaded", lambda: True)
    monkeypatch.setattr(doctor_gpu.cuda, "available", lambda: None)


def test_a_card_is_read_and_what_it_does_not_support_is_left_out():
    card = Card()
    state = read_state(card)
    assert card.open == 0
    assert state == GpuState(
        name="NVIDIA H100", driver="580.1", power_limit_w=350.0, power_default_w=700.0,
        clock_most_mhz=1980, persistence=False, exclusive=True, ecc=True, mig=False, pcie=(5, 8),
        pcie_most=(5, 16), processes=2, utilisation_percent=40,
    )  # fmt: skip
    assert state.facts() == {
        "gpu_power_limit_w": 350.0, "gpu_clock_mhz": None, "gpu_ecc": True, "gpu_mig": False,
        "gpu_persistence": False,
    }  # fmt: skip


def test_no_card_for_this_process_is_a_reason():
    with pytest.raises(Unavailable, match="NVML lists no device"):
        read_state(Card(count=0))


def test_the_doctor_names_what_spoils_a_measurement_with_its_remedy(driver):
    found = {line.check: line for line in doctor_gpu.gpu(lambda: read_state(Card()))}
    warned = {check for check, line in found.items() if line.verdict == "warn"}
    assert warned == {"GPU power limit", "GPU link", "GPU persistence", "GPU compute mode",
                      "GPU processes"}  # fmt: skip
    assert all(found[check].remedy for check in warned)
    assert found["GPU power limit"].value == "350 W of 700 W"
    assert "nvidia-smi -pl 700" in found["GPU power limit"].remedy
    assert found["GPU link"].value == "PCIe 5.0 x8 of x16"
    assert found["GPU processes"].value == "2, 40 % busy"


def test_a_quiet_card_with_its_own_limits_is_good(driver):
    quiet = GpuState(
        name="NVIDIA T4", driver="580.1", power_limit_w=70.0, power_default_w=70.0,
        clock_most_mhz=1590, persistence=True, exclusive=False, ecc=True, mig=False, pcie=(3, 16),
        pcie_most=(3, 16), processes=0, utilisation_percent=0,
    )  # fmt: skip
    assert [line.check for line in doctor_gpu.gpu(lambda: quiet) if line.verdict == "warn"] == []


def test_a_driver_without_nvml_says_what_a_container_lacks(driver):
    def read():
        raise Unavailable("NVML lists no device")

    (line,) = doctor_gpu.gpu(read)
    assert (line.value, line.verdict) == ("a driver is loaded, but NVML lists no device", "warn")
    assert "--gpus all" in line.remedy


def test_without_a_driver_the_doctor_says_nothing_of_a_gpu(monkeypatch):
    monkeypatch.setattr(doctor_gpu.cuda, "nvidia_driver_loaded", lambda: False)
    assert list(doctor_gpu.gpu()) == []
    assert doctor_gpu.gpu in CHECKS


def test_variables_that_change_results_are_facts_and_the_doctors(driver, monkeypatch):
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    assert settings() == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    assert facts.fingerprint(())["gpu_settings"] == settings()
    *_, line = doctor_gpu.gpu(GpuState)
    assert line.value == "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True"


def test_the_named_card_is_counted_by_the_bus_as_workers_do(monkeypatch):
    """CUDA's own order is by speed: its first card may be another one than the workers'."""
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    seen = []
    monkeypatch.setattr(
        facts, "first_device", lambda: seen.append(os.environ.get("CUDA_DEVICE_ORDER")) or {}
    )
    facts.gpu.cache_clear()
    facts.gpu()
    facts.gpu.cache_clear()
    assert seen == ["PCI_BUS_ID"]
