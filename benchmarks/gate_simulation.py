"""Error rates of the gate's decision on simulated machines: the tables of docs/gate.md.

Bursts are simulated (``tests/gating/noise.py``). Everything after them is the gate's own code.

    python -m benchmarks.gate_simulation [--trials 2000]

It takes about a minute on one processor. The same number of trials gives the same tables.
"""

from __future__ import annotations

import argparse
from collections import Counter
from statistics import median

import numpy as np

from cspbench.gating.decide import (
    INTERIM_ANALYSES,
    MOVED,
    Decision,
    Finding,
    confirmed,
    decide,
)
from cspbench.suite.suite import Gate
from tests.gating.noise import estimates

#: Blocks of two processes that differ so much scatter by 2.0 %, as the campaign's crowded ones did.
PROCESS = 0.014
#: Normal delays alone.
NOTHING: dict[str, float | None] = {
    "autocorrelation": 0.9, "freedom": None, "neighbour": 0.0, "drift": 0.0, "tenant": 0.0,
}  # fmt: skip
#: Name of a kind of noise -> settings that differ from those of the tests.
NOISES: dict[str, dict[str, float | None]] = {
    "normal delays": {**NOTHING},
    "heavy-tailed delays, Student with 2 degrees of freedom": {**NOTHING, "freedom": 2},
    "neighbour up to +40 %, independent": {**NOTHING, "neighbour": 0.4, "autocorrelation": 0.0},
    "neighbour up to +40 %, autocorrelated, 0.9": {**NOTHING, "neighbour": 0.4},
    "drift of +50 %": {**NOTHING, "drift": 0.5},
    "co-tenant of +40 %": {**NOTHING, "tenant": 0.4},
    "all of it, as in the tests": {},
    "the same, and processes that differ by 0.8 %": {"process": 0.008},
    "the same, and processes that differ by 1.4 %": {"process": PROCESS},
}  # fmt: skip
EFFECTS = (0.0, 0.01, 0.02, 0.025, 0.03, 0.04, 0.05, 0.10)
MIN_EFFECT, TOLERANCE = Gate.min_effect, Gate.tolerance
#: A smallest effect with which the alphas of the interim analyses alone decide.
NO_EFFECT = 1e-9


def gate(
    row: list[float], min_effect: float, tolerance: float, earlier: float | None = None
) -> Decision:
    """Analyse growing numbers of blocks until the gate decides."""
    for analysis in INTERIM_ANALYSES:
        decision = decide(row[: analysis.blocks], min_effect, tolerance, earlier=earlier)
        if decision.finding is not Finding.GO_ON:
            return decision
    raise AssertionError("the last analysis always decides")


def outcomes(
    first: np.ndarray, second: np.ndarray, min_effect: float, tolerance: float
) -> tuple[Counter[str], float]:
    """Count the outcomes of gates, where ``second`` is the second measurement.

    Returns:
        The counts, and the median number of blocks of the first measurement.
    """
    counts: Counter[str] = Counter()
    used = []
    for row, again in zip(first.tolist(), second.tolist(), strict=True):
        decision = gate(row, min_effect, tolerance)
        counts[f"{decision.finding} once"] += 1
        used.append(decision.blocks)
        if decision.finding in MOVED:
            repeated = gate(again, min_effect, tolerance, decision.estimate)
            twice = repeated.finding is decision.finding and confirmed([repeated.p_moved])[0]
            counts[str(decision.finding)] += twice
            counts["not confirmed"] += not twice
    return counts, median(used)


def line(*cells: object) -> None:
    """Print one line of a Markdown table."""
    print(f"| {' | '.join(map(str, cells))} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials

    def share(count: int) -> str:
        return f"{100 * count / trials:.1f} %"

    def simulated(effect: float, seed: int, **noise: float | None) -> np.ndarray:
        return estimates(trials, INTERIM_ANALYSES[-1].blocks, effect, seed=seed, **noise)

    spent = sum(analysis.alpha for analysis in INTERIM_ANALYSES)
    line(
        "noise, nothing changed",
        f"alphas alone: slower (nominal {spent * 100:.1f} % at most)",
        "alphas alone: twice",
        "the gate: slower once",
        "the gate: `slower`",
        "3 % slower: found",
    )
    line(*["---"] * 6)
    for number, (name, noise) in enumerate(NOISES.items()):
        first, second, slow, again = (
            simulated(effect, 10 * number + i, **noise)
            for i, effect in enumerate((0.0, 0.0, 0.03, 0.03))
        )
        alphas_alone, _ = outcomes(first, second, NO_EFFECT, NO_EFFECT)
        unchanged, _ = outcomes(first, second, MIN_EFFECT, TOLERANCE)
        slowed, _ = outcomes(slow, again, MIN_EFFECT, TOLERANCE)
        line(
            name,
            share(alphas_alone["slower once"]),
            share(alphas_alone["slower"]),
            share(unchanged["slower once"]),
            share(unchanged["slower"]),
            share(slowed["slower"]),
        )
    print()
    line(
        "true slowdown",
        "found slower once",
        "found twice (`slower`)",
        "`same`",
        "`inconclusive`",
        "`faster`",
        "median blocks",
    )
    line(*["---"] * 7)
    for number, effect in enumerate(EFFECTS):
        first, second = (simulated(effect, 100 + 2 * number + i, process=PROCESS) for i in range(2))
        counts, used = outcomes(first, second, MIN_EFFECT, TOLERANCE)
        line(
            f"{effect * 100:g} %",
            share(counts["slower once"]),
            share(counts["slower"]),
            share(counts["same once"]),
            share(counts["inconclusive once"] + counts["not confirmed"]),
            share(counts["faster"]),
            f"{used:g}",
        )


if __name__ == "__main__":
    main()
