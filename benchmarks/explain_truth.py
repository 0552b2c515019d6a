"""Does `explain` find a cause that was planted? Pairs of networks that differ by one known thing.

    python benchmarks/explain_truth.py measure [--backend opencv-cpu] [--only swish]
    python benchmarks/explain_truth.py report          # Markdown, at any time

Each network of ``explain_nets.py`` differs from its ``base`` by one cause in one stage, so the true
size of the cause is the whole difference of the two. Every pair is measured twice, by runs of their
own; the difference of one run is the truth for the explanation of the other, as sharp as its own
interval. ``two_causes`` has two at once. ``allocator`` is one network under two settings of the
allocator, in torch, since the others take no memory from it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from cspbench.attribution.api import explain_networks
from cspbench.attribution.causes import CAUSES, RESIDUALS, Explanation
from cspbench.attribution.pair import measure_plan, plan_pair
from cspbench.attribution.text import as_dict
from cspbench.models.code import allowing_code
from cspbench.runner.executor import LocalExecutor

OUT = Path("results/explain-truth")
BACKENDS = ("opencv-cpu", "onnxruntime", "torch-cpu")
INPUT = 256
#: The size is right within this share, or within the interval of the cause.
WITHIN = 0.20


@dataclass(frozen=True)
class Planted:
    """Where a network differs, and the causes by which that may be told."""

    stage: str
    causes: tuple[str, ...]


ARITHMETIC = ("compute", "size", "intensity", "overhead")
PLANTED = {
    "extra_1x1": Planted("stages.1", ARITHMETIC),
    "doubled": Planted("stages.2", ARITHMETIC),
    "copied": Planted("stages.0", ("concatenation", "layout")),
    "swish": Planted("stages.0", ("unfused", "size", "traffic")),
    "shuffled": Planted("stages.0", ("layout",)),
    "narrow": Planted("stages.2", ("size", "overhead", "intensity", "traffic")),
    "depthwise": Planted("stages.1", ("traffic", *ARITHMETIC)),
    "turned": Planted("stages.0", ("layout",)),
    "late_stride": Planted("stages.1", ARITHMETIC),
    "two_causes": Planted("", ("layout", *ARITHMETIC)),
    "allocator": Planted("", ("faults",)),
}


def case_of(net: str, backend: str) -> str:
    """Case of a network of explain_nets.py."""
    return f"python:benchmarks.explain_nets:{net}@{INPUT}/{backend}/b1/t1"


def pair_of(name: str, backend: str) -> tuple[str, str]:
    """The two cases of a planted cause."""
    if name == "allocator":
        return case_of("base", f"{backend}[allocator=retained]"), case_of("base", backend)
    return case_of("base", backend), case_of(name, backend)


def explained(a: str, b: str, rounds: int) -> Explanation:
    """Measure the two and explain their difference."""
    with allowing_code(True):
        plan = plan_pair(a, b, rounds=rounds)
        run = measure_plan(plan, OUT / "runs", LocalExecutor(allow_code=True))
    first, second = (record.case for record in run.records)
    return explain_networks(run, first, second)


def measure(arguments: argparse.Namespace) -> None:
    """Measure every pair, a line each."""
    for backend in arguments.backend:
        for name in arguments.only or PLANTED:
            if (name == "allocator") is not (backend == "torch-cpu"):
                continue
            pair = pair_of(name, backend)
            it, again = explained(*pair, rounds=5), explained(*pair, rounds=5)
            for one, other in ((it, again), (again, it)):
                whole_ms = other.a.latency.estimate
                line = {"backend": backend, "planted": name, "explained": as_dict(one),
                        "truth_share": other.difference_ms / whole_ms,
                        "truth_share_high": (other.high or 0.0) / whole_ms}  # fmt: skip
                with (OUT / "index.jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(
                    f"{backend} {name}: {one.verdict}, {one.difference_ms:+.2f} ms", file=sys.stderr
                )


def judged(line: dict) -> dict:
    """What an explanation got right.

    The size is that of the planted causes, which what a layer takes beside its neighbours is not
    among; the intervals are judged by the time of the planted stage in the network.
    """
    it, planted = line["explained"], PLANTED[line["planted"]]
    labels = [(CAUSES | RESIDUALS)[key] for key in planted.causes]
    own = [part for part in it["parts"] if part["cause"] in labels]
    there = [group for group in it["groups"] if group["stage"] == planted.stage != ""]
    true = line["truth_share"] * it["a"]["latency_ms"]
    true_reach = line["truth_share_high"] * it["a"]["latency_ms"] - true
    size, reach = _sum(own)
    in_place, place_reach = _sum(there or own)
    largest = max(it["parts"], key=lambda part: abs(part["difference_ms"]))
    stages: dict[str, float] = defaultdict(float)
    for group in it["groups"]:
        if group["stage"]:
            stages[group["stage"]] += group["difference_ms"]
    place = max(stages, key=lambda stage: abs(stages[stage]), default="")
    return {
        "cause": largest["cause"] in labels,
        "place": planted.stage in ("", place),
        "size": abs(size - true) <= max(WITHIN * abs(true), math.hypot(reach, true_reach)),
        "covered": abs(in_place - true) <= math.hypot(place_reach, true_reach),
        "residual": (it["residual_share"] or 0.0) < 0.10,
        "true_ms": true, "true_reach_ms": true_reach, "size_ms": size, "reach_ms": reach,
        "in_place_ms": in_place, "place_reach_ms": place_reach,
        "largest": largest["cause"], "verdict": it["verdict"],
    }  # fmt: skip


def _sum(rows: list[dict]) -> tuple[float, float]:
    """Sum of differences, and half the width of its interval if they are independent."""
    widths = [(row["difference_ms_high"] or 0.0) - row["difference_ms"] for row in rows]
    return sum(row["difference_ms"] for row in rows), math.hypot(*widths)


def report(_arguments: argparse.Namespace) -> None:
    """Print a table of all that was measured so far."""
    print(
        "| backend | planted | true, ms | by cause, ms | in its stage, ms | cause | place | size "
        "| covered | residual |"
    )
    print("| --- | --- | ---: | ---: | ---: | --- | --- | --- | --- | --- |")
    marks = {True: "yes", False: "**no**"}
    for text in (OUT / "index.jsonl").read_text().splitlines():
        line = json.loads(text)
        row = judged(line)
        cells = [marks[row[key]] for key in ("cause", "place", "size", "covered", "residual")]
        cells[0] += "" if row["cause"] else f" ({row['largest']})"
        sizes = [
            f"{row[name]:+.2f} ± {row[reach]:.2f}"
            for name, reach in (("true_ms", "true_reach_ms"), ("size_ms", "reach_ms"),
                                ("in_place_ms", "place_reach_ms"))
        ]  # fmt: skip
        print(f"| {line['backend']} | {line['planted']} | {' | '.join([*sizes, *cells])} |")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    wanted = commands.add_parser("measure", help="measure")
    wanted.add_argument("--backend", nargs="+", default=list(BACKENDS))
    wanted.add_argument("--only", nargs="+", choices=list(PLANTED))
    wanted.set_defaults(work=measure)
    commands.add_parser("report", help="print a table").set_defaults(work=report)
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    arguments.work(arguments)


if __name__ == "__main__":
    main()
