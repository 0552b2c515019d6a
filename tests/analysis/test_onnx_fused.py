"""Products that ONNX files write in other ways: Einsum, and what ONNX Runtime's optimiser fuses."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cspbench.analysis.onnx_einsum import contracted
from cspbench.analysis.onnx_graph import analyze_onnx
from cspbench.errors import InputError
from tests.analysis.test_onnx_counts import FLOAT, node, save, weight

FUSED = {"domain": "com.microsoft"}
SIDES = {"a": 2, "b": 3, "c": 5, "d": 7, "e": 4}


def analysed(tmp_path, nodes, tensors=(), **options):
    return analyze_onnx(save(tmp_path / "net.onnx", nodes, tensors, **options))


def test_an_einsum_of_an_activation_and_a_weight(tmp_path):
    # 2 x 5 results, each a sum of 3 x 4 products; the filter is a weight.
    analysis = analysed(
        tmp_path, [node("Einsum", ["x", "w"], ["y"], equation="bij,kij->bk")],
        [weight("w", (5, 3, 4))], shape=(2, 3, 4),
    )  # fmt: skip
    assert (analysis.macs, analysis.params, analysis.params_conv) == (2 * 5 * 12, 60, 60)
    assert analysis.coverage == 100.0


@pytest.mark.parametrize(
    ("equation", "macs"),
    [
        ("...ij,...kj->...ik", 2 * 3 * 3 * 4),  # twice 3 x 3 sums of 4
        ("bij,bkj", 3 * 3 * 2 * 4),  # without an arrow i and k are left: 3 x 3 sums of 2 x 4
        ("bij,bij->bij", 2 * 3 * 4),  # each element once
    ],
)
def test_an_einsum_of_two_activations(tmp_path, equation, macs):
    nodes = [node("Relu", ["x"], ["r"]), node("Einsum", ["x", "r"], ["y"], equation=equation)]
    analysis = analysed(tmp_path, nodes, shape=(2, 3, 4))
    assert (analysis.macs, analysis.params) == (macs, 0)


def test_an_einsum_of_one_factor_multiplies_nothing(tmp_path):
    turned = node("Einsum", ["x"], ["t"], equation="bij->bji")
    summed = node("Einsum", ["t"], ["y"], equation="bij->bi")
    analysis = analysed(tmp_path, [turned, summed], shape=(2, 3, 4))
    assert analysis.macs == 0
    assert analysis.coverage == 100.0
    assert [layer.copy_bytes for layer in analysis.layers] == [4 * 24, 0]


def test_an_einsum_of_three_factors_is_refused(tmp_path):
    product = node("Einsum", ["x", "x", "x"], ["y"], equation="bij,bij,bij->b")
    with pytest.raises(InputError, match="the cost of a Einsum is not known: it has 3 factors"):
        analysed(tmp_path, [product], shape=(2, 3, 4))


@st.composite
def equations(draw):
    """Two factors of up to four letters each, and a result of some of them."""
    term = st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True).map("".join)
    left, right = draw(term), draw(term)
    letters = st.sampled_from(sorted({*left, *right}))
    return left, right, "".join(draw(st.lists(letters, unique=True)))


@given(equations())
def test_an_einsum_costs_what_torch_multiplies(drawn):
    """torch sums first what only one factor has, and then multiplies once."""
    left, right, result = drawn
    shapes = [tuple(SIDES[one] for one in term) for term in (left, right)]
    with FlopCounterMode(display=False) as counter:
        torch.einsum(f"{left},{right}->{result}", *map(torch.rand, shapes))
    outputs = int(np.prod([SIDES[one] for one in result]))
    length = contracted(f"{left}, {right} -> {result}", shapes)
    # Where nothing is summed torch multiplies elements, which its counter leaves out.
    assert 2 * outputs * length == (counter.get_total_flops() or 2 * outputs * length)
    shared = {one for one in left if one in right and one not in result}
    assert length == int(np.prod([SIDES[one] for one in shared]))


@pytest.mark.parametrize("flags", [
    {}, {"transB": 1}, {"transA": 1, "transB": 1}, {"transBatchA": 1, "transBatchB": 1},
    {"transBatchA": 1, "transBatchB": 1, "transB": 1},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("opset", [11, 17])
def test_a_fused_product_of_transposed_factors_moves_none(tmp_path, flags, opset):
    """4 heads of 6 x 8 and 8 x 5, however they lie: 4 x 6 x 5 sums of 8 products.

    What it becomes, an Einsum, is no operator of ONNX 11: its shape is ours.
    """

    def laid(rows, columns, which):
        first, last = (columns, rows) if flags.get(f"trans{which}") else (rows, columns)
        return (first, 4, last) if flags.get(f"transBatch{which}") else (4, first, last)

    product = node("FusedMatMul", ["x", "w"], ["y"], **flags, **FUSED)
    path = save(tmp_path / "net.onnx", [product], [weight("w", laid(8, 5, "B"))],
                shape=laid(6, 8, "A"), domains=["com.microsoft"], opset=opset)  # fmt: skip
    analysis = analyze_onnx(path)
    assert (analysis.macs, analysis.params) == (4 * 6 * 5 * 8, 4 * 8 * 5)
    assert [layer.output_shapes for layer in analysis.layers] == [((4, 6, 5),)]
    model = onnx.load(path)
    model.graph.output[0].type.tensor_type.elem_type = FLOAT  # ONNX Runtime wants to know
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    [result] = session.run(None, {"x": np.zeros(laid(6, 8, "A"), np.float32)})
    assert result.shape == (4, 6, 5)


def test_a_fused_convolution_is_a_convolution_a_sum_and_an_activation(tmp_path):
    # 4 filters of 3 at 8 x 8, to which the image that the first makes is added.
    tensors = [weight("w", (4, 3, 1, 1)), weight("v", (4, 4, 1, 1)), weight("b", (4,))]
    nodes = [node("FusedConv", ["x", "w"], ["m"], activation="Relu", **FUSED),
             node("FusedConv", ["m", "v", "b", "m"], ["y"], activation="LeakyRelu",
                  activation_params=[0.1], **FUSED)]  # fmt: skip
    analysis = analysed(tmp_path, nodes, tensors, domains=["com.microsoft"])
    assert [layer.op for layer in analysis.layers] == [
        "conv2d", "relu", "conv2d", "add", "leaky_relu",
    ]  # fmt: skip
    assert (analysis.macs, analysis.params) == (4 * 3 * 64 + 4 * 4 * 64, 12 + 16 + 4)


def test_a_deformable_convolution_multiplies_as_a_plain_one(tmp_path):
    # 4 filters of 3 x 3 x 3 at 6 x 6; offsets of 2 x 9 a place move what is read.
    tensors = [weight("w", (4, 3, 3, 3)), weight("o", (1, 18, 6, 6)), weight("b", (4,))]
    nodes = [node("DeformConv", ["x", "w", "o", "b"], ["y"], kernel_shape=[3, 3])]
    analysis = analysed(tmp_path, nodes, tensors, opset=19)
    assert (analysis.macs, analysis.params_conv) == (4 * 27 * 36, 108)
    assert [layer.op for layer in analysis.layers] == ["deform_conv2d"]


class Net(nn.Module):
    """What ONNX Runtime fuses: products with activations, a sum, SiLU, GELU, attention."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 4, 4), nn.SiLU(), nn.Conv2d(16, 16, 1))
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(),
                                  nn.Conv2d(16, 16, 1, groups=4))  # fmt: skip
        self.mixer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = self.stem(x)
        x = torch.relu(x + self.body(x))
        return self.head(self.mixer(x.flatten(2).transpose(1, 2)).mean(1))


@pytest.fixture(scope="module")
def optimised(tmp_path_factory):
    """The network's files by the level of ONNX Runtime's optimiser."""
    folder = tmp_path_factory.mktemp("optimised")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Net().eval(), (torch.rand(1, 3, 32, 32),), folder / "none.onnx",
                          dynamo=False, opset_version=17)  # fmt: skip
    for level in ("basic", "extended", "all"):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(folder / f"{level}.onnx")
        options.graph_optimization_level = getattr(
            onnxruntime.GraphOptimizationLevel, f"ORT_ENABLE_{level.upper()}"
        )
        onnxruntime.InferenceSession(folder / "none.onnx", options, ["CPUExecutionProvider"])
    return folder


def test_a_file_that_onnx_runtime_has_optimised_counts_as_the_one_before(optimised):
    plain = analyze_onnx(str(optimised / "none.onnx"))
    for level in ("basic", "extended"):
        found = analyze_onnx(str(optimised / f"{level}.onnx"))
        assert (found.macs, found.params, found.coverage) == (plain.macs, plain.params, 100.0)
        assert found.totals["traffic_bytes_fused"] <= plain.totals["traffic_bytes_fused"]


def test_a_normalisation_that_the_files_version_lacks_keeps_the_shape(tmp_path):
    """ONNX has LayerNormalization since version 17; ONNX Runtime writes it into older files."""
    tensors = [weight("s", (4,)), weight("w", (4, 5))]
    nodes = [node("LayerNormalization", ["x", "s"], ["n"]), node("MatMul", ["n", "w"], ["y"])]
    analysis = analysed(tmp_path, nodes, tensors, shape=(2, 3, 4), opset=11)
    assert (analysis.macs, analysis.params, analysis.coverage) == (2 * 3 * 5 * 4, 24, 100.0)


def test_the_layout_of_one_processor_is_refused_with_what_to_take(optimised):
    path = str(optimised / "all.onnx")
    assert any(one.domain == "com.microsoft.nchwc" for one in onnx.load(path).graph.node)
    with pytest.raises(InputError, match=r"nchwc\.Conv .* is not known.*ORT_ENABLE_EXTENDED"):
        analyze_onnx(path)


@pytest.mark.parametrize("name", ["ModulatedDeformConv2d", "MatMulNBits", "FlashAttention"])
def test_an_unknown_operator_that_multiplies_by_its_name_is_no_zero(tmp_path, name):
    unknown = node(name, ["x"], ["y"], name="odd", domain="d")
    with pytest.raises(InputError, match=f"the cost of d.{name} 'odd' is not known"):
        analysed(tmp_path, [unknown], domains=["d"])
