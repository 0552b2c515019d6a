"""Kernels of a device from its tracer's records, whose truth is written here.

The events are torch.profiler's own, of a real graph on the processor; what CUPTI would add to them
is added by hand, because no device is needed to know what belongs to what.
"""

from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from cspbench.backends._torch_trace import (
    MARK,
    TracedProgram,
    TracedSession,
    device_records,
    ranges,
)
from cspbench.backends.common.kernels import (
    DeviceRecord,
    Range,
    covered_ns,
    summed_up,
    tied,
    without_stall,
)
from cspbench.backends.spec import Kernels, LayerTime
from cspbench.errors import Unsupported


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return torch.relu(self.conv(x)) + 1


@pytest.fixture(scope="module")
def graph():
    example = torch.ones(1, 3, 8, 8)
    return torch.export.export(Net().eval(), (example,)).module()


def on_device(name, begin_us, end_us, *, annotation=False):
    """A record as torch.profiler gives CUPTI's."""
    return SimpleNamespace(
        name=name, device_type=DeviceType.CUDA, is_user_annotation=annotation,
        time_range=SimpleNamespace(start=begin_us, end=end_us),
    )  # fmt: skip


#: What each operator submits, by the call of ATen that does: name and microseconds.
SUBMITTED = {
    "aten::_convolution": [("implicit_gemm", 40.0), ("add_bias", 5.0)],
    "aten::relu": [("elementwise", 4.0)],
    "aten::add": [("elementwise", 3.5)],
}


def traced_like_a_card(work):
    """Run work on the processor; the kernels of SUBMITTED hang where CUPTI's would."""
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        work()
    events, records, at = (
        list(profiler.events()),
        [on_device("spin_kernel(long)", 0.0, 900.0)],
        900.0,
    )
    for event in sorted(events, key=lambda event: event.time_range.start):
        if event.name.startswith(MARK):  # its shadow on the device
            records.append(on_device(event.name, at, at + 100.0, annotation=True))
        for name, duration in SUBMITTED.get(event.name, []):
            event.append_kernel(name, 0, duration)
            records.append(on_device(name, at, at + duration))
            at += duration + 1.0  # a device needs a microsecond between kernels
    return [*events, *records]


class NoStall:
    def __init__(self):
        self.cycles = []

    def stall(self, cycles):
        self.cycles.append(cycles)


def test_each_operator_has_the_kernels_that_it_submitted(graph):
    stream = NoStall()
    program = TracedProgram(graph, torch.from_numpy, stream, traced_like_a_card)
    import numpy as np

    for _ in range(3):
        program.run(np.ones((1, 3, 8, 8), np.float32))
    found = program.profile()
    times = {entry.op: entry.ns for entry in found.entries}
    assert times == {"aten.conv2d.default": 45_000, "aten.relu.default": 4_000,
                     "aten.add.Tensor": 3_500}  # fmt: skip
    assert all(entry.members == (entry.name,) for entry in found.entries)
    # From the first kernel to the end of the last: 52.5 us and three gaps, the stall left out.
    assert found.total_ns == 55_500
    assert len(stream.cycles) == 3  # every inference was held back


def test_shadows_of_ranges_and_the_stall_are_no_kernels():
    events = [
        on_device("spin_kernel(long)", 0, 900), on_device("gemm", 900, 940),
        on_device(MARK + "conv", 900, 950, annotation=True), on_device("Memcpy DtoD", 940, 941),
    ]  # fmt: skip
    records = without_stall(device_records(events))
    assert [record.name for record in records] == ["gemm", "Memcpy DtoD"]


def test_a_node_without_a_mark_is_no_range(graph):
    events = traced_like_a_card(lambda: graph(torch.ones(1, 3, 8, 8)))
    assert ranges(events, {}) == []


def record(name, begin, end):
    return DeviceRecord(name, begin, end)


def test_kernels_that_overlap_count_once_and_copies_apart():
    run = [record("b", 20, 60), record("a", 0, 30), record("Memcpy HtoD", 70, 75),
           record("spin_kernel", -500, 0), record("c", 100, 110)]  # fmt: skip
    assert covered_ns(without_stall(run)[:2]) == 60
    assert summed_up([run, run, run]) == Kernels(count=3, busy_ns=70, copies_ns=5, runs=3)
    assert summed_up([]) is None
    assert summed_up([[record("spin_kernel", 0, 9)]]) is None


EAGER = [Range("conv", "conv2d", [("gemm", 40), ("bias", 5)]), Range("view", "view"),
         Range("relu", "relu", [("elementwise", 4)])]  # fmt: skip


def test_kernels_of_a_replayed_graph_belong_to_the_nodes_that_submit_them_eagerly():
    replay = [record("gemm", 0, 30), record("bias", 31, 35), record("elementwise", 36, 39)]
    assert tied(replay, EAGER) == [
        LayerTime("conv", "conv2d", 34, ("conv",)), LayerTime("relu", "relu", 3, ("relu",)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [["gemm", "elementwise", "bias"], ["gemm", "bias"], ["gemm2", "bias", "elementwise"]],
)
def test_other_kernels_than_the_eager_ones_belong_to_no_node(names):
    replay = [record(name, 10 * i, 10 * i + 7) for i, name in enumerate(names)]
    found = tied(replay, EAGER)
    assert [(entry.name, entry.ns, entry.members) for entry in found] == [
        (name, 7, ()) for name in names
    ]


class Replayed:
    """A captured program: its kernels come without the operators that they are of."""

    def __init__(self):
        self.inputs = 0

    def set_input(self, feed):
        self.inputs += 1

    def run(self):
        pass


def test_a_captured_program_is_tied_to_its_graph(graph):
    import numpy as np

    eager = TracedProgram(graph, torch.from_numpy, NoStall(), traced_like_a_card)
    replay = [on_device("implicit_gemm", 0, 30), on_device("add_bias", 31, 33),
              on_device("elementwise", 34, 36), on_device("elementwise", 37, 40)]  # fmt: skip
    session = TracedSession(Replayed(), eager, lambda work: (work(), replay)[1])
    session.run(np.ones((1, 3, 8, 8), np.float32))
    found = session.profile()
    assert {entry.op: entry.ns for entry in found.entries} == {
        "aten.conv2d.default": 32_000, "aten.relu.default": 2_000, "aten.add.Tensor": 3_000,
    }  # fmt: skip
    assert found.total_ns == 40_000


def test_a_compiled_programs_kernels_are_entries_of_their_own():
    import numpy as np

    kernels = [on_device("triton_poi_fused_conv_relu_0", 0, 30)]
    session = TracedSession(Replayed(), None, lambda work: (work(), kernels)[1])
    session.run(np.ones((1, 3, 8, 8), np.float32))
    (entry,) = session.profile().entries
    assert (entry.name, entry.ns, entry.members) == ("triton_poi_fused_conv_relu_0", 30_000, ())


def test_a_card_that_nobody_may_trace_has_no_layers():
    import numpy as np

    session = TracedSession(Replayed(), None, lambda work: (work(), [])[1])
    with pytest.raises(Unsupported, match="CUPTI saw no kernel"):
        session.run(np.ones((1, 3, 8, 8), np.float32))
