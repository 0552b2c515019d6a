"""Drift of a case against the others of its rounds."""

import numpy as np

from cspbench.measure.drift import relative_drifts


def test_a_machine_that_slows_down_is_no_drift_of_a_case():
    slower = np.linspace(1, 2, 40)
    drifts = relative_drifts({name: list(len(name) * slower) for name in ("a", "bb", "ccc")})
    assert all(abs(drift.relative) < 1e-9 for drift in drifts.values())
    assert not any(drift.slow for drift in drifts.values())


def test_a_case_that_slows_down_against_the_others_drifts():
    steady = [10.0] * 40
    drifts = relative_drifts({"a": steady, "b": steady, "c": list(np.linspace(10, 13, 40))})
    assert drifts["c"].slow
    # c rises by 30 %, its round's geometric mean by its cube root: about 0.20 of the median remain.
    assert 0.15 < drifts["c"].relative < 0.22
    assert drifts["a"].relative < 0


def test_two_cases_or_few_rounds_tell_nothing():
    assert relative_drifts({"a": [1.0] * 40, "b": [1.0] * 40}) == {}
    assert relative_drifts({name: [1.0] * 5 for name in "abc"}) == {}
    assert relative_drifts({}) == {}
