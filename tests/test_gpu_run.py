"""A whole run on a CUDA device: what a person gets. Skipped with its reason where there is none."""

import json
import subprocess
import sys

import pytest

from cspbench import load

pytestmark = pytest.mark.gpu

SUITE = """\
name: device
defaults: {batch: 2, input: 128}
matrix:
  model: [peleenet]
  backend: [torch-cuda, "torch-cuda[mode=cudagraph,precision=fp16]"]
measure: {rounds: 2, warmup: 1, target_ci: 0.1%, max_seconds: 1.5, layers: true}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The run, as ``cspbench run`` stored it."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "device.yaml").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "cspbench", "run", str(folder / "device.yaml"), "--out",
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
                   "device_peak_bytes", "peak_memory_bytes"):  # fmt: skip
        assert (cases[column] > 0).all(), column
    # Energy of an inference is power over the time that it and its input took: no less than power
    # over its latency.
    least = cases["power_w"] * cases["latency_ms"] / 1e3
    assert (cases["energy_per_inference_j"] > 0.9 * least).all()
    # Half the bytes for weights in fp16.
    assert cases["device_peak_bytes"].min() < cases["device_peak_bytes"].max()


def test_launches_tell_device_times_and_the_device(run):
    timed = [launch for launch in run.stored.launches if launch.job == "time"]
    assert len(timed) == 4
    for launch in timed:
        assert 0 < launch.result.device["device_ns"] < 1e9
        assert launch.result.device["transfer_ns"] > 0
        assert len(launch["backend"]["device_uuid"]) == 36
        assert launch["sensors"]["nvml"]["readings"] >= 2
        assert "problem" not in launch["sensors"]["nvml"], json.dumps(launch["sensors"])


def test_layers_of_the_eager_case_are_timed(run):
    frame = run.layer_times
    assert set(frame["case"]) == {run.cases["id"][0]}  # a captured graph has no operators
    assert frame["time_ms"].sum() > 0
