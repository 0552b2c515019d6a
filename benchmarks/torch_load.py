"""How long a worker takes to load an exported program, as torch reads it and as we do.

    python benchmarks/torch_load.py [MODEL] [pairs]

Fresh processes in turns, each imports torch, then loads; prints the seconds of the load alone and
the ratio with its 95 % interval (mean of log ratios of pairs, Student).
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, median

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.core.case import ModelId
from cspbench.gating.decide import student_bound

WAYS = ("torch", "cspbench")


def load(way: str, artifact: str) -> float:
    """Seconds of one load in this process."""
    import torch

    from cspbench.artifacts.program import load_program

    start = time.perf_counter()
    if way == "cspbench":
        load_program(Path(artifact))
    else:
        torch.export.load(artifact).module(check_guards=False)
    return time.perf_counter() - start


def fresh(way: str, artifact: Path) -> float:
    """The same in a process of its own."""
    words = [sys.executable, __file__, "--load", way, str(artifact)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    """Export the model if need be, then measure pairs of processes in changing order."""
    from cspbench.artifacts.export import build_model, prepare

    model = ModelId.parse(sys.argv[1] if len(sys.argv) > 1 else "csppeleenet@224")
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    spec = ArtifactSpec(model, 1, "pt2", 0)
    if not spec.ready:
        prepare(spec, build_model(model, 0))
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(pairs):
        for way in WAYS if number % 2 else WAYS[::-1]:
            taken[way].append(fresh(way, spec.path))
    ratios = [math.log(b / a) for a, b in zip(*(taken[way] for way in WAYS), strict=True)]
    half = student_bound(ratios, 0.975)
    low, middle, high = (math.exp(fmean(ratios) + side * half) for side in (-1, 0, 1))
    for way in WAYS:
        print(f"{way:9s} {median(taken[way]):.2f} s (median of {pairs})")
    print(f"ratio {middle:.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--load"]:
        print(load(*sys.argv[2:]))
    else:
        main()
