"""The gate on networks of about 2, 10 and 40 ms, with one and two threads, OpenCV and ONNX Runtime.

Trials are those of ``gate_power.py``, few of each case: the same code on both sides, and 3 % of
extra work. Cases take turns, so that they share the machine's good and bad hours, and a second call
goes on where the first one ended.

    python benchmarks/gate_nets.py run --trials 2 --minutes 30
    python benchmarks/gate_nets.py report    # Markdown for docs/gate.md
    python benchmarks/gate_nets.py pack
"""

from __future__ import annotations

import argparse
import functools
import time
from collections import Counter
from itertools import product
from pathlib import Path
from statistics import median

from campaign import append, command_line, do, rows_of
from gate_power import MEASURE, SLOWDOWN, gate_trial, now, ready
from gate_power_report import line, scatter_text

from cspbench.backends.spec import libraries
from cspbench.core.case import Case
from cspbench.gating.measure import works_alone
from cspbench.gating.selftest import planted_arms
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock

MODELS = ("cspresnet10@64", "cspresnet10@128", "cspresnet10@256")
CASES = [
    f"{model}/{backend}/b1/t{threads}"
    for backend, threads, model in product(("opencv-cpu", "onnxruntime"), (1, 2), MODELS)
]
SHARES = {"aa": 0.0, "slow": SLOWDOWN}


def run(arguments: argparse.Namespace) -> None:
    """Run the missing trials of each case, until all are done or the time is up."""
    file, trials = arguments.file, arguments.trials
    end = time.monotonic() + 60 * arguments.minutes
    file.parent.mkdir(parents=True, exist_ok=True)
    if not rows_of(file):
        append(file, {"kind": "campaign", "at": now(), "environment": fingerprint(libraries())})
    done = Counter((row.get("case"), row["kind"]) for row in rows_of(file))
    prepared = functools.cache(ready)
    for _, kind, case in product(range(trials), SHARES, CASES):
        if done[case, kind] >= trials or time.monotonic() >= end:
            continue
        arms = planted_arms(prepared(case), MEASURE, SHARES[kind])
        with timing_lock("gate of several networks"):
            started = time.monotonic()
            gate = gate_trial(arms, works_alone(Case.parse(case)))
        seconds = round(time.monotonic() - started, 2)
        append(file, {"kind": kind, "case": case, "at": now(), "gate": gate, "seconds": seconds})
        done[case, kind] += 1
        print(f"{case:38s} {kind:5s} {gate['verdict']:13s} {seconds:.0f} s", flush=True)
    report(file)


def report(file: Path) -> None:
    """Print a line for each case that has trials of both kinds."""
    rows = rows_of(file)
    line("case", "an inference, ms", "same code: `same`", "median s", "3 % slower: `slower`",
         "median change", "median s", "a block scatters by")  # fmt: skip
    line(*["---"] * 8)
    for case in CASES:
        same, slow = (
            [row for row in rows if (row.get("case"), row["kind"]) == (case, kind)]
            for kind in SHARES
        )
        if same and slow:
            gates = [row["gate"] for row in (*same, *slow)]
            changes = [row["gate"]["estimates"][-1] for row in slow if row["gate"]["estimates"]]
            line(
                f"`{case}`",
                f"{median(gate['ms'] for gate in gates if gate['ms']):.1f}",
                _counted(same, "same"),
                f"{median(row['seconds'] for row in same):.0f}",
                _counted(slow, "slower"),
                f"{median(changes) * 100:+.1f} %",
                f"{median(row['seconds'] for row in slow):.0f}",
                scatter_text(gates),
            )


def _counted(rows: list[dict], verdict: str) -> str:
    """``2 of 3 (1 inconclusive)``: how many have the verdict, and what the others have."""
    verdicts = Counter(row["gate"]["verdict"] for row in rows)
    others = ", ".join(f"{count} {name}" for name, count in verdicts.items() if name != verdict)
    return f"{verdicts[verdict]} of {len(rows)}" + (f" ({others})" if others else "")


def main() -> None:
    """Command line."""
    parser = command_line(__doc__, "gate-nets.jsonl")
    parser.add_argument("--trials", type=int, default=2, help="of each kind and case")
    do(parser.parse_args(), run, report)


if __name__ == "__main__":
    main()
