"""One network, one count, whatever its form: .cfg, module, exported program, ONNX in its ways."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from cspbench.analysis.api import analyze, analyze_id
from cspbench.analysis.onnx_graph import analyze_onnx
from cspbench.models.build import build

#: Grouped and plain convolutions, three activations, a sum, both pools, a connected layer.
CFG = """[net]
width=32
height=32
channels=3

[convolutional]
filters=16
size=3
stride=2
pad=1
activation=swish

[convolutional]
filters=16
size=3
stride=1
pad=1
groups=4
activation=mish

[shortcut]
from=-2
activation=linear

[maxpool]
size=2
stride=2

[convolutional]
filters=24
size=1
activation=leaky

[avgpool]

[connected]
output=10
activation=linear
"""
#: 16 filters of 27 at 16x16, 16 of 36 (a group of 4 channels) at 16x16, 24 of 16 at 8x8, 10 of 24.
MACS = 16 * 27 * 256 + 16 * 36 * 256 + 24 * 16 * 64 + 10 * 24
WEIGHTS = 16 * 27 + 16 * 36 + 24 * 16 + 10 * 24
BIASES = 16 + 16 + 24 + 10


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The same network in every form: name -> analysis."""
    folder = tmp_path_factory.mktemp("forms")
    (folder / "net.cfg").write_text(CFG)
    module = build(str(folder / "net.cfg"))
    for parameter in module.parameters():  # distinct values, or the exporter merges equal tensors
        parameter.data.copy_(torch.rand_like(parameter) - 0.5)
    x = torch.rand(1, 3, 32, 32)
    path = folder / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, dynamo=False, opset_version=17)
    return {
        "cfg": analyze_id(str(folder / "net.cfg"), cache=False),
        "module": analyze(module, x, cache=False),
        "exported": analyze(torch.export.export(module, (x,))),
        "onnx": analyze_onnx(str(path)),
        "constants": analyze_onnx(with_constants(path)),
        "unsorted": analyze_onnx(unsorted(path)),
        "nameless": analyze_onnx(nameless(path)),
        "fp16": analyze_onnx(fp16(path)),
        **{name: analyze_onnx(quantised(path, name)) for name in ("QDQ", "QOperator", "dynamic")},
    }


def changed(path, name, change):
    model = onnx.load(path)
    change(model)
    onnx.save(model, path.with_name(f"{name}.onnx"))
    return str(path.with_name(f"{name}.onnx"))


def with_constants(path):
    def change(model):
        nodes = [helper.make_node("Constant", [], [tensor.name], value=tensor)
                 for tensor in model.graph.initializer]  # fmt: skip
        nodes += list(model.graph.node)
        del model.graph.initializer[:], model.graph.node[:]
        model.graph.node.extend(nodes)

    return changed(path, "constants", change)


def unsorted(path):
    def change(model):
        nodes = list(model.graph.node)[::-1]
        del model.graph.node[:]
        model.graph.node.extend(nodes)

    return changed(path, "unsorted", change)


def nameless(path):
    def change(model):
        for node in model.graph.node:
            node.name = ""

    return changed(path, "nameless", change)


def fp16(path):
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(path), keep_io_types=False)
    onnx.save(model, path.with_name("fp16.onnx"))
    return str(path.with_name("fp16.onnx"))


def quantised(path, name):
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        quantize_dynamic,
        quantize_static,
    )

    class Images(CalibrationDataReader):
        left = 2

        def get_next(self):
            self.left -= 1
            image = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
            return {onnx.load(path).graph.input[0].name: image} if self.left >= 0 else None

    out = str(path.with_name(f"{name}.onnx"))
    if name == "dynamic":
        quantize_dynamic(str(path), out)
    else:
        quantize_static(str(path), out, Images(), getattr(QuantFormat, name), per_channel=True)
    return out


FORMS = ("cfg", "module", "exported", "onnx", "constants", "unsorted", "nameless", "fp16", "QDQ",
         "QOperator", "dynamic")  # fmt: skip
FLOATS = FORMS[:7]


@pytest.mark.parametrize("form", FORMS)
def test_parameters_and_products_are_those_of_the_network(form, forms):
    analysis = forms[form]
    assert (analysis.macs, analysis.flops) == (MACS, 2 * MACS)
    assert (analysis.params_conv, analysis.params) == (WEIGHTS, WEIGHTS + BIASES)
    assert sum(layer.params for layer in analysis.layers) == WEIGHTS + BIASES
    assert analysis.coverage == 100.0
    assert analysis.unsupported == {}
    for name in ("bflops", "cio_conv", "cio_paper", "macs_conv", "macs_linear", "max_layer_bflops",
                 "memory_access_cost"):  # fmt: skip
        assert analysis.totals[name] == pytest.approx(forms["module"].totals[name]), name


@pytest.mark.parametrize("form", FLOATS)
def test_bytes_are_the_same_in_every_form_of_the_same_numbers(form, forms):
    assert forms[form].weight_bytes == 4 * (WEIGHTS + BIASES)
    assert forms[form].traffic_bytes_fused == forms["module"].traffic_bytes_fused


def test_half_as_wide_numbers_take_half_the_bytes(forms):
    assert forms["fp16"].weight_bytes == 2 * (WEIGHTS + BIASES)
    assert forms["fp16"].traffic_bytes_fused == forms["module"].traffic_bytes_fused / 2


@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_weights_of_eight_bits_take_a_byte_and_biases_four(form, forms):
    assert forms[form].weight_bytes == WEIGHTS + 4 * BIASES


def test_both_ways_of_writing_eight_bits_move_the_same(forms):
    pairs, integer = forms["QDQ"].traffic_bytes_fused, forms["QOperator"].traffic_bytes_fused
    assert pairs == pytest.approx(integer, rel=0.01)
    assert pairs < 0.6 * forms["module"].traffic_bytes_fused


def test_dynamic_weights_take_a_byte(forms):
    assert forms["dynamic"].weight_bytes == WEIGHTS + 4 * BIASES
