"""What bounds a case on an accelerator, for devices whose truth is known."""

import pytest

from cspbench.backends.spec import Kernels
from cspbench.jobs.device import DeviceResult
from cspbench.views.device_bound import Work, bound, work_of
from cspbench.views.layer_times import Conditions

MS = 1_000_000
#: 10 TFLOP/s and 1 TB/s.
CEILINGS = {"gflops": {"fp32": 10_000.0}, "bandwidth_gbs": {"triad": 1_000.0}}


def result(device_ms, span_ms, *, held=True, parts=None, kernels=None):
    medians = {"device_ns": device_ms * MS, "span_ns": span_ms * MS}
    return DeviceResult([1], [1], [1], medians, held, parts or {}, kernels)


def test_a_device_that_waits_for_launches_is_bound_by_them():
    found = bound(result(0.8, 2.0, kernels=Kernels(200, 700_000)))
    assert str(found) == "launching 60%"
    assert "waits 60% of the time for the host's launches of 200 kernels" in found.text
    assert "cudagraph" in found.text


def test_gaps_below_a_quarter_leave_the_kernels():
    found = bound(result(1.9, 2.0))
    assert (found.by, found.share) == ("kernels", None)
    assert "measure.ceilings" in found.text


@pytest.mark.parametrize(
    ("flops", "traffic_bytes", "text"),
    [
        # In 2 ms a device does 20 GFLOP and moves 2 GB at best.
        (2e9, 1.4e9, "memory 70%"),
        (14e9, 0.2e9, "compute 70%"),
        (2e9, 0.2e9, "memory 10%"),  # neither: what is nearer, and how near
    ],
)
def test_ceilings_tell_memory_from_arithmetic(flops, traffic_bytes, text):
    assert str(bound(result(2.0, 2.1), Work(flops, traffic_bytes, 10_000.0, 1_000.0))) == text


def test_an_inference_that_is_mostly_copies_is_bound_by_them_first():
    parts = {"input_ns": 5.0 * MS, "span_ns": 2.0 * MS, "output_ns": 1.0 * MS}
    assert str(bound(result(0.5, 2.0, parts=parts))) == "transfer 75%"
    parts["input_ns"] = 0.1 * MS
    assert bound(result(0.5, 2.0, parts=parts)).by == "launching"


def test_without_a_held_stream_nothing_is_claimed():
    assert bound(result(2.0, 2.0, held=False)) is None


def test_weights_are_read_once_for_a_batch():
    totals = {"macs": 500e6, "traffic_bytes_fused": 30e6, "weight_bytes": 10e6}
    one = work_of(totals, Conditions(1, "fp32", CEILINGS))
    assert (one.flops, one.traffic_bytes) == (1e9, 30e6)
    many = work_of(totals, Conditions(8, "fp16", CEILINGS))
    assert (many.flops, many.traffic_bytes) == (8e9, (8 * 20e6 + 10e6) / 2)
    assert (one.gflops, one.bandwidth_gbs, many.gflops) == (10_000.0, 1_000.0, None)
    assert work_of({}, Conditions()) is None
