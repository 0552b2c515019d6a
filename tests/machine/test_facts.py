"""The fingerprint tells devices and modes apart, and what hangs on it follows."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cspbench.machine import facts as environment
from cspbench.runner import run as run_module
from cspbench.store.ceilings import entry


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    environment.gpu.cache_clear()


def test_the_gpu_has_its_name_and_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"device": "NVIDIA T4", "device_uuid": "1-2-3"}
    monkeypatch.setattr(environment, "first_device", lambda: found)
    assert environment.fingerprint()["gpu"] == "NVIDIA T4 (1-2-3)"
    environment.gpu.cache_clear()
    monkeypatch.setattr(environment, "first_device", dict)
    assert environment.fingerprint()["gpu"] is None
    environment.gpu.cache_clear()


@pytest.mark.parametrize("fact", ["gpu", "nvpmodel", "jetson_clocks"])
def test_ceilings_of_another_card_or_power_mode_are_other_ones(fact: str) -> None:
    facts = environment.fingerprint()
    paths = {entry("cuda", 1, {**facts, fact: value}) for value in (None, "a", "b")}
    assert len(paths) == 3


@pytest.mark.parametrize(
    ("fact", "then", "now"),
    [("nvpmodel", "15W", "MAXN"), ("gpu", "NVIDIA T4 (1)", "NVIDIA T4 (2)"),
     ("governor", "performance", "powersave")],
)  # fmt: skip
def test_a_run_is_not_resumed_in_another_mode_or_on_another_card(
    monkeypatch: pytest.MonkeyPatch, fact: str, then: str, now: str
) -> None:
    facts = environment.fingerprint()
    stored = SimpleNamespace(meta={"environment": {**facts, fact: then}})
    monkeypatch.setattr(run_module, "fingerprint", lambda: {**facts, fact: now})
    assert run_module.changed_facts(stored) == [f"{fact} was {then!r} and is {now!r}"]  # type: ignore[arg-type]
