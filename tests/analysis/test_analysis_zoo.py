"""The whole zoo: coverage, other counters, and the integers behind the paper's figures."""

import functools

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cspbench.analysis.api import analyze, analyze_id
from cspbench.analysis.verify import fvcore_counts
from cspbench.models.build import build, spec_of
from cspbench.models.spec import MODELS, NECKS
from tests.analysis.test_analysis_trace import profiled_peak

DETECTORS = [f"csppeleenet+{neck}" for neck in NECKS.names()]


@functools.cache
def small_side(name):
    """The smallest side at which the network exists, at least two strides."""
    spec = spec_of(name)
    if spec.min_input == spec.input:
        return spec.input
    return max(spec.min_input, 2 * spec.stride)


def zeroed(name):
    """The network on the CPU with weights of 0: counters execute it, and values do not matter."""
    module = build(name, weights=False).to_empty(device="cpu")
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data.zero_()
    return module


# fvcore takes ten seconds for each of the DenseNets of 201 layers.
ZOO = [
    pytest.param(name, marks=pytest.mark.slow) if "densenet201" in name else name
    for name in MODELS.names() + DETECTORS
]


@pytest.mark.parametrize("name", ZOO)
def test_macs_equal_fvcores_and_half_of_flop_counter_modes(name):
    module = zeroed(name)
    x = torch.zeros(1, 3, small_side(name), small_side(name))
    analysis = analyze(module, x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    assert analysis.flops == 2 * analysis.macs == counter.get_total_flops()
    by_operator, _ = fvcore_counts(module, (x,))
    assert analysis.macs_conv == by_operator["conv"]
    assert analysis.macs_linear == by_operator["linear"] + by_operator["addmm"]
    assert analysis.coverage == 100.0
    assert analysis.unsupported == {}
    # Every parameter is used, none twice.
    assert sum(layer.params for layer in analysis.layers) == analysis.params


def largest(id_):
    return max(int(layer["paper_flops"]) for layer in analyze_id(id_).layers)


def test_figure_7_the_computational_bottleneck():
    # 2 x 128 x 128 x 104 x 104: the 1x1 transition of PeleeNet's first stage at 416.
    backbone = largest("peleenet+prn@416")
    assert backbone == 2 * 128 * 128 * 104 * 104 == 354_418_688
    # 2 x 9 x 640 x 128 x 26 x 26: the 3x3 of the YOLOv3 head.
    yolo = largest("peleenet+yolov3@416")
    assert yolo == 2 * 9 * 640 * 128 * 26 * 26 == 996_802_560
    # 2 x 96 x 96 x 104 x 104: t1 of CSPPeleeNet's first stage.
    efm = largest("csppeleenet+efm@416")
    assert efm == 2 * 96 * 96 * 104 * 104 == 199_360_512
    assert round(100 * (efm / backbone - 1)) == -44
    assert round(100 * (efm / yolo - 1)) == -80


def test_figure_8_convolutional_inputs_and_outputs():
    dense, partial = analyze_id("resnext50@256"), analyze_id("cspresnext50@256")
    assert (dense.cio_paper, partial.cio_paper) == (34_413_496, 32_644_024)  # 34.4 M, 32.6 M
    assert (dense.cio_conv, partial.cio_conv) == (32_967_656, 31_198_184)


# Where oneDNN's own copies (weights and activations in its blocked layout, which the allocator sees
# too) are not at the peak; docs/metrics.md lists the models where they are.
@pytest.mark.parametrize(
    "name",
    ["peleenet", "csppeleenet", "yolov3-tiny", "cspdensenetb-ref", "cspresnext50", "vovnet39"],
)
def test_peak_live_bytes_equal_the_allocators(name):
    analysis = analyze_id(name)
    expected = profiled_peak(zeroed(name), torch.zeros(analysis.input[0]))
    assert analysis.peak_live_bytes == pytest.approx(expected, rel=0.01)
