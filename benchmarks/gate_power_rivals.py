"""Two other tools that gate on speed, pytest-benchmark and pyperf, with the time of a gate.

Both run for themselves, as their users call them. What they time is in ``gate_power_bench.py``.
``pip install pytest-benchmark pyperf`` comes first.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from gate_power_bench import ARM

from cspbench.jobs.load import LoadRequest
from cspbench.runner.process import worker_environment

BENCH = Path(__file__).with_name("gate_power_bench.py")

#: Most processes of each side in pyperf, its default, and fewest.
PROCESSES = (20, 3)
#: Values of each process, pyperf's default; one more warms up.
VALUES = 3
#: About what a process takes to start, load and warm up, in seconds.
START_SECONDS = 1.0
#: Fewest seconds of measuring in each process.
SHORTEST = 0.2
#: Warm-up of each process.
WARMUP_SECONDS = 0.2

#: No command takes longer, unless it hangs.
LONGEST_SECONDS = 600.0

#: Growth of the mean at which pytest-benchmark is told to fail.
FAIL = "mean:2%"


def missing() -> list[str]:
    """The tools that are not installed."""
    return [name for name in ("pytest_benchmark", "pyperf") if not importlib.util.find_spec(name)]


def pytest_benchmark(arm: LoadRequest, share: float, seconds: float) -> dict:
    """``--benchmark-compare-fail=mean:2%``: a run of each side, each with half of the time."""
    half = max(SHORTEST, seconds / 2 - START_SECONDS)
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Without the project's own configuration, which starts other plugins.
        command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, f"--rootdir={folder}",
                   "-p", "no:cacheprovider", str(BENCH), f"--benchmark-storage=file://{folder}",
                   f"--benchmark-max-time={half}", "--benchmark-save=run"]  # fmt: skip
        _run(command, _environment(arm, 0, folder))
        command += ["--benchmark-compare=0001", f"--benchmark-compare-fail={FAIL}"]
        done = _run(command, _environment(arm, share, folder), may_fail=True)
        slower = "Performance has regressed" in done.stdout + done.stderr
        if done.returncode and not slower:
            raise RuntimeError(done.stdout + done.stderr)
        stored = [json.loads(file.read_text()) for file in sorted(folder.rglob("*_run.json"))]
    base, head = (run["benchmarks"][0]["stats"] for run in stored)
    return {"ratio": head["mean"] / base["mean"], "slower": slower,
            "rounds": [base["rounds"], head["rounds"]]}  # fmt: skip


def pyperf(arm: LoadRequest, share: float, seconds: float, ms: float) -> dict:
    """``compare_to``: significant by its t-test, and slower.

    A run of pyperf is 20 processes of 3 values each. Here it has as many processes as fit into the
    time, 3 at least, and a process measures as long as fits. An inference takes ``ms``.
    """
    from pyperf import Benchmark

    most, fewest = PROCESSES
    processes = min(most, max(fewest, int(seconds / 2 / (START_SECONDS + SHORTEST))))
    each = max(SHORTEST, seconds / 2 / processes - START_SECONDS)
    loops = max(1, round(each * 1000 / (VALUES + 1) / ms))
    with TemporaryDirectory() as name:
        folder = Path(name)
        files = [str(folder / "base.json"), str(folder / "head.json")]
        for file, extra in zip(files, (0, share), strict=True):
            environment = _environment(arm, extra, folder)
            command = [sys.executable, str(BENCH), "-q", f"-p{processes}", f"-n{VALUES}", "-w1",
                       f"-l{loops}", "-o", file,
                       "--inherit-environ", ",".join(environment)]  # fmt: skip
            _run(command, environment)
        said = _run([sys.executable, "-m", "pyperf", "compare_to", "-v", *files], os.environ).stdout
        base, head = (Benchmark.load(file).mean() for file in files)
        ratio = head / base
    return {"ratio": ratio, "slower": ratio > 1 and "Not significant" not in said,
            "processes": processes, "loops": loops}  # fmt: skip


def _environment(arm: LoadRequest, share: float, folder: Path) -> dict[str, str]:
    """The variables of a process that does so much extra work; what it loads is in the folder."""
    request = replace(arm, extra_share=share, warmup_seconds=WARMUP_SECONDS)
    file = folder / "arm.pickle"
    file.write_bytes(pickle.dumps(request))
    environment = worker_environment(request.case.threads)
    return {**environment, **request.environment, ARM: str(file)}


def _run(
    command: list[str], environment: Mapping[str, str], *, may_fail: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed.
        subprocess.TimeoutExpired: it hangs.
    """
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False,
                          timeout=LONGEST_SECONDS)  # fmt: skip
    if done.returncode and not may_fail:
        raise RuntimeError(done.stdout + done.stderr)
    return done
