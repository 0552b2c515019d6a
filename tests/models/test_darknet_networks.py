"""Whole public networks through the Darknet reader: exact counts."""

from __future__ import annotations

import pytest

from cspbench.models.sources.darknet.network import parse_network
from tests.models.darknet_tables import tables

TABLES = tables()

# Input side, convolution weights (millions), the paper's BFLOPs, elements in + out of the
# convolutions (millions). Published in the README of WongKinYiu/CrossStagePartialNetworks (and of
# PartialResidualNetworks) to two or three digits, e.g. CSPResNeXt-50 20.50 M, 7.93 BFLOPs.
COUNTS = {
    "darknet53": (256, 41.573, 18.570, 24.91),
    "cspdarknet53": (256, 27.606, 13.067, 35.78),
    "cspdarknet53-elastic": (256, 19.045, 7.742, 31.92),
    "resnet50": (256, 22.734, 9.742, 24.38),
    "cspresnet50": (256, 21.567, 8.968, 22.32),
    "cspresnet50-elastic": (256, 29.796, 9.364, 22.05),
    "resnext50": (256, 22.191, 10.111, 32.97),
    "cspresnext50": (256, 20.499, 7.930, 31.20),
    "cspresnext50-elastic": (256, 16.858, 5.449, 24.64),
    "res2netlite72": (224, 20.922, 5.185, 11.38),
    "efficientnet-b0": (224, 4.808, 0.915, 16.33),
    "mobilenet-v2": (224, 3.471, 0.858, 17.94),
    "cspmobilenet-v2": (224, 2.513, 0.764, 16.02),
    "darknet-ref": (256, 7.314, 0.967, 2.80),
    "resnet10": (256, 5.240, 2.273, 3.44),
    "densenet201": (256, 17.139, 10.850, 40.83),
    "yolov3-tiny": (416, 8.845, 5.571, 8.89),
    "yolov3-tiny-prn": (416, 4.930, 3.467, 8.28),
    "cspresnext50+panet-spp": (512, 56.853, 71.331, 157.02),
    "cspdarknet53+panet-spp": (512, 64.296, 91.082, 173.53),
    "cspresnet50+panet-spp": (512, 58.257, 74.687, 119.66),
}


def test_every_table_has_its_counts():
    assert set(COUNTS) == set(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_layers_are_complete(name):
    table = TABLES[name]
    network = parse_network(table.cfg(), name)
    assert len(network.layers) == table.count
    assert network.input == (3, table.side, table.side)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_counts(name):
    side, params, bflops, cio = COUNTS[name]
    network = parse_network(TABLES[name].cfg(side), name)
    assert round(network.params_conv / 1e6, 3) == params
    assert round(network.darknet_bflops, 3) == bflops
    assert round(network.cio_conv / 1e6, 2) == cio


def test_paper_figure_8_cio_of_the_resnexts():
    # Fig. 8 counts convolutions, max-pools, the average pool and softmax at 256x256:
    # 34.413 M for ResNeXt-50 and 32.644 M for CSPResNeXt-50.
    kinds = ("convolutional", "maxpool", "avgpool", "softmax")
    found = {}
    for name in ("resnext50", "cspresnext50"):
        network = parse_network(TABLES[name].cfg(256))
        found[name] = sum(layer.cio for layer in network.layers if layer.kind in kinds)
    assert round(found["resnext50"] / 1e6, 3) == 34.413
    assert round(found["cspresnext50"] / 1e6, 3) == 32.644


def test_first_layers_of_darknet53_by_hand():
    first, second, third = parse_network(TABLES["darknet53"].cfg()).layers[:3]
    # 3x3 3->32 at 256: 9 * 3 * 32 * 256 * 256
    assert first.macs == 9 * 3 * 32 * 256 * 256 == 56_623_104
    assert first.cio == 3 * 256 * 256 + 32 * 256 * 256 == 2_293_760
    # 3x3/2 32->64: output 128x128
    assert second.out_shape == (64, 128, 128)
    assert second.macs == 9 * 32 * 64 * 128 * 128 == 301_989_888
    # 1x1 64->32
    assert third.macs == 64 * 32 * 128 * 128 == 33_554_432
    assert third.cio == (64 + 32) * 128 * 128 == 1_572_864


def test_grouped_convolution_of_resnext_by_hand():
    # 3x3, 128->128 in 32 groups on the 64x64 map after the stem: 9 * 4 * 128 * 64 * 64
    layer = parse_network(TABLES["resnext50"].cfg()).layers[3]
    assert layer.macs == 9 * (128 // 32) * 128 * 64 * 64 == 18_874_368
    assert layer.weights == 9 * 4 * 128 == 4_608


def test_file_floats_of_published_weights_files():
    # yolov3-tiny.weights of the Darknet site has 35 434 956 bytes: a header of 20 and 4 a float.
    network = parse_network(TABLES["yolov3-tiny"].cfg())
    assert network.params_file == (35_434_956 - 20) // 4 == 8_858_734


def test_a_network_at_another_size_is_another_network():
    network = parse_network(TABLES["yolov3-tiny"].cfg())
    smaller = network.resized(320, 416)
    assert [smaller.layers[output].out_shape for output in smaller.outputs] == [
        (255, 10, 13),
        (255, 20, 26),
    ]
    assert smaller.params_file == network.params_file
