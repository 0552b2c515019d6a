"""Drift of a case against the others of its block: what changes for all alike is the machine's."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from cspbench.measure.sampling import DRIFT_SHARE, DRIFT_Z, Drift
from cspbench.measure.statistics import trend

#: Consecutive rounds are put together into so many groups, each with at least so many rounds.
GROUPS, GROUP_MIN = 10, 2


def relative_drifts(times: Mapping[str, Sequence[float]]) -> dict[str, Drift]:
    """Trend of each case relative to its rounds.

    Args:
        times: for each case its time in each round, in any unit; all have the same rounds.

    Returns:
        The drift of each case: the trend of its time, divided by the geometric mean over the cases
        of the round. Empty with fewer than three cases (their mean would be the case itself) or too
        few rounds.
    """
    rounds = min((len(values) for values in times.values()), default=0)
    groups = min(GROUPS, rounds // GROUP_MIN)
    if len(times) < 3 or groups < 3:
        return {}
    logs = {name: [math.log(value) for value in values] for name, values in times.items()}
    means = [fmean(of_round) for of_round in zip(*logs.values(), strict=False)]
    drifts = {}
    for name, values in logs.items():
        relative = [math.exp(value - mean) for value, mean in zip(values, means, strict=False)]
        ends = [round(number * rounds / groups) for number in range(groups + 1)]
        medians = [median(relative[a:b]) for a, b in itertools.pairwise(ends)]
        change = trend(medians)
        slow = abs(change.relative) > DRIFT_SHARE and abs(change.z) > DRIFT_Z
        drifts[name] = Drift(change.relative, change.z, slow)
    return drifts
