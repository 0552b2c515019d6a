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

Their criteria are computed here, not by importing them, because they must measure through the same
workers as the gate.

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
import gzip
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
from datetime import datetime, timezone
from pathlib import Path
from statistics import fmean, median, stdev

from cspbench.gate.decide import LOOKS, Decision, generation_estimate
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
KINDS = ("quiet-aa", "quiet-slow", "loaded-aa", "loaded-slow", "crowded-aa", "crowded-slow")
#: Lines of the tables: kinds apart and together.
GROUPS = {
    "same code, quiet": ("quiet-aa",),
    "same code, loaded": ("loaded-aa",),
    "same code, crowded": ("crowded-aa",),
    "same code, all": ("quiet-aa", "loaded-aa", "crowded-aa"),
    "5 % slower, quiet": ("quiet-slow",),
    "5 % slower, loaded": ("loaded-slow",),
    "5 % slower, crowded": ("crowded-slow",),
    "5 % slower, all": ("quiet-slow", "loaded-slow", "crowded-slow"),
}
#: Processes of each side in the pyperf-like design, and what starting one costs about.
PROCESSES = 20
START_SECONDS = 0.8
#: Rounds of calibration, the most generations of one, how near 5 % it must come, and how well that
#: must be known (16 generations of a quiet machine have a standard error of about 0.3 %).
CALIBRATION_ROUNDS = 4
CALIBRATION_GENERATIONS = 48
CALIBRATED_WITHIN = 0.007
CALIBRATED_ERROR = 0.004


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


def packed(file: Path) -> Path:
    """Where a campaign's file is kept."""
    return Path(__file__).parent / "data" / f"{file.name}.gz"


def rows_of(file: Path) -> list[dict]:
    """Lines of a campaign, unpacked if need be; a torn last one is left out."""
    if not file.exists() and packed(file).exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.decompress(packed(file).read_bytes()))
    rows = []
    for line in file.read_bytes().splitlines() if file.exists() else ():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def append(file: Path, row: dict) -> None:
    """Add one line; on return it is on disk."""
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")
        out.flush()
        os.fsync(out.fileno())


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
    report(arguments)


def share_text(hits: int, trials: int) -> str:
    """``0 of 100 (0.0 to 3.6 %)``."""
    if not trials:
        return "-"
    low, high = clopper_pearson(hits, trials)
    return f"{hits} of {trials} ({low * 100:.1f} to {high * 100:.1f} %)"


def line(*cells: object) -> None:
    """Print one line of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |")


def report(arguments: argparse.Namespace) -> None:
    """Print the block of docs/gate.md."""
    rows = rows_of(arguments.file)
    known = {row["kind"]: row for row in rows if row["kind"] in ("campaign", "calibration")}
    if not known:
        sys.exit(f"{arguments.file} holds no campaign yet")
    machine = known["campaign"]["environment"]
    days = sorted({row["at"][:10] for row in rows})
    period = " to ".join(days[:1] + days[1:][-1:])
    print(f"`{known['campaign']['case']}` on {machine['cpu']}, {machine['cores_usable']} cores"
          f"{', virtual' if machine['virtualised'] else ''}, "
          f"OpenCV {machine['libraries'].get('opencv-python-headless', '?')}, "
          f"{period}. In brackets: Clopper-Pearson, 95 %.")  # fmt: skip
    if "calibration" in known:
        facts = known["calibration"]
        print(f"An inference takes {facts['inference_ms']:.1f} ms; of the extra work, meant to be "
              f"{SLOWDOWN * 100:g} %, the calibration saw {facts['seen'] * 100:+.1f} ± "
              f"{facts['seen_error'] * 100:.1f} %.")  # fmt: skip
    print()
    line("trials", "`slower`", "found once", "other than `same`", "median change",
         "median s", "longest s", "others' load, cores")  # fmt: skip
    line(*["---"] * 8)
    for name, kinds in GROUPS.items():
        found = [row for row in rows if row["kind"] in kinds]
        if found and (len(kinds) == 1 or len({row["kind"] for row in found}) > 1):
            line(name, *gate_cells(found))
    print()
    line(
        "trials with the other tools", "cspbench gate", "pytest-benchmark mean:5%", "pyperf t-test"
    )
    line(*["---"] * 4)
    for name, kinds in GROUPS.items():
        found = [row for row in rows if row["kind"] in kinds and "pyperf" in row]
        if found and (len(kinds) == 1 or len({row["kind"] for row in found}) > 1):
            hits = [sum(row["gate"]["verdict"] == "slower" for row in found)]
            hits += [sum(row[rival]["slower"] for row in found)
                     for rival in ("pytest_benchmark", "pyperf")]  # fmt: skip
            line(name, *(share_text(count, len(found)) for count in hits))


def gate_cells(found: list[dict]) -> list[str]:
    """What a table says of some trials."""
    gates = [row["gate"] for row in found]
    verdicts = Counter(gate["verdict"] for gate in gates)
    others = [f"{count} {name}" for name, count in sorted(verdicts.items())
              if name not in ("slower", "same")]  # fmt: skip
    seconds = [row["seconds"] for row in found]
    estimates = [gate["estimates"][-1] for gate in gates if gate["estimates"]]
    loads = [row["foreign_cpus"] + row["steal_cpus"] for row in found if "foreign_cpus" in row]
    return [
        share_text(verdicts["slower"], len(found)),
        str(sum(gate["first"] == "slower" for gate in gates)),
        ", ".join(others) or "-",
        f"{median(estimates) * 100:+.1f} %" if estimates else "-",
        f"{median(seconds):.0f}",
        f"{max(seconds):.0f}",
        f"{median(loads):.1f}" if loads else "-",
    ]


def pack(arguments: argparse.Namespace) -> None:
    """Compress the campaign's file for keeping; equal rows give equal bytes."""
    kept = packed(arguments.file)
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(gzip.compress(arguments.file.read_bytes(), mtime=0))
    print(kept)


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
    {"run": run, "report": report, "pack": pack}[arguments.what](arguments)


if __name__ == "__main__":
    main()
