"""What happens on the board of files, told as JSON: run inside the namespace as its root.

usage: python -m tests.machine.sensors.jetson_scenario RESULT.json
"""

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from cspbench.machine.sensors.jtop import Jtop
from cspbench.machine.sensors.monitor import Monitor
from cspbench.machine.sensors.summary import power
from cspbench.machine.sensors.tegra import Tegra
from cspbench.machine.sensors.thermal import Thermal
from tests.machine.sensors.jetson_board import GPU_MAX_HZ, GPU_MIN_HZ, Board, install_tools

FACTS = ("nvpmodel", "jetson_clocks", "l4t")
SUITE = """\
name: board
defaults: {batch: 1, threads: 1, input: 64}
matrix: {model: [peleenet], backend: [opencv-cpu]}
measure: {rounds: 2, warmup: 0.2, target_ci: 0.1%, max_seconds: 2, memory: false, sensors: [jtop]}
"""


def start_service():
    """Start the real service; return it once its socket is there."""
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "JTOP_SERVICE": "True", "JTOP_TESTING": "true"}
    log = Path("/tmp/jtop.log").open("w")  # noqa: SIM115 - the service's as long as it lives
    service = subprocess.Popen([bin_folder / "jtop", "--force"], env=environment,
                               stdout=log, stderr=log)  # fmt: skip
    for _ in range(300):
        if service.poll() is not None:
            break
        if Path("/run/jtop.sock").exists():
            return service
        time.sleep(0.1)
    raise SystemExit("the jtop service did not start:\n" + Path("/tmp/jtop.log").read_text())


def until(reader, name, expected):
    """Readings of jtop until ``name`` has the value, for at most 30 s."""
    for _ in range(300):
        gauges = dict(reader.read().gauges)
        if abs(gauges.get(name, float("nan")) - expected) < 0.01:
            break
        time.sleep(0.1)
    return gauges


def levels(board, reader):
    """Two states of the board, each as jtop and as sysfs tell it."""
    found = []
    for watts, load, clock, heat in ((7.5, 10.0, GPU_MIN_HZ, 45.5), (14.75, 99.0, GPU_MAX_HZ, 61)):
        board.rail(1, watts)
        board.rail(2, watts / 2)
        board.gpu(load, clock)
        board.heat(heat, heat - 1)
        jtop = until(reader, "board_power_w", watts)
        jtop = until(reader, "temperature_cpu_c", heat)
        sysfs = {**Tegra().read().gauges, **Thermal().read().gauges}
        found.append({"jtop": jtop, "sysfs": sysfs})
    return found


def modes(reader):
    """Change nvpmodel and jetson_clocks through jtop's own client."""
    client = reader._client
    before = dict(reader.read().gauges)
    client.nvpmodel = 1
    mode = until(reader, "nvpmodel_id", 1.0)
    client.jetson_clocks = True
    clocks = until(reader, "jetson_clocks", 1.0)
    query = subprocess.check_output(["nvpmodel", "-q"], text=True).split()
    from cspbench.machine.facts import fingerprint

    facts = fingerprint((), Path("/tmp"))
    return {"before": before, "mode": mode, "clocks": clocks, "query": query,
            "environment": {key: facts[key] for key in FACTS}}  # fmt: skip


def curve(seconds):
    """5 W at rest; from 2 s to 5 s up to 11 W, from 5 s to 8 s down again, steadily."""
    return 5.0 + max(0.0, 6.0 * (1 - abs(seconds - 5.0) / 3.0))


def energy(board, monitor):
    """Energy of the curve over 10 s as jtop and sysfs tell it, and what the files really said."""
    board.rail(1, curve(0.0))
    steps = []
    monitor.start()
    start = time.monotonic()
    while (now := time.monotonic() - start) < 10.0:
        board.rail(1, curve(now))
        steps.append((start + now, curve(now)))
        time.sleep(0.02)
    monitor.stop()
    end = time.monotonic()
    told = {}
    for trace in monitor.traces:
        if trace.problem:
            told[trace.sensor] = {"problem": trace.problem}
            continue
        found = power([trace], "cuda")
        first, last = trace.readings[0].seconds, trace.readings[-1].seconds
        told[trace.sensor] = {
            "joules": found.watts * found.window_s,
            "method": found.method,
            "truth": written_energy([*steps, (end, 0.0)], first, last),
            "readings": len(trace.readings),
            "cost_share": trace.cost_s / trace.window_s,
        }
    return told


def written_energy(steps, first, last):
    """Integral of what stood in the file between two times: each value holds until the next."""
    total = 0.0
    for (begin, watts), (end, _) in itertools.pairwise(steps):
        total += watts * max(0.0, min(end, last) - max(begin, first))
    return total


def whole_run():
    """``cspbench run`` on this board; its cases and one launch."""
    suite = Path("/tmp/board.yaml")
    suite.write_text(SUITE)
    command = [sys.executable, "-m", "cspbench", "run", str(suite), "--no-report"]
    command += ["--results", "/tmp/results"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    from cspbench.views.frames import load

    runs = sorted(Path("/tmp/results").glob("*-board"))
    if done.returncode or not runs:
        return {"problem": done.stdout[-2000:] + done.stderr[-3000:], "code": done.returncode}
    run = load(runs[0])
    # On a busy machine a launch may end between two renewals of the gauge, and has no energy then.
    timed = [item for item in run.stored.launches if item.job == "time"]
    launch = next((item for item in timed if item.energy is not None), timed[0])
    columns = ["status", "latency_ms", "energy_per_inference_j", "power_w", "idle_power_w",
               "energy_method"]  # fmt: skip
    return {
        "case": json.loads(run.cases[columns].iloc[0].to_json()),
        "sensors": launch.sensors,
        "energy": asdict(launch.energy),
        "environment": run.environment,
        "sample_seconds": launch.result.sample_seconds,
        "inferences": len(launch.result.latencies_ns),
    }


def main():
    board = Board()
    board.build()
    install_tools()
    service = start_service()
    result = {}
    try:
        with Monitor([Jtop(), Tegra()]) as monitor:
            reader = monitor._readers[0][1]
            result["levels"] = levels(board, reader)
            result["modes"] = modes(reader)
            result["energy"] = energy(board, monitor)
            board.rail(1, 6.0)
            result["run"] = whole_run()
    finally:
        service.terminate()
        result["log"] = Path("/tmp/jtop.log").read_text()[-4000:]
        Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
