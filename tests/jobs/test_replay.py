"""The passes over single layers: what is part of their time, with invented sessions."""

import time

import numpy as np

from cspbench.backends.spec import LayerProfile, LayerTime
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
