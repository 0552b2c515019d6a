"""Do ratios of cases repeat? A suite is run again and again, in turns and one launch at a time.

    python benchmarks/repeatability.py measure --tenants 2 --times 2      # 2 runs of each schedule
    python benchmarks/repeatability.py report                             # Markdown, at any time

``measure`` runs the suite ``--times`` times by each schedule, the schedules alternating so that
they share the machine's good and bad hours, with 0, 1 or 2 bounded co-tenants (busy and idle for
random times, ended with the benchmark). Every run has the same bound in time, that of four rounds.
``report`` pairs all runs of the same schedule and load, and tells how far the ratio of each case to
the reference moved from one to the other, how many of these moves lie within their own 95 %
interval (Welch's of the difference of two runs, over the blocks of each), and how many intervals of
the reference's ratio to itself hold 1. That a move lies within what both intervals allow together
would be no such test: of two runs of four blocks 98 % do. ``sampling`` is the share of a run's
time, from its folder's creation to its last launch, in which inferences were timed.

Needs a machine with nothing else on it, about 5 minutes a run of ``suites/edge.yaml``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

from scipy.special import stdtrit
from tenants import company

import cspbench
from cspbench.jobs.time import TimeResult
from cspbench.measure.statistics import percentile, welch
from cspbench.suite.load import load_suite
from cspbench.views.frames import Run

SUITE = Path("suites/edge.yaml")
OUT = Path("results/repeatability")
#: Settings that make a schedule; the others are the suite's.
SCHEDULES = {"in turn": {}, "alone": {"measure.together": 1}}
#: As long as four rounds take, without launches that measure something else.
COMMON = {"measure.rounds": 4, "measure.memory": False, "measure.ceilings": False,
          "measure.max_seconds": 1.5, "measure.budget_seconds": 240}  # fmt: skip


def measure(arguments: argparse.Namespace) -> None:
    """Run the suite by each schedule in turn, and note which run is what."""
    for number, name in itertools.product(range(arguments.times), arguments.schedules):
        settings = {**COMMON, "measure.seed": number, **SCHEDULES[name]}
        suite = load_suite(arguments.suite, settings)
        with company(arguments.tenants, number):
            run = cspbench.run(suite, results=arguments.out)
        line = {"schedule": name, "tenants": arguments.tenants, "run": run.name}
        with (arguments.out / "index.jsonl").open("a") as index:
            index.write(json.dumps(line) + "\n")
        print(f"{name}, {arguments.tenants} co-tenants: {run.path}", file=sys.stderr)


def moves(first: Run, second: Run) -> list[tuple[float, bool | None]]:
    """For each case: |log(ratio again / ratio)|, and whether its 95 % interval holds it.

    Where launches took no turns the ratio is the quotient of two latencies, which has none.
    """
    found: list[tuple[float, bool | None]] = []
    for case in first.cases["id"]:
        if case == first.reference:
            continue
        ratios = [run.in_turn.ratio(case, run.reference) for run in (first, second)]
        if None in ratios:
            quotients = [quotient(run, case) for run in (first, second)]
            if None not in quotients:
                found.append((abs(math.log(quotients[1] / quotients[0])), None))
            continue
        one, two = (ratio.ratio for ratio in ratios)
        move = abs(math.log(two.estimate / one.estimate))
        found.append((move, move <= welch_reach(one.per_block, two.per_block)))
    return found


def quotient(run: Run, case: str) -> float | None:
    """Latency of a case divided by that of the reference; None if one is missing."""
    latency = run.cases.set_index("id")["latency_ms"]
    value = latency.get(case, math.nan) / latency.get(run.reference, math.nan)
    return None if math.isnan(value) else float(value)


def welch_reach(one: Sequence[float], two: Sequence[float]) -> float:
    """Half of the 95 % interval of a difference of means."""
    error, freedom = welch(one, two)
    return float(stdtrit(freedom, 0.975)) * error


def covers_itself(run: Run) -> bool | None:
    """Whether the interval of the reference's ratio to itself holds 1; None without one."""
    if run.ratios.empty:  # no case took turns
        return None
    own = run.ratios.set_index("case")
    if run.reference not in own.index or math.isnan(own.loc[run.reference]["ratio_low"]):
        return None
    row = own.loc[run.reference]
    return bool(row["ratio_low"] <= 1 <= row["ratio_high"])


def sampling_share(run: Run) -> float:
    """Share of a run's time in which inferences were timed."""
    launches = [one for one in run.stored.launches if isinstance(one.result, TimeResult)]
    timed = sum(launch.result.sample_seconds for launch in launches)
    began = datetime.fromisoformat(run.stored.meta["created"])
    ended = max(datetime.fromisoformat(launch.ended) for launch in launches)
    return timed / (ended - began).total_seconds()


def report(arguments: argparse.Namespace) -> None:
    """Print a table of all that was measured so far."""
    runs: dict[tuple[str, int], list[Run]] = defaultdict(list)
    for line in (arguments.out / "index.jsonl").read_text().splitlines():
        entry = json.loads(line)
        run = cspbench.load(arguments.out / entry["run"])
        runs[entry["schedule"], entry["tenants"]].append(run)
    print(
        "| schedule | co-tenants | runs | launches | ratio moves by, median | p95 | covered "
        "| A/A | sampling |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (schedule, tenants), of_kind in sorted(runs.items()):
        pairs = itertools.combinations(of_kind, 2)
        found = [move for pair in pairs for move in moves(*pair)]
        if not found:
            continue
        sizes = [math.expm1(size) for size, _ in found]
        inside = [held for _, held in found if held is not None]
        covered = f"{sum(inside) / len(inside):.0%} of {len(inside)}" if inside else "-"
        launches = [count for run in of_kind for count in run.cases["launches"]]
        own = [held for run in of_kind if (held := covers_itself(run)) is not None]
        print(
            f"| {schedule} | {tenants} | {len(of_kind)} | {median(launches):g} | "
            f"{median(sizes):.1%} | {percentile(sizes, 0.95):.1%} | {covered} |"
            f" {sum(own)} of {len(own)} | {median(map(sampling_share, of_kind)):.0%} |"
        )


def main() -> None:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where runs and their index are kept")
    commands = parser.add_subparsers(required=True)
    wanted = commands.add_parser("measure", help="measure")
    wanted.add_argument("--suite", type=Path, default=SUITE)
    wanted.add_argument("--tenants", type=int, default=0, choices=(0, 1, 2))
    wanted.add_argument("--times", type=int, default=2, help="runs of each schedule")
    wanted.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=SCHEDULES)
    wanted.set_defaults(work=measure)
    commands.add_parser("report", help="print a table").set_defaults(work=report)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    arguments.work(arguments)


if __name__ == "__main__":
    main()
