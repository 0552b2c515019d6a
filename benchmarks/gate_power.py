"""How often does the gate cry wolf, and how often does it find 5 %? A resumable campaign.

Real processes, a real OpenCV model, real extra work in arm B (products of small matrices after
every inference, calibrated once for the campaign). Each step draws one of the wanted kinds of
trial at random, so that kinds share the machine's good and bad hours, and appends one line to the
campaign's file; run again, it goes on where it stopped. With every gate trial, in the same step and
on the same time budget, the two tools that people use are run on the same arms:

* pytest-benchmark's ``--benchmark-compare-fail=mean:5%``: one process of each side after the other,
  each for half of the budget, the means compared.
* pyperf's t-test (``compare_to``: significant at p < 0.05 two-sided, and slower): up to 20
  processes of each side, one side after the other.

Their criteria are computed here, not by importing them, because they must measure through the same
workers as the gate.

    python benchmarks/gate_power.py run --quiet-aa 100 --quiet-slow 60
    python benchmarks/gate_power.py run --loaded-aa 30 --loaded-slow 30
    python benchmarks/gate_power.py report
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median, stdev

from cspbench.artifacts.cache import cache_folder
from cspbench.gate.decide import Decision, generation_estimate
from cspbench.gate.measure import CaseData, measure_case
from cspbench.gate.prepare import prepare_cases
from cspbench.gate.selftest import Probe, probe
from cspbench.measure.clock import MonotonicClock
from cspbench.runner.duet import BURST_NS, ArmLostError, generations
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.lock import timing_lock
from cspbench.runner.plan import case_from_id, plan_suite
from cspbench.sensors.proc import between, read_cpu_times
from cspbench.store.environment import fingerprint
from cspbench.suite.case import Gate, Measure, Suite

CASE = "peleenet@64/opencv-cpu/b1/t1"
SLOWDOWN = 0.05
KINDS = ("quiet-aa", "quiet-slow", "loaded-aa", "loaded-slow")
#: Processes of each side in the pyperf-like design, and what starting one costs about.
PROCESSES = 20
START_SECONDS = 0.8
#: Generations of one calibration, how often it is tried, how near 5 % it must come, and how well
#: that must be known (16 generations of a quiet machine have a standard error of about 0.3 %).
CALIBRATION_GENERATIONS = 16
CALIBRATION_ROUNDS = 5
CALIBRATED_WITHIN = 0.007
CALIBRATED_ERROR = 0.005


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share. Clopper & Pearson (1934), "The use of confidence ... limits"."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


def tenant(seed: int) -> None:
    """A co-tenant: busy and idle for random times of 0.05 to 2 seconds, until it is ended."""
    rng = random.Random(seed)
    while True:
        end = time.monotonic() + rng.uniform(0.05, 2.0)
        while time.monotonic() < end:
            math.sqrt(rng.random())
        time.sleep(rng.uniform(0.05, 2.0))


@contextlib.contextmanager
def company(loaded: bool, seed: int) -> Iterator[None]:
    """A co-tenant beside the block, if it is to be loaded."""
    if not loaded:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=tenant, args=(seed,), daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


def ready(case_id: str) -> Probe:
    """Prepare the case."""
    measure = Measure(warmup_seconds=1.0)
    suite = Suite("gate-power", (case_from_id(case_id),), measure)
    (prepared,) = prepare_cases(plan_suite(suite), LocalExecutor())
    if prepared.status is not None:
        sys.exit(f"{case_id}: {prepared.status}: {prepared.reason}")
    return Probe(prepared, measure, 1.0, 1.0)


def calibrated(start: Probe, slowdown: float) -> tuple[Probe, dict]:
    """Calibrate the extra work, then correct it by what duets of it really show.

    A campaign on a slowdown of unknown size says nothing: on a machine that is too busy to tell it
    within CALIBRATED_WITHIN this ends.
    """
    found = probe(start.prepared, start.measure, times=5)
    for _ in range(CALIBRATION_ROUNDS):
        stream = generations(found.arms(slowdown))
        with contextlib.closing(stream):
            measured = list(itertools.islice(stream, CALIBRATION_GENERATIONS))
        estimates = [
            generation_estimate(g.inference_ns("base"), g.inference_ns("head")) for g in measured
        ]
        seen, error = fmean(estimates), stdev(estimates) / math.sqrt(len(estimates))
        print(f"calibration: {found.units_per_inference:.1f} units an inference, "
              f"{math.expm1(seen) * 100:+.2f} % seen, standard error {error * 100:.2f} %",
              flush=True)  # fmt: skip
        wanted = math.log1p(slowdown)
        if error <= CALIBRATED_ERROR and abs(seen - wanted) <= CALIBRATED_WITHIN:
            facts = {
                "inference_ms": found.inference_ns / 1e6,
                "units_per_inference": found.units_per_inference,
                "wanted": slowdown,
                "seen": math.expm1(seen),
                "seen_error": error,
            }
            return found, facts
        if error <= CALIBRATED_ERROR:  # else it was noise: nothing to correct by
            factor = min(max(wanted / max(seen, wanted / 3), 0.5), 2.0)
            found = replace(found, units_per_inference=found.units_per_inference * factor)
    sys.exit("this machine is too busy to calibrate the extra work; come back when it is quiet")


def one_process(setup: Probe, share: float, side: str, seconds: float) -> list[float]:
    """Burst means of one fresh process of a side that runs for so long, in ns an inference."""
    arm = setup.arms(share)("head" if side == "head" else "base")
    clock = MonotonicClock()
    try:
        arm.start()
        count = max(1, round(BURST_NS / arm.hold().inference_ns))
        end = clock.now_ns() + int(seconds * 1e9)
        found = [arm.burst(count).inference_ns]
        while clock.now_ns() < end:
            found.append(arm.burst(count).inference_ns)
    finally:
        arm.close()
    return found


def compare_fail_mean(setup: Probe, share: float, seconds: float) -> dict:
    """pytest-benchmark: fail if the mean of the new run is over 5 % above the stored one's."""
    half = max(1.0, seconds / 2 - START_SECONDS)
    means = [fmean(one_process(setup, share, side, half)) for side in ("base", "head")]
    return {"ratio": means[1] / means[0], "slower": means[1] > 1.05 * means[0]}


def pyperf_t_test(setup: Probe, share: float, seconds: float) -> dict:
    """pyperf: two-sided Student t-test at 95 % on the values of both runs, and a larger mean.

    A run of pyperf is 20 processes of 3 values each; here as many of them as the budget holds.
    """
    processes = min(PROCESSES, max(3, int(seconds / 2 / (START_SECONDS + 0.3))))
    each = max(0.3, seconds / (2 * processes) - START_SECONDS)
    runs = []
    for side in ("base", "head"):
        values = []
        for _ in range(processes):
            bursts = one_process(setup, share, side, each)
            third = max(1, len(bursts) // 3)
            values += [fmean(bursts[i * third : (i + 1) * third] or bursts) for i in range(3)]
        runs.append(values)
    base, head = runs
    count = len(base) + len(head)
    pooled = ((len(base) - 1) * stdev(base) ** 2 + (len(head) - 1) * stdev(head) ** 2) / (count - 2)
    t = (fmean(head) - fmean(base)) / math.sqrt(pooled * (1 / len(base) + 1 / len(head)))
    from scipy.stats import t as student

    return {
        "ratio": fmean(head) / fmean(base),
        "slower": bool(t > student.ppf(0.975, count - 2)),
    }


def gate_trial(setup: Probe, share: float) -> dict:
    """One gate as a user gets it: a case, and again if it is found slower."""
    gate = Gate()
    first = measure_case(setup.arms(share), gate)
    runs = [first]
    if told(first) == "slower":
        runs.append(measure_case(setup.arms(share), gate))
    return {
        "first": told(first),
        "verdict": verdict(runs),
        "estimates": [
            math.expm1(r.outcome.estimate) for r in runs if isinstance(r.outcome, Decision)
        ],
        "generations": [len(r.generations) for r in runs],
        "seconds": [round(r.seconds, 2) for r in runs],
    }


def told(data: CaseData) -> str:
    """What a measurement found."""
    return str(data.outcome.finding) if isinstance(data.outcome, Decision) else data.outcome.reason


def verdict(runs: list[CaseData]) -> str:
    """Slower only if found twice (one case alone: Holm changes nothing)."""
    if len(runs) == 2:
        return "slower" if told(runs[1]) == "slower" else "not confirmed"
    return told(runs[0])


def step(setup: Probe, kind: str, number: int, rivals: bool) -> dict:
    """Run one trial of a kind."""
    share = SLOWDOWN if kind.endswith("slow") else 0.0
    with company(kind.startswith("loaded"), number):
        before = read_cpu_times()
        started = time.monotonic()
        row = {"kind": kind, "number": number, "gate": gate_trial(setup, share)}
        seconds = time.monotonic() - started
        seen = between(before, read_cpu_times())
        row["seconds"] = round(seconds, 2)
        if seen is not None:
            row |= {
                "foreign_cpu_s": round(seen.foreign_cpu_s, 2),
                "steal_s": round(seen.steal_s, 2),
            }
            row["load_1m"] = seen.load_1m_before
        if rivals:
            row["pytest_benchmark"] = compare_fail_mean(setup, share, seconds)
            row["pyperf"] = pyperf_t_test(setup, share, seconds)
    return row


def rows_of(file: Path) -> list[dict]:
    """Lines of a campaign; a torn last one is left out."""
    rows = []
    if file.exists():
        for line in file.read_text().splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
    return rows


def append(file: Path, row: dict) -> None:
    """Add one line; on return it is on disk."""
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")
        out.flush()
        os.fsync(out.fileno())


def run(arguments: argparse.Namespace) -> None:
    """Do what is missing."""
    file = arguments.file
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = rows_of(file)
    setup = ready(arguments.case)
    head = next((row for row in rows if row["kind"] == "campaign"), None)
    if head is None:
        with timing_lock("gate power: calibration"):
            setup, facts = calibrated(setup, SLOWDOWN)
        head = {"kind": "campaign", "case": arguments.case, "environment": fingerprint(),
                **facts}  # fmt: skip
        append(file, head)
        print({key: head[key] for key in facts}, flush=True)
    elif head["case"] != arguments.case:
        sys.exit(f"{file} is a campaign on {head['case']}")
    setup = Probe(
        setup.prepared, setup.measure, head["inference_ms"] * 1e6, head["units_per_inference"]
    )
    wanted = {kind: getattr(arguments, kind.replace("-", "_")) for kind in KINDS}
    rng = random.Random(len(rows))
    while True:
        done = Counter(row["kind"] for row in rows_of(file))
        left = [kind for kind in KINDS for _ in range(wanted[kind] - done[kind])]
        if not left:
            break
        kind = rng.choice(left)
        try:
            with timing_lock("gate power"):
                row = step(setup, kind, sum(done.values()), done[kind] < arguments.rivals)
        except ArmLostError as lost:
            row = {"kind": "lost", "of": kind, "text": str(lost)}
        append(file, row)
        if kind == row["kind"]:
            gate = row["gate"]
            print(f"{len(left) - 1:4d} left  {kind:12s} {gate['verdict']:13s} "
                  f"{[f'{e * 100:+.1f} %' for e in gate['estimates']]} {row['seconds']:.0f} s",
                  flush=True)  # fmt: skip
    report(arguments)


def share_text(hits: int, trials: int) -> str:
    """``0 of 100 (0.0 to 3.6 %)``."""
    if not trials:
        return "-"
    low, high = clopper_pearson(hits, trials)
    return f"{hits} of {trials} ({low * 100:.1f} to {high * 100:.1f} %)"


def report(arguments: argparse.Namespace) -> None:
    """Print the tables for docs/gate.md."""
    rows = rows_of(arguments.file)
    head = next(row for row in rows if row["kind"] == "campaign")
    print(f"{head['case']}, {head['inference_ms']:.2f} ms; injected {head['wanted'] * 100:g} %, "
          f"seen in calibration {head['seen'] * 100:+.2f} %")  # fmt: skip
    print("| trial | gate: slower | found once | inconclusive | unmeasured | median s | max s | "
          "first s | pytest-benchmark | pyperf |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind in KINDS:
        found = [row for row in rows if row["kind"] == kind]
        if not found:
            continue
        gates = [row["gate"] for row in found]
        verdicts = Counter(gate["verdict"] for gate in gates)
        lost = sum(verdicts[v] for v in ("starved", "arm_ended", "no_answer", "unlike_arms"))
        rivals = [
            share_text(sum(row[name]["slower"] for row in found if name in row),
                       sum(name in row for row in found))
            for name in ("pytest_benchmark", "pyperf")
        ]  # fmt: skip
        cells = [
            kind,
            share_text(verdicts["slower"], len(found)),
            share_text(sum(gate["first"] == "slower" for gate in gates), len(found)),
            str(verdicts["inconclusive"] + verdicts["not confirmed"]),
            str(lost),
            f"{median(row['seconds'] for row in found):.0f}",
            f"{max(row['seconds'] for row in found):.0f}",
            f"{median(gate['seconds'][0] for gate in gates):.0f}",
            *rivals,
        ]
        print(f"| {' | '.join(cells)} |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--case", default=CASE)
    parser.add_argument("--file", type=Path, default=cache_folder() / "gate-power.jsonl")
    parser.add_argument(
        "--rivals", type=int, default=30, help="trials of each kind that run the other tools too"
    )
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, help="trials wanted in all")
    arguments = parser.parse_args()
    (run if arguments.what == "run" else report)(arguments)


if __name__ == "__main__":
    main()
