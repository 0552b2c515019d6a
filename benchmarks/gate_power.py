"""How often does the gate cry wolf, and how often does it find 5 %? A resumable campaign.

Real processes, a real OpenCV model, real extra work in arm B (products of small matrices after
every inference, calibrated once for the campaign). Kinds of trial: the same code on both sides
(``aa``) or arm B slower (``slow``), on a machine left alone (``quiet``), beside a random co-tenant
(``loaded``), or beside it and whatever else runs on the machine (``crowded``). Kinds take turns in
proportion to what is wanted of them, so that they share the machine's good and bad hours and a
campaign that is cut short has fair numbers of each. Every trial is one line of the campaign's file;
run again, it goes on where it stopped.

``--rivals N`` trials of each kind also run, on the same arms, right after the gate and with as much
time as the gate took, the two tools that people use:

* pytest-benchmark's ``--benchmark-compare-fail=mean:5%``: one process of each side after the other,
  each for half of the budget, the means compared.
* pyperf's t-test (``compare_to``: significant at p < 0.05 two-sided, and slower): up to 20
  processes of each side, one side after the other, 3 values a process.

They are in ``gate_power_rivals.py``; the campaign's file and its tables in
``gate_power_report.py``.

    python benchmarks/gate_power.py run --quiet-aa 100 --quiet-slow 60 --rivals 20 --minutes 45
    python benchmarks/gate_power.py run --loaded-aa 60 --loaded-slow 40 --minutes 45
    python benchmarks/gate_power.py report     # Markdown for docs/gate.md, at any time
    python benchmarks/gate_power.py pack       # keep the file as benchmarks/data/*.jsonl.gz

Quiet and loaded trials hold the machine's timing lock, crowded ones do not. Each records what
others took of the processors. A campaign goes on from the packed file where its own is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean, stdev

from gate_power_report import append, pack, report, rows_of
from gate_power_rivals import compare_fail_mean, pyperf_t_test

from cspbench.core.case import Case
from cspbench.gating.decide import LOOKS, Decision, generation_estimate
from cspbench.gating.measure import CaseData, measure_case
from cspbench.gating.prepare import prepare_cases
from cspbench.gating.selftest import Probe, probe
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock
from cspbench.machine.sensors.proc import between, read_cpu_times
from cspbench.runner.duet import ArmLostError, generations
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.suite.suite import Gate, Measure, Suite

CASE = "peleenet@64/opencv-cpu/b1/t1"
SLOWDOWN = 0.05
KINDS = ("quiet-aa", "quiet-slow", "loaded-aa", "loaded-slow", "crowded-aa", "crowded-slow")
#: Rounds of calibration, the most generations of one, how near 5 % it must come, and how well that
#: must be known (16 generations of a quiet machine have a standard error of about 0.3 %).
CALIBRATION_ROUNDS = 4
CALIBRATION_GENERATIONS = 48
CALIBRATED_WITHIN = 0.007
CALIBRATED_ERROR = 0.004


def tenant(seed: int) -> None:
    """A co-tenant: busy and idle for random times of 0.05 to 2 seconds, until it is ended.

    Or until the campaign is gone: one that is killed must not leave it beside quiet trials.
    """
    rng, parent = random.Random(seed), os.getppid()
    while os.getppid() == parent:
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
    suite = Suite("gate-power", (Case.parse(case_id),), measure)
    (prepared,) = prepare_cases(plan_suite(suite), LocalExecutor())
    if prepared.status is not None:
        sys.exit(f"{case_id}: {prepared.status}: {prepared.reason}")
    return Probe(prepared, measure, 1.0, 1.0)


def calibrated(start: Probe) -> tuple[Probe, dict]:
    """Calibrate the extra work, then correct it by what duets of it really show.

    Units timed in a row cost less than units between inferences, so the first guess is too large.
    A campaign on a slowdown of unknown size says nothing: on a machine that is too busy to tell it
    this ends.
    """
    found, wanted = probe(start.prepared, start.measure, times=5), math.log1p(SLOWDOWN)
    for _ in range(CALIBRATION_ROUNDS):
        estimates: list[float] = []
        error = math.inf
        stream = generations(found.arms(SLOWDOWN))
        with contextlib.closing(stream):
            for g in itertools.islice(stream, CALIBRATION_GENERATIONS):
                estimates.append(
                    generation_estimate(g.inference_ns("base"), g.inference_ns("head"))
                )
                if len(estimates) >= LOOKS[1].generations:
                    error = stdev(estimates) / math.sqrt(len(estimates))
                if error <= CALIBRATED_ERROR:
                    break
        seen = fmean(estimates)
        print(f"calibration: {found.units_per_inference:.1f} units an inference, "
              f"{math.expm1(seen) * 100:+.2f} % seen in {len(estimates)} generations, "
              f"standard error {error * 100:.2f} %", flush=True)  # fmt: skip
        if error > CALIBRATED_ERROR:
            break
        if abs(seen - wanted) <= CALIBRATED_WITHIN:
            facts = {
                "inference_ms": found.inference_ns / 1e6,
                "units_per_inference": found.units_per_inference,
                "seen": math.expm1(seen),
                "seen_error": error,
            }
            return found, facts
        factor = min(max(wanted / max(seen, wanted / 3), 0.5), 2.0)
        found = replace(found, units_per_inference=found.units_per_inference * factor)
    sys.exit("this machine is too busy to calibrate the extra work; come back when it is quiet")


def gate_trial(setup: Probe, share: float) -> dict:
    """One gate as a user gets it: a case, and again from scratch if it is found slower."""
    gate = Gate()
    runs = [measure_case(setup.arms(share), gate)]
    if told(runs[0]) == "slower":
        runs.append(measure_case(setup.arms(share), gate))
    return {
        "first": told(runs[0]),
        "verdict": verdict(runs),
        "estimates": [
            math.expm1(r.outcome.estimate) for r in runs if isinstance(r.outcome, Decision)
        ],
        "generations": [
            [round(generation_estimate(g.inference_ns("base"), g.inference_ns("head")), 5)
             for g in r.generations] for r in runs
        ],
        "seconds": [round(r.seconds, 2) for r in runs],
    }  # fmt: skip


def told(data: CaseData) -> str:
    """What a measurement found."""
    return str(data.outcome.finding) if isinstance(data.outcome, Decision) else data.outcome.reason


def verdict(runs: list[CaseData]) -> str:
    """Slower only if found twice (one case alone: Holm changes nothing)."""
    if len(runs) == 2:
        return "slower" if told(runs[1]) == "slower" else "not_confirmed"
    return told(runs[0])


def step(setup: Probe, kind: str, number: int, rivals: bool) -> dict:
    """Run one trial of a kind."""
    share = SLOWDOWN if kind.endswith("slow") else 0.0
    crowded = kind.startswith("crowded")
    lock = contextlib.nullcontext() if crowded else timing_lock("gate power")
    with lock, company(not kind.startswith("quiet"), number):
        before = read_cpu_times()
        started = time.monotonic()
        row = {"kind": kind, "number": number, "at": now(), "gate": gate_trial(setup, share)}
        seconds = time.monotonic() - started
        seen = between(before, read_cpu_times())
        row["seconds"] = round(seconds, 2)
        if seen is not None:
            row["foreign_cpus"] = round(seen.foreign_cpu_s / seen.seconds, 3)
            row["steal_cpus"] = round(seen.steal_s / seen.seconds, 3)
        if rivals:
            row["pytest_benchmark"] = compare_fail_mean(setup, share, seconds)
            row["pyperf"] = pyperf_t_test(setup, share, seconds)
    return row


def now() -> str:
    """Time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def begun(file: Path, case: str, wanted: dict[str, int]) -> Probe:
    """What is measured; the extra work as the campaign's file says, or calibrated now.

    It is the same in loaded trials: so much more work, whatever it costs beside a co-tenant.
    """
    rows, setup = rows_of(file), ready(case)
    found = {row["kind"]: row for row in rows if row["kind"] in ("campaign", "calibration")}
    if "campaign" not in found:
        file.parent.mkdir(parents=True, exist_ok=True)
        append(file, {"kind": "campaign", "case": case, "at": now(), "environment": fingerprint()})
    elif found["campaign"]["case"] != case:
        sys.exit(f"{file} is a campaign on {found['campaign']['case']}")
    if not any(wanted[kind] for kind in KINDS if kind.endswith("slow")):
        return setup
    if "calibration" not in found:
        with timing_lock("gate power: calibration"):
            _, facts = calibrated(setup)
        found["calibration"] = {"kind": "calibration", "at": now(), **facts}
        append(file, found["calibration"])
    facts = found["calibration"]
    return replace(setup, units_per_inference=facts["units_per_inference"])


def next_kind(done: Counter[str], wanted: dict[str, int]) -> str | None:
    """The kind of which the smallest part is done; None if nothing is left."""
    left = [kind for kind in KINDS if done[kind] < wanted[kind]]
    return min(left, key=lambda kind: (done[kind] + 0.5) / wanted[kind], default=None)


def run(arguments: argparse.Namespace) -> None:
    """Do what is missing, until it is done or time is up."""
    end = time.monotonic() + 60 * arguments.minutes
    wanted = {kind: getattr(arguments, kind.replace("-", "_")) for kind in KINDS}
    setup = begun(arguments.file, arguments.case, wanted)
    rows = rows_of(arguments.file)
    done = Counter(row["kind"] for row in rows)
    compared = Counter(row["kind"] for row in rows if "pyperf" in row)
    while (kind := next_kind(done, wanted)) is not None and time.monotonic() < end:
        # Spread over the campaign, not at its beginning.
        rivals = compared[kind] * wanted[kind] < arguments.rivals * (done[kind] + 0.5)
        rivals = rivals and compared[kind] < arguments.rivals
        try:
            row = step(setup, kind, sum(done.values()), rivals)
        except ArmLostError as lost:  # a rival's: the gate's own end as a verdict
            append(arguments.file, {"kind": "lost", "of": kind, "at": now(), "text": str(lost)})
            continue
        append(arguments.file, row)
        done[kind] += 1
        compared[kind] += "pyperf" in row
        gate = row["gate"]
        print(f"{done[kind]:4d} of {wanted[kind]}  {kind:12s} {gate['verdict']:13s} "
              f"{[f'{e * 100:+.1f} %' for e in gate['estimates']]} {row['seconds']:.0f} s",
              flush=True)  # fmt: skip
    report(arguments.file, SLOWDOWN)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("run", "report", "pack"))
    parser.add_argument("--case", default=CASE)
    parser.add_argument("--file", type=Path, default=Path("results/gate-power.jsonl"))
    parser.add_argument("--minutes", type=float, default=math.inf, help="start no trial after them")
    parser.add_argument(
        "--rivals", type=int, default=0, help="trials of each kind that run the other tools too"
    )
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, help="trials wanted in all")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments)
    elif arguments.what == "report":
        report(arguments.file, SLOWDOWN)
    else:
        pack(arguments.file)


if __name__ == "__main__":
    main()
