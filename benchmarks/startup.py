"""How long ``cspbench --help`` and ``cspbench plan`` take to start, against their bounds.

    python benchmarks/startup.py [rounds]

Commands take turns, so that drift of the machine meets all of them alike; a bare interpreter runs
beside them as the floor that no Python program can go below. The folder holds three stored runs,
from which plans estimate. The first round, which fills the file cache, is left out. Exit code 1 if
a median is over its bound.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from tabulate import tabulate

#: Kept runs of the repository that lie in the folder, the largest among them.
STORED = sorted(
    (Path(__file__).parents[1] / "results/reference").glob("*/*/run.json"),
    key=lambda file: file.stat().st_size,
)[-3:]
SCRIPT = str(Path(sys.executable).with_name("cspbench"))
#: Command -> (how it is started, bound in seconds or None).
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "cspbench --help": ([SCRIPT, "--help"], 0.3),
    "cspbench plan edge": ([SCRIPT, "plan", "edge"], 0.5),
    "cspbench plan gamma-sweep": ([SCRIPT, "plan", "gamma-sweep"], 0.5),
}


def seconds(command: list[str], folder: str) -> float:
    """Wall-clock time from start to end of one process."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(rounds: int) -> dict[str, list[float]]:
    """Times of every command, one a round."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        for file in STORED:
            shutil.copytree(file.parent, Path(folder, "results", file.parent.name))
        for number in range(rounds + 1):
            for name, (command, _) in COMMANDS.items():
                taken = seconds(command, folder)
                if number:
                    times[name].append(taken)
    return times


def main() -> None:
    """Measure, print a table, compare with the bounds."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    times = measure(rounds)
    rows, late = [], False
    for name, (_, bound) in COMMANDS.items():
        middle = median(times[name])
        within = bound is None or middle <= bound
        late |= not within
        verdict = "" if bound is None else "yes" if within else "NO"
        rows.append((name, middle, min(times[name]), max(times[name]), bound, verdict))
    headers = ("command", "median s", "least s", "most s", "bound s", "within")
    print(tabulate(rows, headers, floatfmt=".3f"))
    print(f"{rounds} paired rounds")
    sys.exit(late)


if __name__ == "__main__":
    main()
