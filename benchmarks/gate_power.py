"""The false alarms of the gate and its power to find 3 %: a campaign that can be resumed.

The campaign runs real processes and a real OpenCV model. Arm B does extra work: its thread stays
busy after every inference for 3 % of the time that it took. A trial has the same code on both sides
(``aa``) or a slower arm B (``slow``). It runs on an idle machine (``quiet``), beside a random
co-tenant (``loaded``), which is busy half of the time, or beside two of them a processor and all
other load of the machine (``crowded``, where arm B does 5 % of extra work). Kinds of trial take
turns in proportion to their numbers, so that they share the machine's good and bad hours, and a
campaign that ends early has fair numbers of each. Every trial is one line of the campaign's file. A
second call resumes the campaign.

``--rivals N`` trials of each kind also run two other tools on the same arms, right after the gate
and with about as much time as the gate took (``pip install pytest-benchmark pyperf`` first):

* pytest-benchmark with ``--benchmark-compare-fail=mean:2%``: a run of one side after that of the
  other, and a comparison of the means.
* pyperf's ``compare_to`` (significant by its t-test, and slower): up to 20 processes of each side,
  one side after the other, 3 values a process.

``gate_power_rivals.py`` holds these tools, ``gate_power_report.py`` the tables, and ``campaign.py``
the campaign's file.

    python benchmarks/gate_power.py run --quiet-aa 100 --quiet-slow 60 --rivals 20 --minutes 45
    python benchmarks/gate_power.py run --loaded-aa 60 --loaded-slow 40 --minutes 45
    python benchmarks/gate_power.py report     # Markdown for docs/gate.md, at any time
    python benchmarks/gate_power.py pack       # keep the file as benchmarks/data/*.jsonl.gz

Quiet and loaded trials hold the machine's timing lock; crowded trials do not. Each trial records
the processor time of other processes. A campaign without a file of its own goes on from the packed
file.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path

from campaign import append, command_line, do, rows_of
from gate_power_report import report, with_tools
from gate_power_rivals import missing, pyperf, pytest_benchmark
from tenants import company

from cspbench.backends.spec import libraries
from cspbench.core.case import Case
from cspbench.gating.decide import Decision
from cspbench.gating.duet import MakeArm
from cspbench.gating.measure import CaseData, load_request, works_alone
from cspbench.gating.prepare import Prepared, prepare_cases
from cspbench.gating.selftest import planted_arms, whole_gate
from cspbench.gating.verdict import CaseVerdict, Verdict
from cspbench.machine.facts import fingerprint, usable_cores
from cspbench.machine.lock import timing_lock
from cspbench.machine.sensors.proc import between, read_cpu_times
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.suite.suite import Gate, Measure, Suite

CASE = "peleenet@64/opencv-cpu/b1/t1"
SLOWDOWN = 0.03
#: Extra work of arm B where it is not that of the campaign.
SHARES = {"crowded-slow": 0.05}
KINDS = ("quiet-aa", "quiet-slow", "loaded-aa", "loaded-slow", "crowded-aa", "crowded-slow")
#: Arms of a trial warm up for as long as a gate's may at most.
MEASURE = Measure(warmup_seconds=1.0)


def ready(case_id: str) -> Prepared:
    """Prepare the case."""
    suite = Suite("gate-power", (Case.parse(case_id),), MEASURE)
    (prepared,) = prepare_cases(plan_suite(suite), LocalExecutor())
    if prepared.status is not None:
        sys.exit(f"{case_id}: {prepared.status}: {prepared.reason}")
    return prepared


def gate_trial(arms: MakeArm, one_thread: bool) -> dict:
    """One gate as a user runs it: a case, and again from scratch if it is found to move."""
    gate = Gate()
    trial = whole_gate(arms, gate, one_thread=one_thread)
    return {
        "first": finding_of(trial.first),
        "verdict": word_of(trial.verdict(gate)),
        "estimates": [
            math.expm1(r.outcome.estimate) for r in trial.runs if isinstance(r.outcome, Decision)
        ],
        "generations": [[round(estimate, 5) for estimate in r.estimates] for r in trial.runs],
        "seconds": [round(r.seconds, 2) for r in trial.runs],
        "ms": trial.first.median_ms("base"),
    }  # fmt: skip


def finding_of(data: CaseData) -> str:
    """The finding of a measurement, or the reason why there is none."""
    return str(data.outcome.finding) if isinstance(data.outcome, Decision) else data.outcome.reason


def word_of(verdict: CaseVerdict) -> str:
    """The verdict, or its reason where there are several."""
    several = verdict.verdict in (Verdict.INCONCLUSIVE, Verdict.UNMEASURED)
    return verdict.reason if several and verdict.reason != "last_look" else str(verdict.verdict)


def step(prepared: Prepared, kind: str, number: int, rivals: bool) -> dict:
    """Run one trial of a kind."""
    share = SHARES.get(kind, SLOWDOWN) if kind.endswith("slow") else 0.0
    crowded = kind.startswith("crowded")
    lock = contextlib.nullcontext() if crowded else timing_lock("gate power")
    tenants = {"quiet": 0, "loaded": 1, "crowded": 2 * usable_cores()}[kind.partition("-")[0]]
    with lock, company(tenants, number):
        before = read_cpu_times()
        started = time.monotonic()
        row = {
            "kind": kind,
            "number": number,
            "share": share,
            "at": now(),
            "gate": gate_trial(planted_arms(prepared, MEASURE, share), works_alone(prepared.case)),
        }
        seconds = time.monotonic() - started
        usage = between(before, read_cpu_times())
        row["seconds"] = round(seconds, 2)
        if usage is not None:
            row["foreign_cpus"] = round(usage.foreign_cpu_s / usage.seconds, 3)
            row["steal_cpus"] = round(usage.steal_s / usage.seconds, 3)
        if rivals:
            arm, ms = load_request(prepared, MEASURE), row["gate"]["ms"]
            try:
                row["pytest_benchmark"] = pytest_benchmark(arm, share, seconds)
                row["pyperf"] = pyperf(arm, share, seconds, ms or 1.0)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                row["rival_lost"] = str(error)
    return row


def now() -> str:
    """Time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def begun(file: Path, case: str) -> Prepared:
    """The case of the campaign; its file is begun, or goes on."""
    heads = ("campaign", "calibration")
    entries = {row["kind"]: row for row in rows_of(file) if row["kind"] in heads}
    if "campaign" not in entries:
        file.parent.mkdir(parents=True, exist_ok=True)
        append(file, {"kind": "campaign", "case": case, "at": now(), "share": SLOWDOWN,
                      "environment": fingerprint(libraries())})  # fmt: skip
    elif entries["campaign"]["case"] != case:
        sys.exit(f"{file} is a campaign on {entries['campaign']['case']}")
    elif entries["campaign"].get("share") != SLOWDOWN:
        sys.exit(f"{file} is a campaign with other extra work: name another --file")
    if "calibration" in entries:
        sys.exit(f"{file} is a campaign with extra work of another kind: name another --file")
    return ready(case)


def next_kind(done: Counter[str], targets: dict[str, int]) -> str | None:
    """The kind with the smallest finished share; None if no trial is left."""
    left = [kind for kind in KINDS if done[kind] < targets[kind]]
    return min(left, key=lambda kind: (done[kind] + 0.5) / targets[kind], default=None)


def run(arguments: argparse.Namespace) -> None:
    """Run the missing trials, until all are done or the time is up."""
    end = time.monotonic() + 60 * arguments.minutes
    targets = {kind: getattr(arguments, kind.replace("-", "_")) for kind in KINDS}
    if arguments.rivals and (names := missing()):
        sys.exit(f"not installed: {', '.join(names)}")
    prepared = begun(arguments.file, arguments.case)
    rows = rows_of(arguments.file)
    done = Counter(row["kind"] for row in rows)
    compared = Counter(row["kind"] for row in rows if with_tools(row))
    while (kind := next_kind(done, targets)) is not None and time.monotonic() < end:
        # Rivals are spread over the campaign.
        rivals = compared[kind] * targets[kind] < arguments.rivals * (done[kind] + 0.5)
        rivals = rivals and compared[kind] < arguments.rivals
        row = step(prepared, kind, sum(done.values()), rivals)
        append(arguments.file, row)
        done[kind] += 1
        compared[kind] += with_tools(row)
        gate = row["gate"]
        print(f"{done[kind]:4d} of {targets[kind]}  {kind:12s} {gate['verdict']:13s} "
              f"{[f'{e * 100:+.1f} %' for e in gate['estimates']]} {row['seconds']:.0f} s",
              flush=True)  # fmt: skip
    report(arguments.file)


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, "gate-power-5.jsonl")
    parser.add_argument("--case", default=CASE)
    parser.add_argument(
        "--rivals", type=int, default=0, help="trials of each kind that run the other tools too"
    )
    for kind in KINDS:
        parser.add_argument(f"--{kind}", type=int, default=0, help="number of trials in all")
    do(parser.parse_args(), run, report)


if __name__ == "__main__":
    main()
