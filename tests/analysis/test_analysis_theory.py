"""The papers' closed forms against counted blocks; comparison of two analyses."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cspbench.analysis import compare
from cspbench.analysis.api import analyze
from cspbench.analysis.conventions import rows
from cspbench.analysis.stage_table import gradient_paths
from cspbench.paper import theory


@settings(max_examples=10)
@given(st.integers(1, 16), st.integers(1, 8), st.integers(1, 6))
def test_the_dense_formula_counts_a_dense_block(base, growth, layers):
    assert theory.counted_dense_cio(base, growth, layers) == theory.dense_cio(base, growth, layers)


def test_dense_and_partial_by_hand():
    # c = 64, d = 32, m = 4: inputs 64 + 96 + 128 + 160 = 448, outputs 4 x 32 = 128.
    assert theory.dense_cio(64, 32, 4) == 576
    # Half the base: inputs 32 + 64 + 96 + 128 = 320, outputs 128.
    assert theory.partial_dense_cio(64, 32, 4) == 448
    # "About half" needs a base far above the growth: (1000 x 4 + 20 x 2) / 2 = 2020 of 4020.
    ratio = theory.partial_dense_cio(1000, 2, 4) / theory.dense_cio(1000, 2, 4)
    assert ratio == pytest.approx(2020 / 4020)


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 200), st.integers(1, 200))
def test_no_pointwise_convolution_is_below_the_bound(height, width, cin, cout):
    macs = height * width * cin * cout
    cost = height * width * (cin + cout) + cin * cout
    bound = theory.memory_access_lower_bound(height, width, macs)
    assert cost >= bound * (1 - 1e-12)
    if cin == cout:
        assert cost == pytest.approx(bound)


def test_bound_rows_describe_plain_pointwise_convolutions_only():
    net = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 1), nn.Conv2d(2, 2, 1, 2))
    first, second = theory.bound_rows(analyze(net, (1, 8, 4, 4)))
    assert first["ratio"] == pytest.approx(1)  # equal widths reach it
    # 16 x 10 + 16 against 2 sqrt(16 x 256) + 256 / 16 = 144
    assert second["ratio"] == pytest.approx(176 / 144)


def test_gradient_paths_double_with_each_dense_layer():
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Conv2d(2 + i, 1, 1) for i in range(3)])

        def forward(self, x):
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x

    layers = analyze(Dense(), (1, 2, 4, 4)).layers
    assert gradient_paths(layers, layers[0].inputs[0], layers[-1].outputs[0]) == 2**3


def test_block_rows_put_formula_and_count_side_by_side():
    from cspbench.models.build import build

    module = build("cspdensenetb-ref", weights=False)
    table = theory.block_rows(analyze(module, (1, 3, 64, 64)), module)
    assert table
    for row in table:
        assert row["cio_formula"] == row["cio_counted"]
        assert row["cio_partial_formula"] == row["cio_partial_counted"]
        assert row["gradient_paths"] == 2 ** row["layers"]
        # The bypass adds one way: 2^m + 1, which is not double.
        assert row["gradient_paths_csp"] == 2 ** row["layers"] + 1
        # A bottleneck layer adds its hidden maps, read and written once each.
        assert row["cio_real"] > row["cio_formula"]


def net(width):
    return nn.Sequential(nn.Conv2d(3, width, 1), nn.ReLU(), nn.Conv2d(width, 4, 3, padding=1))


def test_comparison_names_the_change_and_its_layers():
    first, second = (analyze(net(width), (1, 3, 8, 8)) for width in (8, 4))
    table = {row["metric"]: row for row in compare.totals(first, second)}
    # 64 x (3 x 8 + 8 x 4 x 9) = 64 x 312 and half of it
    assert (table["macs"]["first"], table["macs"]["second"]) == (64 * 312, 64 * 156)
    assert table["macs"]["change"] == -0.5
    # layer 2 makes 64 x 144 of it, layer 0 64 x 12
    assert table["macs"]["made_by"] == "2 -46.2%, 0 -3.8%"
    layers = compare.layer_rows(first, second)
    assert [(row["layer"], row["difference"]) for row in layers] == [
        ("2", -64 * 144),
        ("0", -64 * 12),
    ]


def test_a_change_from_nothing_has_no_percentage():
    assert compare.change(0, 5) is None
    assert compare.change(4, 1) == -0.75


def test_conventions_list_what_they_ignore():
    analysis = analyze(nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2)), (1, 3, 4, 4))
    table = {row["convention"]: row for row in rows(analysis)}
    assert table["macs"]["ignored"] == {"max_pool2d": 1}
    assert table["bflops"]["ignored"] == {}
    assert table["cio_conv"]["ignored"] == {"max_pool2d": 1}
    assert math.isclose(table["bflops"]["value"], (2 * 192 + 4 * 4 * 4) / 1e9)
