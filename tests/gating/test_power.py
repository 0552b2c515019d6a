"""The smallest slowdown that the gate finds, given how much its blocks scatter."""

import math
import random

import pytest

from cspbench.gating.decide import InterimAnalysis
from cspbench.gating.power import smallest_effect
from cspbench.suite.suite import Gate

GATE = Gate(min_effect=0.02, tolerance=0.025)


def test_without_noise_it_is_what_the_gate_asks_for():
    assert smallest_effect(0.0, GATE) == pytest.approx(0.02)


def test_with_one_analysis_it_is_by_hand():
    """One look after four blocks, min_effect near 0, at a level at which only the mean counts.

    The bound at alpha 0.5 is the mean itself, t(0.5) = 0, so that a measurement finds a slowdown d
    if its mean is above 0: P = Phi(d / (s / 2)). Both find it in 95 % of gates if each does in
    97.47 %: d = 1.955 s / 2. The second one's size, the mean of both, is above 0 then, too.
    """
    gate, look = Gate(min_effect=1e-9, tolerance=1e-9), (InterimAnalysis(4, 0.5),)
    effect = math.log1p(smallest_effect(0.02, gate, look))
    assert effect == pytest.approx(1.955 * 0.02 / 2, rel=0.08)


def test_it_grows_with_the_scatter_of_blocks():
    quiet, busy, crowded = (smallest_effect(spread, GATE) for spread in (0.005, 0.03, 0.06))
    assert 0.02 < quiet < busy < crowded


@pytest.mark.parametrize("spread", [0.006, 0.03])
def test_other_noise_confirms_the_power(spread):
    """Gates of other random numbers find that slowdown in about 95 %, and half of it rarely."""
    from cspbench.gating import power
    from cspbench.gating.decide import INTERIM_ANALYSES

    effect = math.log1p(smallest_effect(spread, GATE))
    draw = random.Random(7)

    def found(size):
        most = INTERIM_ANALYSES[-1].blocks
        pairs = [
            [[draw.gauss(0, spread) for _ in range(most)] for _ in range(2)] for _ in range(600)
        ]
        return sum(power._confirmed(size, pair, GATE, INTERIM_ANALYSES) for pair in pairs) / 600

    assert 0.91 < found(effect) < 0.99  # 600 gates: the share errs by 0.9 %
    assert found(effect / 2) < 0.5
