"""Metrics by hand: every expected number has its arithmetic beside it."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.analysis.layer import Layer
from cspbench.analysis.metrics.balance import coefficient_of_variation, gini, largest_share
from cspbench.analysis.metrics.compute import macs, paper_flops
from cspbench.analysis.metrics.traffic import memory_access_cost, traffic_bytes_fused


def first(module, *shape):
    return analyze(module.eval(), shape).layers[0]


def test_a_plain_convolution():
    # 3x8x8 -> 16x4x4, 3x3, stride 2, bias.
    layer = first(nn.Conv2d(3, 16, 3, 2, 1), 1, 3, 8, 8)
    assert layer["macs"] == 16 * 4 * 4 * 3 * 3 * 3  # outputs x weights behind each = 6912
    assert layer["flops"] == 2 * 6912
    assert layer.params == 16 * 3 * 9 + 16  # 448
    assert layer.params_conv == 432
    assert layer.input_elements == 3 * 64
    assert layer.output_elements == 16 * 16
    # float32: (192 in + 448 weights and bias + 256 out) x 4
    assert layer["traffic_bytes"] == 896 * 4
    # ShuffleNetV2's cost has no bias: 192 + 256 + 432
    assert layer["memory_access_cost"] == 880
    assert layer["arithmetic_intensity"] == pytest.approx(2 * 6912 / 3584)
    assert layer["bflops"] == 13824 / 1e9
    assert (layer.kernel, layer.stride, layer.groups) == ((3, 3), (2, 2), 1)


def test_grouped_depthwise_and_dilated_convolutions():
    # Each output sums over cin / g channels: 8 x 6 x 6 outputs x (8 / 4) x 9.
    assert first(nn.Conv2d(8, 8, 3, 1, 1, groups=4), 1, 8, 6, 6)["macs"] == 288 * 18
    assert first(nn.Conv2d(8, 8, 3, 1, 1, groups=8), 1, 8, 6, 6)["macs"] == 288 * 9
    # Dilation 2 makes 3x3 reach over 5: 6 + 2 - 5 + 1 = 4 a side.
    dilated = first(nn.Conv2d(2, 4, 3, 1, 1, dilation=2), 1, 2, 6, 6)
    assert dilated.output_shapes == ((1, 4, 4, 4),)
    assert dilated["macs"] == 4 * 16 * 2 * 9


def test_a_transposed_convolution_counts_by_its_inputs():
    # Each of 6 x 5 x 5 inputs feeds (4 / 2 groups) x 3 x 3 weights: 150 x 18.
    layer = first(nn.ConvTranspose2d(6, 4, 3, 2, 1, 1, groups=2), 1, 6, 5, 5)
    assert layer["macs"] == 150 * 18
    assert layer.output_shapes == ((1, 4, 10, 10),)  # (5 - 1) 2 - 2 + 3 + 1


def test_a_linear_layer_counts_each_row():
    # 2 x 7 rows of 5 features to 3: 14 x 3 x 5.
    layer = first(nn.Linear(5, 3), 2, 7, 5)
    assert layer["macs"] == 210
    assert layer["memory_access_cost"] == 14 * 5 + 14 * 3 + 15


def test_attention():
    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    q, k, v = (torch.empty(2, 4, length, 8) for length in (5, 7, 7))
    analysis = analyze(Attention(), (q, k, v))
    # 2 x 4 heads: scores 5 x 7 x 8 and weighted sum 5 x 7 x 8.
    assert analysis.macs == 8 * (5 * 7 * 8 + 5 * 7 * 8)
    assert analysis.macs_matmul == analysis.macs
    assert analysis.bflops == 0  # the paper's convention knows no attention
    assert analysis.ignored["bflops"] == {"scaled_dot_product_attention": 1}


def test_max_pools_count_for_the_paper_only():
    # 4 x 3 x 3 outputs of 2x2 windows: 36 x 4 operations, no multiply-accumulate.
    layer = first(nn.MaxPool2d(2, 2), 1, 4, 6, 6)
    assert layer["paper_flops"] == 144
    assert layer["macs"] == 0


class Maxout(nn.Module):
    def forward(self, x):
        a, b, c = x.chunk(3, 1)
        return torch.maximum(torch.maximum(a, b), c)


class AmaxMaxout(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, c // 3, 3, h, w).amax(2)


@pytest.mark.parametrize("maxout", [Maxout, AmaxMaxout])
def test_a_channel_max_pool_is_one_operation_an_input_element(maxout):
    # Darknet: size x size x c_in x oh x ow with size 1 = 12 x 25.
    analysis = analyze(maxout(), (1, 12, 5, 5))
    assert analysis.bflops * 1e9 == pytest.approx(300)
    assert analysis.layers[-1].output_shapes == ((1, 4, 5, 5),)


def test_a_maximum_of_two_networks_outputs_is_no_pool():
    class Two(nn.Module):
        def forward(self, x, y):
            return torch.maximum(x, y)

    analysis = analyze(Two(), (torch.empty(1, 4, 5, 5), torch.empty(1, 4, 5, 5)))
    assert analysis.bflops == 0
    assert analysis.layers[0].kind == "elementwise"


def test_fused_traffic_reads_and_writes_once():
    block = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    analysis = analyze(block.eval(), (1, 3, 4, 4))
    conv, norm, act = analysis.layers
    # One by one: conv 48 + 216 + 128 elements, norm 128 + 4 x 8 + 128, activation 128 + 128.
    assert analysis.traffic_bytes == 4 * ((48 + 216 + 128) + (128 + 32 + 128) + (128 + 128))
    # As one: input, weights, the folded bias, output.
    assert conv["traffic_bytes_fused"] == 4 * (48 + 216 + 8 + 128)
    assert (norm["traffic_bytes_fused"], act["traffic_bytes_fused"]) == (0, 0)


def test_what_others_read_is_not_fused():
    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.conv(x)
            return torch.relu(y) + y

    analysis = analyze(Forked(), (1, 3, 4, 4))
    assert analysis.traffic_bytes_fused == analysis.traffic_bytes


def test_two_activations_fuse_only_once():
    chain = nn.Sequential(nn.Conv2d(2, 2, 1, bias=False), nn.ReLU(), nn.Sigmoid())
    analysis = analyze(chain, (1, 2, 4, 4))
    # conv + relu: 32 + 4 + 32; sigmoid on its own: 32 + 32.
    assert analysis.traffic_bytes_fused == 4 * (68 + 64)


def test_cio_counts_a_grouped_input_once_and_the_papers_counts_pools():
    net = nn.Sequential(
        nn.Conv2d(4, 8, 1, groups=4), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Softmax(1),
    )  # fmt: skip
    analysis = analyze(net, (1, 4, 8, 8))
    assert analysis.cio_conv == 4 * 64 + 8 * 64  # 768
    # + max-pool 512 + 128, average pool 128 + 32, softmax 32 + 32
    assert analysis.cio_paper == 768 + 640 + 160 + 64


def test_parameters_by_convention():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1))
    analysis = analyze(net, (1, 3, 8, 8))
    assert analysis.params_conv == 216 + 32
    assert analysis.params == 248 + 2 * 8 + 4
    assert analysis.params_file == 248 + 4 * 8 + 4  # scale, bias, mean, variance; one bias


def test_live_bytes_of_a_chain():
    # In place: input 3x4x4 and convolution's output 8x4x4 at most. Otherwise a second 8x4x4.
    conv = nn.Conv2d(3, 8, 1)
    assert analyze(nn.Sequential(conv, nn.ReLU(True)), (1, 3, 4, 4)).peak_live_bytes == 4 * 176
    assert analyze(nn.Sequential(conv, nn.ReLU()), (1, 3, 4, 4)).peak_live_bytes == 4 * 304


def test_a_max_pool_takes_room_for_its_indices():
    # Input 16 and output 4 floats, 4 indices of 8 bytes for as long as it runs.
    assert analyze(nn.MaxPool2d(2), (1, 1, 4, 4)).peak_live_bytes == 64 + 16 + 32


def test_concatenation_copies_and_slicing_does_not():
    class Split(nn.Module):
        def forward(self, x):
            a, b = x[:, :1], x[:, 1:]
            return torch.cat([b, a], 1)

    analysis = analyze(Split(), (1, 4, 2, 2))
    assert [layer.op for layer in analysis.layers] == ["slice", "slice", "cat"]
    assert analysis.copy_bytes == 16 * 4
    assert analysis.concatenation_traffic_share == 1.0


def test_balance_of_three_layers():
    values = [1, 2, 5]
    assert largest_share(values) == 5 / 8
    # mean 8/3, variance ((5/3)^2 + (2/3)^2 + (7/3)^2) / 3 = 26/9, deviation / mean = sqrt(26)/8
    assert coefficient_of_variation(values) == pytest.approx(math.sqrt(26) / 8)
    # (-2 x 1 + 0 x 2 + 2 x 5) / (3 x 8)
    assert gini(values) == pytest.approx(8 / 24)
    assert gini([]) == coefficient_of_variation([]) == largest_share([]) == 0


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.integers(1, 50))
def test_balance_does_not_depend_on_scale_or_order(values, factor):
    scaled = [factor * value for value in reversed(values)]
    assert gini(scaled) == pytest.approx(gini(values))
    assert coefficient_of_variation(scaled) == pytest.approx(coefficient_of_variation(values))
    assert 0 <= gini(values) < 1
    assert 1 / len(values) <= largest_share(values) <= 1


def test_metrics_are_functions_of_the_record_alone():
    layer = Layer(
        0, "c", "conv2d", "conv",
        input_shapes=((1, 2, 4, 4),), output_shapes=((1, 3, 4, 4),), weight_shape=(3, 2, 1, 1),
        input_elements=32, output_elements=48, weight_elements=6,
    )  # fmt: skip
    assert macs(layer) == 48 * 2
    assert paper_flops(layer) == 192
    assert memory_access_cost(layer) == 32 + 48 + 6
    assert traffic_bytes_fused([]) == []


@given(st.integers(1, 5))
def test_everything_but_weights_grows_with_the_batch(batch):
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
    one, many = analyze(net, (1, 2, 8, 8)), analyze(net, (batch, 2, 8, 8))
    for name in ("macs", "cio_conv", "cio_paper", "peak_live_bytes", "saved_for_backward_bytes"):
        assert many.totals[name] == batch * one.totals[name]
    assert many.params == one.params


def test_an_unshared_convolution_costs_what_the_shared_one_does():
    """Darknet's [local]: a filter for each place, so as many weights as multiply-accumulates."""
    from cspbench.models.sources.darknet import ops
    from cspbench.models.sources.darknet.blocks import Local

    op = ops.Local(filters=4, size=3, stride=1, padding=1, activation="leaky")
    analysis = analyze(Local(op, (2, 5, 6), (4, 5, 6)), (1, 2, 5, 6))
    # 5 x 6 places, 4 filters of 2 x 3 x 3 = 18 weights each
    assert analysis.macs == analysis.macs_linear == 30 * 4 * 18 == 2160
    assert analysis.params_conv == 2160
    assert analysis.params == 2160 + 4 * 30
    shared = analyze(torch.nn.Conv2d(2, 4, 3, padding=1), (1, 2, 5, 6))
    assert analysis.bflops == shared.bflops
    # Three images read each filter three times and do three times the work.
    assert analyze(Local(op, (2, 5, 6), (4, 5, 6)), (3, 2, 5, 6)).macs == 3 * 2160
