"""The vendors' own benchmark tools as processes of their own, one thread, fp32; for fidelity.py.

- ``benchmark_app`` of the package openvino: synchronous, latencies by the request's own clock,
  printed as a median. ``-ip f32``, or it would feed bytes and convert them in every inference.
- ``onnxruntime_test`` of the package onnxruntime prints the mean of all inferences, the first one
  included; it has no option for threads, so a launcher gives its session ours. The C++ program
  onnxruntime_perf_test is not in the package.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from cspbench.runner.process import worker_environment

#: Runs onnxruntime_test as it is, with the threads of our backend.
ONNXRUNTIME_LAUNCHER = """
import onnxruntime
from onnxruntime.tools import onnxruntime_test

real = onnxruntime.InferenceSession


def session(path, sess_options=None, providers=None):
    settings = sess_options or onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    return real(path, settings, providers=["CPUExecutionProvider"])


onnxruntime.InferenceSession = session
onnxruntime_test.main()
"""


def _output(command: list[str], cwd: str | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False,
                          env=worker_environment(1))  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{command[:3]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def benchmark_app_ms(model: Path, seconds: float) -> float:
    """Median latency by OpenVINO's benchmark_app, which prints hundredths of a millisecond."""
    tool = Path(sys.executable).with_name("benchmark_app")
    with tempfile.TemporaryDirectory() as folder:
        _output([str(tool), "-m", str(model), "-d", "CPU", "-api", "sync", "-hint", "none",
               "-nstreams", "1", "-nthreads", "1", "-infer_precision", "f32", "-ip", "f32",
               "-t", str(max(1, round(seconds))), "-json_stats", "-report_type", "no_counters",
               "-report_folder", folder], folder)  # fmt: skip
        report = json.loads(Path(folder, "benchmark_report.json").read_text())
    return float(report["execution_results"]["latency (ms)"])


def onnxruntime_test_ms(model: Path, count: int) -> float:
    """Mean latency of ``count`` inferences by onnxruntime_test."""
    text = _output([sys.executable, "-c", ONNXRUNTIME_LAUNCHER, str(model), str(count)])
    match = re.search(r"avg latency: ([\d.e+-]+) ms", text)
    if match is None:
        raise SystemExit(f"onnxruntime_test printed no latency:\n{text}")
    return float(match[1])


def missing(backend: str) -> str | None:
    """Why the tool for a backend cannot be had; None if it can."""
    if backend == "openvino":
        tool = Path(sys.executable).with_name("benchmark_app")
        return None if os.access(tool, os.X_OK) else "the package openvino brought no benchmark_app"
    if backend == "onnxruntime":
        return None
    return f"no tool of its own is packaged for {backend}"
