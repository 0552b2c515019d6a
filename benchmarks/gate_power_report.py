"""The tables of the gate's campaign as Markdown."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from statistics import median, stdev

from campaign import rows_of
from gate_power_rivals import FAIL

from cspbench.core.case import Case

#: Rows of the tables: each kind alone, and kinds together. "slower" gets the trials' share.
GROUPS = {
    "same code, quiet": ("quiet-aa",),
    "same code, loaded": ("loaded-aa",),
    "same code, crowded": ("crowded-aa",),
    "same code, all": ("quiet-aa", "loaded-aa", "crowded-aa"),
    "slower, quiet": ("quiet-slow",),
    "slower, loaded": ("loaded-slow",),
    "slower, crowded": ("crowded-slow",),
    "slower, quiet and loaded": ("quiet-slow", "loaded-slow"),
}
#: Distributions of the backends whose cases have had a campaign.
LIBRARIES = {"opencv-cpu": "opencv-python-headless", "onnxruntime": "onnxruntime"}


def clopper_pearson(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share. Clopper & Pearson (1934), "The use of confidence ... limits"."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return low, high


def share_text(hits: int, trials: int) -> str:
    """``0 of 100 (0.0 to 3.6 %)``."""
    if not trials:
        return "-"
    low, high = clopper_pearson(hits, trials)
    return f"{hits} of {trials} ({low * 100:.1f} to {high * 100:.1f} %)"


def line(*cells: object) -> None:
    """Print one line of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |")


def report(file: Path) -> None:
    """Print the block of docs/gate.md."""
    rows = rows_of(file)
    entries = {row["kind"]: row for row in rows if row["kind"] in ("campaign", "calibration")}
    if not entries:
        sys.exit(f"{file} holds no campaign yet")
    machine = entries["campaign"]["environment"]
    slowdown = entries["campaign"].get("share", 0.05)
    days = sorted({row["at"][:10] for row in rows})
    period = " to ".join(days[:1] + days[1:][-1:])
    print(f"`{entries['campaign']['case']}` on {machine['cpu']}, {machine['cores_usable']} cores"
          f"{', virtual' if machine['virtualised'] else ''}, "
          f"{library(entries['campaign']['case'], machine['libraries'])}, "
          f"{period}. In brackets: Clopper-Pearson, 95 %.")  # fmt: skip
    if "calibration" in entries:
        facts = entries["calibration"]
        print(f"An inference takes {facts['inference_ms']:.1f} ms; of the extra work, meant to be "
              f"{slowdown * 100:g} %, the calibration saw {facts['seen'] * 100:+.1f} ± "
              f"{facts['seen_error'] * 100:.1f} %.")  # fmt: skip
    print()
    line("trials", "`slower`", "found once", "other than `same`", "median change",
         "a block scatters by", "median s", "longest s", "others' load, cores")  # fmt: skip
    line(*["---"] * 9)
    for name, kinds in GROUPS.items():
        trials = [row for row in rows if row["kind"] in kinds]
        if trials and (len(kinds) == 1 or len({row["kind"] for row in trials}) > 1):
            line(named(name, trials, slowdown), *gate_cells(trials))
    if not any(map(with_tools, rows)):
        return
    print()
    line(
        "trials with the other tools",
        "cspbench gate",
        f"pytest-benchmark {FAIL}",
        "pyperf compare_to",
    )
    line(*["---"] * 4)
    for name, kinds in GROUPS.items():
        trials = [row for row in rows if row["kind"] in kinds and with_tools(row)]
        if trials and (len(kinds) == 1 or len({row["kind"] for row in trials}) > 1):
            hits = [sum(row["gate"]["verdict"] == "slower" for row in trials)]
            hits += [sum(row[rival]["slower"] for row in trials)
                     for rival in ("pytest_benchmark", "pyperf")]  # fmt: skip
            line(named(name, trials, slowdown), *(share_text(count, len(trials)) for count in hits))


def with_tools(row: dict) -> bool:
    """Whether the other tools ran in a trial. Those of before only computed their criteria."""
    return "processes" in row.get("pyperf", {})


def library(case: str, versions: dict[str, str]) -> str:
    """The library that computed, with its version."""
    name = LIBRARIES[Case.parse(case).backend.name]
    return f"{name} {versions.get(name, '?')}"


def named(group: str, trials: list[dict], slowdown: float) -> str:
    """``3 % slower, quiet``; earlier trials were of the campaign's ``slowdown``."""
    shares = {row.get("share", slowdown) for row in trials}
    texts = " and ".join(f"{share * 100:g} %" for share in sorted(shares))
    return f"{texts} {group}" if group.startswith("slower") else group


def scatter_text(gates: list[dict]) -> str:
    """By how much blocks of these gates scatter: the median over their measurements."""
    spreads = [stdev(run) for gate in gates for run in gate.get("generations", ()) if len(run) > 1]
    return f"{median(spreads) * 100:.1f} %" if spreads else "-"


def gate_cells(trials: list[dict]) -> list[str]:
    """Cells of a table for some trials."""
    gates = [row["gate"] for row in trials]
    verdicts = Counter(gate["verdict"] for gate in gates)
    others = [f"{count} {name}" for name, count in sorted(verdicts.items())
              if name not in ("slower", "same")]  # fmt: skip
    seconds = [row["seconds"] for row in trials]
    estimates = [gate["estimates"][-1] for gate in gates if gate["estimates"]]
    loads = [row["foreign_cpus"] + row["steal_cpus"] for row in trials if "foreign_cpus" in row]
    return [
        share_text(verdicts["slower"], len(trials)),
        str(sum(gate["first"] == "slower" for gate in gates)),
        ", ".join(others) or "-",
        f"{median(estimates) * 100:+.1f} %" if estimates else "-",
        scatter_text(gates),
        f"{median(seconds):.0f}",
        f"{max(seconds):.0f}",
        f"{median(loads):.1f}" if loads else "-",
    ]
