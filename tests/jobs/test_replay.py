"""The passes over single layers: what is part of their time, with invented sessions."""

import time

import numpy as np
import pytest

from cspbench.backends.spec import BACKENDS, LayerProfile, LayerTime
from cspbench.jobs.replay import Replays


class Layer:
    """Takes 2 ms, of which 1 is its convolution, and notes what it read."""

    def __init__(self):
        self.read, self.runs = [], 0

    def run(self, array):
        self.read.append(array.copy())
        self.runs += 1
        return 2_000_000

    def begin(self):
        self.runs = 0

    def profile(self):
        entries = (LayerTime("conv", "Conv", 1_000_000), LayerTime("x", "ReorderInput", 500_000))
        return LayerProfile(entries, 2_000_000, self.runs, "a clock")


def test_the_input_is_written_before_each_layer_and_stays_what_it_is(monkeypatch):
    array = np.array([1.5, -0.0, 3e-45, np.inf], np.float32)
    layers = {"a": (Layer(), array), "b": (Layer(), array.copy())}
    replays = Replays(layers, {"a": ["0:x"], "b": ["0:y", "1:y"]}, {})
    replays.warm_up()
    # Writing takes 0.25 ms a layer by this clock: each pass asks it twice a layer.
    ticks = iter(range(0, 10**9, 250_000))
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    replays.run()
    replays.run()
    times = replays.times()
    assert [entry[2] for entry in times.entries] == [1_000_000, 1_000_000]
    assert times.total_ns == 2 * 2_000_000 + 2 * 250_000
    assert times.runs == 2
    for layer, mine in layers.values():
        assert all(np.array_equal(read, mine) for read in layer.read)


class Rehearsed(Layer):
    """Notes which of its inferences count."""

    def rehearse(self, array):
        array += 1
        self.read.append("rehearsed")


def test_a_layer_of_small_weights_runs_once_before_it_is_timed():
    small, large, without = Rehearsed(), Rehearsed(), Layer()
    layers = {key: (layer, np.zeros(1)) for key, layer in
              (("small", small), ("large", large), ("without", without))}  # fmt: skip
    replays = Replays(layers, dict.fromkeys(layers, ()), {}, {"small", "without"})
    replays.run()
    assert small.read == ["rehearsed", 1], "first the rehearsal, which added 1"
    assert large.read == without.read == [0], "the session of one has no such way"
    assert [layer.runs for layer in (small, large, without)] == [1, 1, 1]


def test_an_engines_profile_leaves_rehearsals_out(tmp_path):
    """Of six inferences two warm up and two are rehearsals."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")

    helper, shape = onnx.helper, (1, 2, 4, 4)
    ends = [helper.make_tensor_value_info(name, 1, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="r")], "g",
                              ends[:1], ends[1:])  # fmt: skip
    file = tmp_path / "relu.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file.write_bytes(model.SerializeToString())
    session = BACKENDS.get("onnxruntime").load_profiled(file, (), 1)
    array = np.ones(shape, np.float32)
    session.rehearse(array)
    session.run(array)
    session.begin()
    session.rehearse(array)
    took = [session.run(array)]
    session.rehearse(array)
    took.append(session.run(array))
    profile = session.profile()
    assert profile.runs == 2  # three quarters of two, rounded up
    assert profile.total_ns == sum(took) // 2


def test_an_operator_of_torch_says_whether_its_weights_are_small():
    """1x1, 4 to 4 channels, no bias: 16 weights. At 1x1 it moves 4 + 4, at 2x2 16 + 16."""
    torch = pytest.importorskip("torch")
    from cspbench.backends._torch_layers import operators_of

    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 1, bias=False), torch.nn.ReLU()).eval()
    for side, small in ((1, False), (2, True)):
        image = torch.ones(1, 4, side, side)
        graph = torch.export.export(network, (image,)).module()
        found = {layer.nodes[0]: layer.small_weights for layer in operators_of(graph, [image])}
        assert found == {"conv2d": small, "relu": True}
