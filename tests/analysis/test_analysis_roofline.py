"""Predicted times by hand: a device of 100 GFLOP/s, 10 GB/s and 10 µs an operator."""

import pytest

from cspbench.analysis.roofline import Peak, Prediction, predict, predict_all

DEVICE = Peak(flops_per_s=100e9, bytes_per_s=10e9, overhead_s=10e-6)


def test_the_ridge_is_where_both_take_equally_long():
    # 100e9 FLOP/s / 10e9 byte/s = 10 FLOPs a byte
    assert DEVICE.ridge == 10


@pytest.mark.parametrize(
    ("flops", "traffic_bytes", "milliseconds", "bound"),
    [
        # 2e9 / 100e9 = 20 ms of arithmetic, 1e6 / 10e9 = 0.1 ms of traffic, 0.01 ms of overhead
        (2e9, 1e6, 20.01, "compute"),
        # 1e6 / 100e9 = 0.01 ms, 5e7 / 10e9 = 5 ms, 0.01 ms
        (1e6, 5e7, 5.01, "memory"),
        # 1e3 FLOPs and 1e3 bytes take 0.1 µs at most; the operator itself 10 µs
        (1e3, 1e3, 0.0101, "overhead"),
        (0, 0, 0.01, "overhead"),
    ],
)
def test_the_slowest_part_bounds_a_layer(flops, traffic_bytes, milliseconds, bound):
    found = predict(flops, traffic_bytes, DEVICE)
    assert found.bound == bound
    assert found.predicted_ms == pytest.approx(milliseconds, rel=1e-9)


def test_layers_are_predicted_one_by_one():
    assert predict_all([(2e9, 1e6), (0, 0)], DEVICE) == [
        Prediction(20.01, "compute"),
        Prediction(0.01, "overhead"),
    ]
