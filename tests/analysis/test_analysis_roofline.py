"""Predicted times by hand: a device of 100 GFLOP/s, 10 GB/s and 10 µs an operator."""

import json
import os
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.analysis.roofline import (
    Peak,
    Prediction,
    layer_rows,
    peak_of,
    predict,
    predict_all,
    shares,
    total_ms,
)
from cspbench.cli.analyze import command
from cspbench.errors import InputError
from cspbench.store import kept
from cspbench.store.ceilings import Ceilings, keep_ceilings

MACHINE = {
    **dict.fromkeys(("cpu", "cores_usable", "governor", "host", "nvidia_driver", "board")),
    "libraries": {},
}

DEVICE = Peak(flops_per_s=100e9, bytes_per_s=10e9, overhead_s=10e-6)


def test_the_ridge_is_where_both_take_equally_long():
    # 100e9 FLOP/s / 10e9 byte/s = 10 FLOPs a byte
    assert DEVICE.ridge == 10


@pytest.mark.parametrize(
    ("flops", "traffic_bytes", "milliseconds", "bound"),
    [
        # 2e9 / 100e9 = 20 ms of arithmetic, 1e6 / 10e9 = 0.1 ms of traffic, 0.01 ms of overhead
        (2e9, 1e6, 20.01, "compute"),
        # 1e6 / 100e9 = 0.01 ms, 5e7 / 10e9 = 5 ms, 0.01 ms
        (1e6, 5e7, 5.01, "memory"),
        # 1e3 FLOPs and 1e3 bytes take 0.1 µs at most; the operator itself 10 µs
        (1e3, 1e3, 0.0101, "overhead"),
        (0, 0, 0.01, "overhead"),
    ],
)
def test_the_slowest_part_bounds_a_layer(flops, traffic_bytes, milliseconds, bound):
    found = predict(flops, traffic_bytes, DEVICE)
    assert found.bound == bound
    assert found.predicted_ms == pytest.approx(milliseconds, rel=1e-9)


def test_layers_are_predicted_one_by_one():
    assert predict_all([(2e9, 1e6), (0, 0)], DEVICE) == [
        Prediction(20.01, "compute"),
        Prediction(0.01, "overhead"),
    ]


CEILINGS = {
    "gflops": {"fp32": 100.0, "bf16": 300.0},
    "bandwidth_gbs": {"copy": 11.0, "read": 12.0, "triad": 10.0},
    "cache_bandwidth_gbs": {},
    "overhead_us": 10.0,
    "working_set_bytes": 2**29,
    "threads": 1,
}


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten()
    )


def test_fp32_and_the_triad_are_the_ceilings():
    assert peak_of(CEILINGS) == DEVICE


def test_what_is_folded_or_a_view_costs_nothing():
    [row] = layer_rows(analyze(small_net(), (1, 64, 32, 32)), DEVICE)
    # 2 x 64 x 64 x 9 x 1024 FLOPs; the map in and out, the filter and the norm as a bias
    assert row["flops"] == 75_497_472
    assert row["traffic_bytes_fused"] == 4 * (2 * 64 * 1024 + 64 * 64 * 9 + 64)
    # 0.75497472 ms of arithmetic against 0.0672 ms of traffic, and 0.01 ms
    assert row["bound"] == "compute"
    assert row["predicted_ms"] == pytest.approx(0.76497472, abs=1e-8)


def test_shares_are_of_the_time():
    rows = [
        {"predicted_ms": 3.0, "bound": "compute"},
        {"predicted_ms": 1.0, "bound": "memory"},
    ]
    assert total_ms(rows) == 4.0
    assert shares(rows) == {"compute": 0.75, "memory": 0.25, "overhead": 0.0}
    assert shares([]) == {"compute": 0.0, "memory": 0.0, "overhead": 0.0}


def test_the_command_predicts_with_what_was_measured(monkeypatch):
    monkeypatch.setattr(kept, "fingerprint", lambda _libraries: MACHINE)
    with pytest.raises(InputError, match="run cspbench ceilings --device cpu --threads 3"):
        CliRunner().invoke(
            command, ["peleenet@64", "--roofline", "--threads", "3"], catch_exceptions=False
        )
    keep_ceilings("cpu", Ceilings(**CEILINGS))
    result = CliRunner().invoke(command, ["peleenet@64", "--roofline"], catch_exceptions=False)
    last = result.stdout.splitlines()[-1]
    assert last.startswith("peleenet@64 on cpu, 1 thread: predicted")
    as_json = ["peleenet@64", "--roofline", "--format", "json"]
    [found] = json.loads(CliRunner().invoke(command, as_json, catch_exceptions=False).stdout)
    assert f"predicted {found['predicted_ms']:.3f} ms" in last
    assert sum(found["bound_share"].values()) == pytest.approx(1)
    assert {row["bound"] for row in found["layers"]} <= {"compute", "memory", "overhead"}


def test_a_cached_analysis_is_printed_without_torch_and_pandas(tmp_path):
    environment = {**os.environ, "CSPBENCH_CACHE": str(tmp_path)}
    code = (
        "import sys\n"
        "from cspbench.cli.analyze import command\n"
        "command(['peleenet@64'], standalone_mode=False)\n"
        "sys.exit(','.join(m for m in ('torch', 'pandas', 'numpy') if m in sys.modules))\n"
    )
    first, again = (
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, check=False
        )
        for _ in range(2)
    )
    assert b"torch" in first.stderr  # it had to be made
    assert again.stderr.strip() == b""
    assert again.stdout == first.stdout
