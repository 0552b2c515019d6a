"""A whole run on a CUDA device: what a person gets. Skipped with its reason where there is none."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cspbench import load
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import prepare
from cspbench.artifacts.tensors import input_pool
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import ModelId
from cspbench.jobs.worker import tells_no_memory

pytestmark = pytest.mark.gpu

SUITE = """\
name: device
defaults: {batch: 2, input: 128}
matrix:
  model: [peleenet]
  backend: [torch-cuda, "torch-cuda[mode=cudagraph,precision=fp16]"]
measure:
  {rounds: 2, warmup: 1, max_seconds: 1.5, layers: true, energy: true, throughput: true,
   ceilings: true}
"""
MODEL, BATCH = "resnext50@224", 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run, as ``cspbench run`` stored it."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "device.yaml").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "cspbench", "run", str(folder / "device.yaml"), "--results",
         str(folder / "results"), "--reports", str(folder / "reports")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((folder / "reports").glob("*.html"))
    return load(next((folder / "results").iterdir()))


def test_every_case_has_a_latency_energy_and_memory(run):
    cases = run.cases
    assert list(cases["status"]) == ["ok", "ok"]
    for column in ("latency_ms", "power_w", "idle_power_w", "energy_per_inference_j",
                   "device_peak_bytes", "peak_memory_bytes", "device_ms", "kernels",
                   "throughput_fps"):  # fmt: skip
        assert (cases[column] > 0).all(), column
    assert (cases["power_w"] >= 0.9 * cases["idle_power_w"]).all()
    assert (cases["device_ms"] <= 1.02 * cases["latency_ms"]).all()
    # What overlaps is no slower than one after the other.
    assert (cases["throughput_fps"] > 0.9 * cases["fps"]).all()
    # Half the bytes for weights in fp16.
    assert cases["device_loaded_bytes"].min() < cases["device_loaded_bytes"].max()


def test_launches_tell_device_times_and_the_device(run):
    timed = [launch for launch in run.stored.launches if launch.job == "time"]
    assert len(timed) >= 4  # two blocks of two cases, more where they scatter
    for launch in timed:
        assert 0 < launch.result.device["device_ns"] < 1e9
        assert len(launch.result.backend["device_uuid"]) == 36
        assert launch.sensors["nvml"]["readings"] >= 2
        assert "problem" not in launch.sensors["nvml"], json.dumps(launch.sensors)
        assert len(launch.result.turns.clock_mhz) == len(launch.result.turns.counts)
    assert {launch.result.held for launch in run.stored.launches if launch.job == "device"} == {
        True
    }


def test_layers_of_every_mode_are_timed_by_their_kernels(run):
    frame = run.layer_times
    assert set(frame["case"]) == set(run.cases["id"])
    eager = frame[frame["case"] == run.cases["id"][0]]
    kernels = run.cases["kernel_ms"][0]
    layers = eager[eager["entry"] != "(between layers)"]["time_ms"].sum()
    assert layers == pytest.approx(kernels, rel=0.1)


def test_ceilings_of_the_card_are_above_what_its_cases_reach(run):
    assert run.stored.meta["ceilings"]["cuda/t1"]["gflops"]["fp32"] > 0
    for column in ("compute_utilisation", "memory_utilisation"):
        reached = run.layer_times[column].dropna()
        assert len(reached)
        # What lies in the L2 cache is read faster than the memory's ceiling.
        assert reached.median() <= 1.05


ENDS = """\
name: ends
defaults: {model: peleenet, input: 128}
include:
  - {backend: torch-cuda}
  - {backend: "torch-cuda[scope=end_to_end,precision=fp16]"}
  - {backend: "torch-cuda[scope=pipeline]"}
measure: {rounds: 1, warmup: 1, max_seconds: 0.5, memory: false}
"""


def test_scopes_are_told_apart(tmp_path):
    (tmp_path / "ends.yaml").write_text(ENDS)
    done = subprocess.run(
        [sys.executable, "-m", "cspbench", "run", str(tmp_path / "ends.yaml"), "--results",
         str(tmp_path / "results"), "--no-report"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    plain, ends, pipeline = load(next((tmp_path / "results").iterdir())).cases["latency_ms"]
    # With the copies; an image that is decoded and scaled first takes longer than one that is not.
    assert ends > plain
    assert pipeline > plain


def test_a_gate_of_the_same_on_both_sides_finds_nothing(tmp_path):
    (tmp_path / "device.yaml").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "cspbench", "gate", str(tmp_path / "device.yaml"), "--base", "set:",
         "--only", "*mode=cudagraph*", "--format", "json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (verdict,) = json.loads(done.stdout)["verdicts"]
    assert verdict["verdict"] == "same"
    assert verdict["ratio_of"] != "running time"  # the device's events are the clock


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A network whose kernels are long beside their launches, warm, with its inputs staged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        spec = ArtifactSpec(ModelId.parse(MODEL), BATCH, "pt2", 0)
        prepare(spec)
        loaded = BACKENDS.get("torch-cuda").load(spec.path, {"flush_l2": True}, 1)
        loaded.stage(input_pool((BATCH, 3, 224, 224), 0))
        for number in range(50):
            loaded.choose(number % 4)
            loaded.run()
        yield loaded
        loaded.close()


def test_the_devices_time_is_that_of_other_instruments(session):
    triton = pytest.importorskip("triton.testing")
    samples = session.device_samples(200, 1.0)
    assert samples.held
    device_ms = session.medians(samples)["device_ns"] / 1e6
    bench_ms = triton.do_bench(session._forward, warmup=100, rep=500, return_mode="median")
    # Both flush the cache before each call; do_bench's events have the gaps of launching.
    assert device_ms == pytest.approx(bench_ms, rel=0.02)
    kernels = session.kernels()
    # Between kernels a device needs about a microsecond.
    assert kernels.busy_ns / 1e6 <= device_ms * 1.02
    assert device_ms <= kernels.busy_ns / 1e6 * 1.02 + kernels.count * 2e-3


def test_what_has_no_room_on_the_card_is_told_as_that(session):
    torch.cuda.set_per_process_memory_fraction(1e-3)
    try:
        with pytest.raises(RuntimeError) as failed:
            session.to_device(np.zeros((4096, 3, 224, 224), np.float32))  # 2.4 GB
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tells_no_memory(str(failed.value))


def test_energy_is_that_of_the_drivers_counter_over_ten_seconds(session):
    from cspbench.jobs.energy import back_to_back
    from cspbench.machine.sensors.monitor import Monitor
    from cspbench.machine.sensors.nvml import Nvml
    from cspbench.machine.sensors.summary import energy, power

    def one(number):
        session.choose(number % 4)
        session.run()

    reader = Nvml().open()
    if "gpu_energy_j" not in reader.counters():
        pytest.skip("this device has no counter of energy")
    with Monitor([Nvml()]) as monitor:
        monitor.phase("sample", fine=True)
        result = back_to_back(one, 5.0)
        monitor.phase("close")
    mean = power(monitor.traces, "cuda", result.begin_s, result.end_s)
    use = energy(mean, None, result.seconds, result.inferences)
    # The truth: over 10 s what the counter lags behind is 1 %.
    before, start, count = reader.counters()["gpu_energy_j"], time.monotonic(), 0
    while time.monotonic() - start < 10.0:
        one(count)
        count += 1
    joules = reader.counters()["gpu_energy_j"] - before
    reader.close()
    assert use["energy_per_inference_j"] == pytest.approx(joules / count, rel=0.03)
