"""Does cspbench measure what a bare loop and the vendors' tools measure? Bias of the harness.

    python benchmarks/fidelity.py --out fidelity.jsonl            (about a quarter of an hour)
    python benchmarks/fidelity.py --out fidelity.jsonl --table    (only the table of what is there)

Four experiments on nets of about 1, 10 and 100 ms, each in a process of its own with a worker's
environment; each result is a line of ``--out``, and a result in it is not measured again.

- ``harness``: what our loop takes an inference around a session that does nothing.
- ``loops``: on one loaded artifact our loop, a loop written out by hand around the vendor's own
  call, and the loop of the vendor's tool (for torch ``torch.utils.benchmark.Timer`` itself) take
  turns of about 10 ms in shuffled order. Each set of turns gives a ratio of their medians, each
  round the median of its ratios; shown are the median of the rounds and its 95 % interval (Student
  on the logs).
- ``sensors``: our loop with and without another process that reads the sensors, as the controller
  does, in turns of about 100 ms, or 8 inferences where that is longer. Every turn begins and ends
  with a look at every sensor, so they are read far more often than in a run. A board of files
  (rails, zones, clocks) is read along, since most machines have few sensors.
- ``tools``: launches as ``cspbench run`` makes them, against the vendors' tools as processes, in
  pairs of shuffled order. Processes differ by more than loops do: it takes many pairs.

Verdicts: ``ok`` and ``OVER`` only if the whole interval says so, else ``unsure``: more time or a
quieter machine. Times mean something only on a quiet machine: run nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import vendor_tools
from fidelity_loops import LOOP_TURN_S, Loop, bare_loop, our_loop, tool_loop

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.tensors import POOL_SIZE, input_pool
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.jobs.time import TimeRequest
from cspbench.measure.statistics import between_launches
from cspbench.runner.block_request import BlockRequest
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.process import worker_environment

#: Nets of about 1, 10 and 100 ms on one core of a current server processor.
MODELS = ("yolov3-tiny-prn@96", "peleenet@160", "cspresnext50@256")
BACKEND_NAMES = ("opencv-cpu", "onnxruntime", "openvino", "torch-cpu", "torch-cuda")
SENSOR_TURN_S = 0.1
#: Turns of a loop in a round, so that one disturbed turn is none of its median; and rounds.
LEAST_TURNS, LEAST_ROUNDS = 9, 6
#: What is compared, with the share that it may be off.
LIMITS = {
    "ours / bare loop": 0.005,
    "sensors on / off": 0.005,
    "ours / tool's loop": 0.03,
    "launch / tool's process": 0.03,
}
LIMIT_HARNESS_US = 4.0


def interleave(
    loops: dict[str, Loop], latency_ns: float, turn_s: float, seconds: float, rounds: int
) -> list[dict[str, list[float]]]:
    """Let the loops take turns; return for each round the median of each turn of each loop.

    On slow networks there are fewer rounds, and more time, so that a round has LEAST_TURNS of each.
    """
    count = max(1, round(turn_s * 1e9 / latency_ns))
    turn = max(turn_s, latency_ns / 1e9)
    turns = round(seconds / (len(loops) * turn))
    rounds = max(LEAST_ROUNDS, min(rounds, turns // LEAST_TURNS))
    results = []
    order = list(loops)
    for _ in range(rounds):
        times: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(max(LEAST_TURNS, turns // rounds)):
            random.shuffle(order)
            for name in order:
                times[name].append(median(loops[name](count)))
        results.append(times)
    return results


def turn_ratio(
    rounds: Sequence[dict[str, list[float]]], numerator: str, denominator: str
) -> dict[str, float]:
    """The ratio of two loops by their turns side by side: the speed of the machine cancels."""
    return ratio(
        [
            median(a / b for a, b in zip(times[numerator], times[denominator], strict=True))
            for times in rounds
        ]
    )


def latency_ms(rounds: Sequence[dict[str, list[float]]], name: str) -> float:
    """Median latency of a loop over all of its turns."""
    return median(value for times in rounds for value in times[name]) / 1e6


def ratio(ratios: Sequence[float]) -> dict[str, float]:
    """Median of the ratios less 1, with its 95 % interval."""
    interval = between_launches(ratios)
    return {"bias": interval.estimate - 1, "low": interval.low - 1, "high": interval.high - 1}


def loaded(case: Case) -> tuple[Any, list[np.ndarray], float]:
    """A session that has run, its inputs, and about what an inference takes, in ns."""
    session = BACKENDS.get(case.backend.name).load(
        artifact(case).path, dict(case.backend.options), case.threads
    )
    pool = input_pool(case.input_shape, 0)
    ours = our_loop(session, pool)
    ours(5)
    return session, pool, median(ours(10))


def artifact(case: Case) -> ArtifactSpec:
    """The model in the form that the case's backend loads."""
    return ArtifactSpec(case.model_id, case.batch, BACKENDS.get(case.backend.name).artifact, 0)


def loops(case: Case, seconds: float, rounds: int) -> dict[str, Any]:
    """Our loop against one written by hand, and against the loop of the vendor's tool."""
    session, pool, latency_ns = loaded(case)
    name = case.backend.name
    turns: dict[str, Loop] = {
        "ours": our_loop(session, pool), "bare": bare_loop(name, session, pool),
    }  # fmt: skip
    tool = tool_loop(name, session, pool)
    if tool is not None:
        turns["tool"] = tool
    by_round = interleave(turns, latency_ns, LOOP_TURN_S, seconds, rounds)
    answer = {"ours / bare loop": turn_ratio(by_round, "ours", "bare")}
    if tool is not None:
        answer["ours / tool's loop"] = turn_ratio(by_round, "ours", "tool")
    return {"latency_ms": latency_ms(by_round, "bare"), **answer}


class Companion:
    """Another process that reads sensors when it is asked to."""

    def __init__(self, board: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--companion", str(board)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ask(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        self._process.communicate()


def companion(root: Path) -> None:
    """Read the sensors of this machine, and of a board of files, between ``on`` and ``off``.

    Any other word is only answered.
    """
    from cspbench.machine.sensors.cpufreq import CpuFreq
    from cspbench.machine.sensors.monitor import Monitor, select_sensors
    from cspbench.machine.sensors.tegra import Tegra
    from cspbench.machine.sensors.thermal import Thermal

    board = [Tegra(root), Thermal(root / "class/thermal"), CpuFreq(root / "devices/system/cpu")]
    here = select_sensors("auto")
    readings = 0
    with Monitor([*here, *(s for s in board if s.name not in {h.name for h in here})]) as monitor:
        for line in sys.stdin:
            if line.strip() == "on":
                monitor.start()
            elif line.strip() == "off":
                monitor.stop()
                readings += sum(len(trace.readings) for trace in monitor.traces)
            names = "+".join(trace.sensor for trace in monitor.traces)
            print(f"{readings} {names}", flush=True)


def sensors(case: Case, seconds: float, rounds: int) -> dict[str, Any]:
    """Our loop with sensors read beside it, and without."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.machine.sensors.jetson_board import Board

    session, pool, latency_ns = loaded(case)
    ours = our_loop(session, pool)
    watched_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        Board(Path(folder) / "sys").build()
        beside = Companion(Path(folder) / "sys")
        reply = ""

        def watched(count: int) -> Sequence[float]:
            nonlocal watched_s, reply
            beside.ask("on")
            start = time.perf_counter()
            times = ours(count)
            watched_s += time.perf_counter() - start
            reply = beside.ask("off")
            return times

        def unwatched(count: int) -> Sequence[float]:
            beside.ask("nothing")  # a turn after sleep is slower: both are
            times = ours(count)
            beside.ask("nothing")
            return times

        turns: dict[str, Loop] = {"on": watched, "off": unwatched}
        # Of slow networks a turn holds several inferences: it is the ends of turns that are read.
        turn_s = max(SENSOR_TURN_S, 8 * latency_ns / 1e9)
        by_round = interleave(turns, latency_ns, turn_s, seconds, rounds)
        beside.close()
    readings, names = reply.split()
    return {
        "latency_ms": latency_ms(by_round, "off"),
        "sensors on / off": turn_ratio(by_round, "on", "off"),
        "sensors": names,
        "looks_per_s": int(readings) / watched_s,
    }


def tools(case: Case, seconds: float, pairs: int) -> dict[str, Any]:
    """Launches as a run makes them against the vendor's tool as a process."""
    name = case.backend.name
    reason = vendor_tools.missing(name)
    if reason:
        return {"unavailable": reason}
    spec, executor = artifact(case), LocalExecutor()
    request = TimeRequest(
        case, spec.path, spec.reference, warmup_seconds=1.0, target_ci=0.0, max_seconds=seconds,
        sensors="auto",
    )  # fmt: skip

    def launch() -> dict[str, Any]:
        ((_, outcome),) = executor.block(BlockRequest("fidelity", (request,)), 120)
        if outcome.status is not Status.OK:
            raise SystemExit(f"{case}: {outcome.reason}")
        return outcome.answer

    count = len(launch()["latencies_ns"])
    ours, tools_ms = [], []
    for number in range(pairs):
        for side in random.sample(("ours", "tool"), 2):
            if side == "tool":
                tools_ms.append(
                    vendor_tools.benchmark_app_ms(spec.path, seconds) if name == "openvino"
                    else vendor_tools.onnxruntime_test_ms(spec.path, count)
                )  # fmt: skip
                continue
            answer = launch()
            latencies = answer["latencies_ns"]
            if name == "onnxruntime":  # its tool gives a mean, with the first inference in it
                ours.append(fmean([answer["first_ns"], *latencies[: count - 1]]) / 1e6)
            else:
                ours.append(median(latencies) / 1e6)
        print(f"  {case} pair {number + 1}: {ours[-1]:.3f} {tools_ms[-1]:.3f} ms", file=sys.stderr)
    ratios = [a / b for a, b in zip(ours, tools_ms, strict=True)]
    return {"latency_ms": median(ours), "launch / tool's process": ratio(ratios)}


class Nothing:
    """A session that does nothing."""

    def set_input(self, _feed: object) -> None: ...

    def run(self) -> None: ...


def harness() -> dict[str, Any]:
    """What the harness itself takes an inference, in µs, beyond the two readings of the clock.

    ``inside`` stands between the two readings: it is in every latency. ``around`` is the whole
    burst's processor time an inference, the readings of the process's own clock included.
    """
    now = time.perf_counter_ns
    ours = our_loop(Nothing(), [np.zeros(1)] * POOL_SIZE)

    def once() -> tuple[float, float]:
        empty = [-(now() - now()) for _ in range(50_000)]
        start = time.thread_time()
        for _ in range(100_000):
            now()
        reading = (time.thread_time() - start) / 100_000
        start = time.thread_time()
        inside = ours(50_000)
        around = (time.thread_time() - start) / len(inside) - 2 * reading
        return (median(inside) - median(empty)) / 1e3, around * 1e6

    inside, around = zip(*(once() for _ in range(7)), strict=True)
    # The least: what the code costs, not what else ran meanwhile.
    return {"inside_us": min(inside), "around_us": min(around)}


def judge(ratio: dict[str, float], limit: float) -> str:
    """``ok`` and ``OVER`` only if the whole interval says so."""
    if ratio["low"] > limit or ratio["high"] < -limit:
        return "OVER"
    return "ok" if -limit <= ratio["low"] and ratio["high"] <= limit else "unsure"


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown: what was compared, bias, interval, limit, verdict."""
    yield "| case | ms | compared | bias | 95 % interval | limit | |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        if row["experiment"] == "harness":
            for name in ("inside", "around"):
                took = row[f"{name}_us"]
                verdict = "ok" if took <= LIMIT_HARNESS_US else "OVER"
                yield (f"| harness | | {name} the clock | {took:.2f} µs | | {LIMIT_HARNESS_US:g} µs"
                       f" | {verdict} |")  # fmt: skip
        for name, limit in LIMITS.items():
            if name in row:
                bias = row[name]
                interval = f"{bias['low']:+.2%} .. {bias['high']:+.2%}"
                yield (f"| `{row['case']}` | {row['latency_ms']:.2f} | {name} |"
                       f" {bias['bias']:+.2%} | {interval} | {limit:.1%} |"
                       f" {judge(bias, limit)} |")  # fmt: skip


def over(row: dict[str, Any]) -> bool:
    """True if a limit is surely passed."""
    if row["experiment"] == "harness":
        return max(row["inside_us"], row["around_us"]) > LIMIT_HARNESS_US
    return any(judge(row[name], limit) == "OVER" for name, limit in LIMITS.items() if name in row)


EXPERIMENTS = {"loops": loops, "sensors": sensors, "tools": tools}


def alone(experiment: str, case_id: str, seconds: float, rounds: int) -> dict[str, Any]:
    """One experiment in this process."""
    if experiment == "harness":
        return harness()
    case = Case.parse(case_id)
    reason = BACKENDS.get(case.backend.name).available()
    return {"unavailable": reason} if reason else EXPERIMENTS[experiment](case, seconds, rounds)


def experiments(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every experiment of this call with its settings: what tells results apart."""
    cases = arguments.cases or [f"{m}/{b}/b1/t1" for m in MODELS for b in BACKEND_NAMES]
    yield {"experiment": "harness", "case": "", "seconds": 0, "rounds": 0}
    for experiment in arguments.experiments.split(","):
        for case in cases:
            if experiment == "tools":
                effort = {"seconds": 1.0, "rounds": arguments.pairs}
            else:
                effort = {"seconds": arguments.seconds, "rounds": arguments.rounds}
            yield {"experiment": experiment, "case": case, **effort}


def measure(key: dict[str, Any]) -> dict[str, Any]:
    """One experiment in a process with a worker's environment, its model made before."""
    if key["case"]:
        from cspbench.artifacts.export import prepare

        case = Case.parse(key["case"])
        if BACKENDS.get(case.backend.name).available() is None:
            prepare(artifact(case))
    values = [str(key[name]) for name in ("experiment", "case", "seconds", "rounds")]
    environment = worker_environment(1)
    del environment["PYTHONSAFEPATH"]  # this script imports its neighbours
    done = subprocess.run([sys.executable, __file__, "--alone", *values], check=False,
                          stdout=subprocess.PIPE, text=True, env=environment)  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{values} ended with {done.returncode}")
    return {**key, **json.loads(done.stdout.splitlines()[-1])}


def main() -> int:
    """Run and print; 1 if a limit is surely passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="case ids; default: three models, all backends")
    parser.add_argument("--out", type=Path, default=Path("fidelity.jsonl"))
    parser.add_argument("--experiments", default="loops,sensors,tools")
    parser.add_argument("--seconds", type=float, default=20.0, help="of loops, and of sensors")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=10, help="of launch and tool")
    parser.add_argument("--table", action="store_true", help="measure nothing")
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--companion", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.companion:
        companion(arguments.companion)
        return 0
    if arguments.alone:
        experiment, case, seconds, rounds = arguments.alone
        print(json.dumps(alone(experiment, case, float(seconds), int(rounds))))
        return 0
    text = arguments.out.read_text() if arguments.out.exists() else ""
    rows = [json.loads(line) for line in text.splitlines()]
    if not arguments.table:
        for key in experiments(arguments):
            if any(key.items() <= row.items() for row in rows):
                continue
            rows.append(measure(key))
            with arguments.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
            for line in list(table(rows[-1:]))[2:]:
                print(line, file=sys.stderr)
    print("\n".join(table(rows)))
    return int(any(over(row) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
