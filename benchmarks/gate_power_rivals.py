"""Two other tools that gate on speed, with the arms and the time of a gate.

Their criteria are computed here and the tools are not imported, because they have to measure
through the same workers as the gate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean, stdev

from cspbench.gating.duet import MakeArm
from cspbench.measure.clock import MonotonicClock
from cspbench.runner.arms import BURST_NS

#: Processes of each side in the pyperf-like design, and the time to start one.
PROCESSES = 20
START_SECONDS = 0.8

#: Growth of the mean that pytest-benchmark is told to fail at.
MEAN = 0.02

#: Makes the arms of a trial in which the head does so much more work.
Arms = Callable[[float], MakeArm]


def one_process(arms: Arms, share: float, side: str, seconds: float) -> list[float]:
    """Burst means (ns an inference) of one fresh process of a side that runs for ``seconds``."""
    arm = arms(share)("head" if side == "head" else "base")
    clock = MonotonicClock()
    try:
        arm.start()
        count = max(1, round(BURST_NS / arm.load().inference_ns))
        end = clock.now_ns() + int(seconds * 1e9)
        means = [arm.burst(count).inference_ns]
        while clock.now_ns() < end:
            means.append(arm.burst(count).inference_ns)
    finally:
        arm.close()
    return means


def compare_fail_mean(arms: Arms, share: float, seconds: float) -> dict:
    """pytest-benchmark: fail if the mean of the new run is 2 % above that of the stored one."""
    half = max(1.0, seconds / 2 - START_SECONDS)
    means = [fmean(one_process(arms, share, side, half)) for side in ("base", "head")]
    return {"ratio": means[1] / means[0], "slower": means[1] > (1 + MEAN) * means[0]}


def pyperf_t_test(arms: Arms, share: float, seconds: float) -> dict:
    """pyperf: two-sided Student t-test at 95 % on the values of both runs, and a larger mean.

    A run of pyperf is 20 processes of 3 values each. Here it has as many as fit into the time.
    """
    processes = min(PROCESSES, max(3, int(seconds / 2 / (START_SECONDS + 0.3))))
    each = max(0.3, seconds / (2 * processes) - START_SECONDS)
    runs = []
    for side in ("base", "head"):
        values = []
        for _ in range(processes):
            bursts = one_process(arms, share, side, each)
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
