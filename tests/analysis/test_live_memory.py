"""Live bytes of an analysis: by hand, and against torch.profiler's account of a real pass."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.errors import InputError
from tests.analysis.counted import Call, param, real_macs
from tests.analysis.profiled import profiled

# Weights and inputs of floats: four bytes an element.


def live_bytes(module, *inputs):
    """Largest sum of live activations without the inputs."""
    analysis = analyze(module, inputs, cache=False)
    return analysis.peak_live_bytes - sum(x.nbytes for x in inputs)


def by_row(analysis, op):
    return [layer.live_bytes for layer in analysis.layers if layer.op == op]


# -- attention -------------------------------------------------------------------------------------


def attention(*shapes, **options):
    function = Call(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, **options))
    return function, *(torch.rand(shape) for shape in shapes)


def test_the_fused_attention_holds_its_result_and_a_sum_of_each_row():
    module, *inputs = attention(*[(1, 2, 5, 8)] * 3)
    assert live_bytes(module, *inputs) == 4 * (2 * 5 * 8 + 2 * 5)


def test_a_mask_of_truth_values_becomes_one_of_numbers():
    module, *inputs = attention(*[(1, 2, 5, 8)] * 3, attn_mask=torch.ones(5, 5, dtype=torch.bool))
    assert live_bytes(module, *inputs) == 4 * (2 * 5 * 8 + 2 * 5 + 5 * 5)


def test_an_attention_that_no_fused_kernel_takes_is_plain_operators():
    # Values are wider than keys. Last come the scaled query, the shares and the result.
    module, *inputs = attention((1, 2, 5, 8), (1, 2, 5, 8), (1, 2, 5, 64))
    analysis = analyze(module, tuple(inputs), cache=False)
    assert analysis.macs == 2 * 5 * 5 * (8 + 64)
    assert "scaled_dot_product_attention" not in {layer.op for layer in analysis.layers}
    assert live_bytes(module, *inputs) == 4 * (2 * 5 * 8 + 2 * 5 * 5 + 2 * 5 * 64)


ATTENTIONS = {
    "fused": ([(2, 4, 30, 16)] * 3, {}),
    "causal": ([(2, 4, 30, 16)] * 3, {"is_causal": True}),
    "of three dimensions": ([(8, 30, 16)] * 3, {}),
    "wide values": ([(2, 4, 30, 16), (2, 4, 30, 16), (2, 4, 30, 40)], {}),
    "wide values, causal": (
        [(2, 4, 30, 16), (2, 4, 30, 16), (2, 4, 30, 40)],
        {"is_causal": True},
    ),
    "one head for all": ([(2, 4, 30, 16), (2, 1, 30, 16), (2, 1, 30, 16)], {}),
    "grouped": ([(2, 8, 30, 16), (2, 2, 30, 16), (2, 2, 30, 16)], {"enable_gqa": True}),
    "mask": ([(2, 4, 30, 16)] * 3, {"attn_mask": torch.zeros(2, 1, 30, 30)}),
    "mask of three dimensions": ([(2, 4, 30, 16)] * 3, {"attn_mask": torch.zeros(4, 30, 30)}),
    "mask of truth values": (
        [(2, 4, 30, 16)] * 3,
        {"attn_mask": torch.ones(30, 30, dtype=torch.bool)},
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_takes_the_kernel_that_torch_chooses(name):
    from cspbench.analysis.rules.attention import is_fused

    shapes, options = ATTENTIONS[name]
    operands = [torch.rand(shape) for shape in shapes]
    mask, grouped = options.get("attn_mask"), options.get("enable_gqa", False)
    chosen = torch._fused_sdp_choice(*operands, **options)
    assert is_fused(*operands, mask, 0.0, grouped) == (chosen == 1)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_live_bytes_of_attention_equal_the_profilers(name):
    shapes, options = ATTENTIONS[name]
    module, *inputs = attention(*shapes, **options)
    expected = profiled(module, *inputs).live_peak
    assert live_bytes(module, *inputs) == pytest.approx(expected, rel=0.01)


def test_a_module_of_attention_takes_its_native_kernel():
    # One projection to queries, keys and values, then the three apart: six times the input.
    module, x = nn.MultiheadAttention(16, 4, batch_first=True), torch.rand(2, 6, 16)
    module = Call(lambda m, x: m.net(x, x, x, need_weights=False)[0], net=module)
    assert live_bytes(module, x) == 6 * x.nbytes
    analysis = analyze(module, (x,), cache=False)
    assert analysis.macs == 2 * (6 * 16 * 64 + 2 * 36 * 16)
    assert [layer.op for layer in analysis.layers if layer.kind != "view"] == [
        *("linear", "_transform_bias_rescale_qkv", "bmm", "softmax", "bmm"),
        *("contiguous", "linear"),
    ]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_saved_bytes_of_a_native_kernel_are_those_of_training(batch, need_weights):
    module = nn.MultiheadAttention(16, 4, batch_first=True)
    module = Call(lambda m, x: m.net(x, x, x, need_weights=need_weights)[0], net=module)
    x = torch.rand(batch, 6, 16)
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    expected = analyze(module, (x,), cache=False).saved_for_backward_bytes
    module.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = module(x)
    assert expected == sum(storage.nbytes() for storage in kept.values())
    del result


def encoder(**options):
    options = {"d_model": 32, "nhead": 4, "dim_feedforward": 64, "batch_first": True} | options
    return nn.TransformerEncoderLayer(**options)


TRANSFORMERS = {
    "attention": (nn.MultiheadAttention(32, 4, batch_first=True), {}),
    "attention, length first": (nn.MultiheadAttention(32, 4), {}),
    "attention of three heads": (nn.MultiheadAttention(33, 3, batch_first=True), {}),
    "attention without biases": (nn.MultiheadAttention(32, 4, bias=False, batch_first=True), {}),
    "attention without its shares": (
        nn.MultiheadAttention(32, 4, batch_first=True),
        {"need_weights": False},
    ),
    "attention under a mask": (
        nn.MultiheadAttention(32, 4, batch_first=True),
        {"attn_mask": torch.ones(40, 40, dtype=torch.bool).triu(1)},
    ),
    "layer": (encoder(), None),
    "layer, norm first": (encoder(norm_first=True, activation="gelu"), None),
    "layer, length first": (encoder(batch_first=False), None),
    "layers": (nn.TransformerEncoder(encoder(), 2, enable_nested_tensor=False), None),
    "decoder": (nn.TransformerDecoderLayer(32, 4, 64, batch_first=True), "memory"),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_live_bytes_of_transformers_equal_the_profilers(name):
    net, options = TRANSFORMERS[name]
    x = torch.rand(2, 40, 33 if "three" in name else 32)
    if options is None:
        module = Call(lambda m, x: m.net(x), net=net)
    elif options == "memory":
        module = Call(lambda m, x: m.net(x, x), net=net)
    else:
        module = Call(lambda m, x: m.net(x, x, x, **options)[0], net=net)
    module.eval()
    expected = profiled(module, x).live_peak
    assert live_bytes(module, x) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("checked", [True, False])
def test_a_padded_batch_counts_all_its_positions(checked):
    net = nn.TransformerEncoder(encoder(), 2, mask_check=checked)
    module = Call(lambda m, x, mask: m.net(x, src_key_padding_mask=mask), net=net)
    padding = torch.zeros(2, 10, dtype=torch.bool)
    analysis = analyze(module, (torch.rand(2, 10, 32), padding), cache=False)
    layer = 10 * 32 * 32 * 4 + 2 * 10 * 10 * 32 + 2 * 10 * 32 * 64
    assert (analysis.macs, analysis.coverage) == (2 * 2 * layer, 100.0)


def test_a_nested_tensor_is_refused():
    module = Call(lambda m, x, y: m.net(torch.nested.as_nested_tensor([x, y])), net=nn.Linear(8, 4))
    with pytest.raises(InputError):
        analyze(module, (torch.rand(5, 8), torch.rand(3, 8)), cache=False)


# -- copies that torch makes of what no kernel takes as it lies ------------------------------------


def test_a_product_copies_what_it_cannot_see_as_a_batch():
    # (heads, length) of packed queries and keys do not lie as a batch of matrices: two copies.
    def function(m, x):
        q, k = x.view(2, 30, 2, 4, 8).permute(2, 0, 3, 1, 4)
        return q @ k.transpose(-1, -2)

    x = torch.rand(2, 30, 64)
    analysis = analyze(Call(function), (x,), cache=False)
    assert [layer.op for layer in analysis.layers].count("reshape_copy") == 2
    assert live_bytes(Call(function), x) == x.nbytes + 4 * 2 * 4 * 30 * 30


PRODUCTS = {
    "heads of packed tokens": lambda m, x: torch.matmul(*_heads(x)),
    "a matrix on the left": lambda m, x: torch.matmul(x[0, :40], x.transpose(1, 2)[..., :30]),
    "a matrix on the right": lambda m, x: torch.matmul(x, x[0, :32].T),
    "broadcast batches": lambda m, x: torch.matmul(x[:1, None], x.transpose(1, 2)[:, None]),
    "a linear layer of channels first": lambda m, x: m.net(x.permute(0, 2, 1)[..., :32]),
    "a linear layer of four dimensions": lambda m, x: m.net(
        x[..., :32].view(2, 5, 8, 32).permute(0, 2, 1, 3)
    ),
    "a norm of channels first": lambda m, x: F.layer_norm(x.transpose(1, 2), (40,)),
    "shares of channels first": lambda m, x: F.softmax(x.transpose(1, 2), -1),
    "a convolution of channels last": lambda m, x: m.conv(x.view(2, 8, 5, 64).permute(0, 3, 1, 2)),
    "a convolution of tokens": lambda m, x: m.conv(x.transpose(1, 2).view(2, 64, 5, 8)),
    "a convolution of one image's tokens": lambda m, x: m.conv(
        x[:1].transpose(1, 2).view(1, 64, 5, 8)
    ),
    "a wide convolution of tokens": lambda m, x: m.wide(x.transpose(1, 2).view(2, 64, 5, 8)),
    "a grouped convolution of one image's tokens": lambda m, x: m.apart(
        x[:1].transpose(1, 2).view(1, 64, 5, 8)
    ),
    "a convolution of a turned image": lambda m, x: m.conv(x.view(2, 64, 5, 8).transpose(2, 3)),
    "a pool of a turned image": lambda m, x: F.max_pool2d(x.view(2, 64, 5, 8).transpose(2, 3), 2),
}


@pytest.mark.parametrize("name", [name for name in PRODUCTS if "norm" not in name])
def test_copies_change_no_count(name):
    module = Call(PRODUCTS[name], net=nn.Linear(32, 48), **CONVOLUTIONS)
    x = torch.rand(2, 40, 64)
    analysis = analyze(module, (x,), cache=False)
    assert analysis.macs == real_macs(module, x)


CONVOLUTIONS = {
    "conv": nn.Conv2d(64, 16, 1),
    "wide": nn.Conv2d(64, 16, 3, padding=1),
    "apart": nn.Conv2d(64, 64, 3, padding=1, groups=64),
}


def _heads(x):
    q, k = x.view(2, 40, 2, 4, 8).permute(2, 0, 3, 1, 4)
    return q, k.transpose(-1, -2)


@pytest.mark.parametrize("name", PRODUCTS)
def test_live_bytes_of_copies_equal_the_profilers(name):
    module = Call(PRODUCTS[name], net=nn.Linear(32, 48), **CONVOLUTIONS).eval()
    x = torch.rand(2, 40, 64)
    expected = profiled(module, x).live_peak
    assert live_bytes(module, x) == pytest.approx(expected, rel=0.01)


def test_a_copy_of_a_table_of_weights_is_alive():
    # As relative positions of an attention: looked up, turned, made contiguous.
    places = torch.arange(12).repeat(50)

    def function(m, x):
        return x + m.table[places].view(20, 30, 8).permute(2, 0, 1).contiguous()

    module, x = Call(function, table=param(12, 8)), torch.rand(8, 20, 30)
    assert live_bytes(module, x) == 2 * x.nbytes == profiled(module, x).live_peak


# -- recurrent layers, transposed convolutions, interpolation --------------------------------------

RECURRENT = {
    "lstm": nn.LSTM(32, 48),
    "lstm, batch first": nn.LSTM(32, 48, batch_first=True),
    "lstm, two ways, two deep": nn.LSTM(32, 48, 2, bidirectional=True),
    "lstm, projected": nn.LSTM(32, 48, proj_size=24),
    "gru": nn.GRU(32, 48),
    "gru, batch first": nn.GRU(32, 48, batch_first=True),
    "gru, two ways, two deep": nn.GRU(32, 48, 2, bidirectional=True),
    "rnn": nn.RNN(32, 48),
}


@pytest.mark.parametrize("name", RECURRENT)
def test_live_bytes_of_recurrent_layers_equal_the_profilers(name):
    module = Call(lambda m, x: m.net(x)[0], net=RECURRENT[name]).eval()
    x = torch.rand(100, 6, 32)
    expected = profiled(module, x).live_peak
    assert live_bytes(module, x) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(8, 6, 2, stride=2),
        nn.ConvTranspose2d(8, 6, 4, stride=2, padding=1),
        nn.ConvTranspose2d(8, 8, 3, groups=8),
        nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1),
        nn.ConvTranspose1d(8, 6, 4, stride=2),
        nn.ConvTranspose3d(8, 6, 2, stride=2),
    ],
    ids=str,
)
@pytest.mark.parametrize("side", [8, 32])
def test_live_bytes_of_transposed_convolutions_equal_the_profilers(layer, side):
    dims = layer.weight.dim() - 2
    x = torch.rand(1, 8, *(side,) * min(dims, 2), *(4,) * (dims - 2))
    expected = profiled(layer, x).live_peak
    assert live_bytes(layer, x) == pytest.approx(expected, rel=0.01)


MODES = {
    "nearest": {},
    "nearest-exact": {},
    "bilinear": {},
    "bicubic": {},
    "area": {},
    "bilinear, smoothed": {"antialias": True},
    "bicubic, smoothed": {"antialias": True},
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("factor", [0.5, 2.0])
@pytest.mark.parametrize("name", MODES)
def test_live_bytes_of_interpolation_equal_the_profilers(name, factor, turned):
    mode = name.partition(",")[0]

    def function(m, x):
        x = x.transpose(2, 3) if turned else x
        return F.interpolate(x, scale_factor=factor, mode=mode, **MODES[name])

    x = torch.rand(2, 6, 20, 24)
    expected = profiled(Call(function), x).live_peak
    assert live_bytes(Call(function), x) == pytest.approx(expected, rel=0.01)


# -- what kernels take -----------------------------------------------------------------------------

KERNELS = {
    "small": (nn.Conv2d(8, 6, 3), (1, 8, 12, 12)),
    "small, strided": (nn.Conv2d(8, 6, 3, stride=2), (1, 8, 12, 12)),
    "one by one": (nn.Conv2d(8, 6, 1), (1, 8, 12, 12)),
    "one by one, strided": (nn.Conv2d(8, 6, 1, stride=2), (1, 8, 12, 12)),
    "dilated": (nn.Conv2d(8, 6, 3, dilation=2), (1, 8, 12, 12)),
    "transposed": (nn.ConvTranspose2d(8, 6, 3, stride=2), (1, 8, 12, 12)),
    "of one dimension": (nn.Conv1d(8, 6, 5), (1, 8, 40)),
    "of three dimensions": (nn.Conv3d(8, 6, 3), (1, 8, 6, 6, 6)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernel_bytes_of_convolutions_equal_the_profilers(name):
    layer, shape = KERNELS[name]
    taken = profiled(layer, torch.rand(shape)).temporaries
    assert not any("mkldnn" in kernel for kernel in taken)
    analysis = analyze(layer, shape, cache=False)
    assert analysis.peak_kernel_bytes == max(taken.values(), default=0)
    assert analysis.layers[0]["kernel_bytes"] == analysis.peak_kernel_bytes


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(8, 8, 3, groups=8), (1, 8, 12, 12)),
        (nn.Conv2d(8, 6, 5), (1, 8, 12, 12)),
        (nn.Conv2d(8, 6, 3), (2, 8, 12, 12)),
        (nn.Conv2d(8, 6, 3), (1, 8, 60, 60)),
    ],
    ids=["groups", "large window", "two images", "large image"],
)
def test_what_onednn_takes_is_not_known(layer, shape):
    taken = profiled(layer, torch.rand(shape)).temporaries
    assert any("mkldnn" in kernel for kernel in taken)
    assert analyze(layer, shape, cache=False).peak_kernel_bytes == 0


@pytest.mark.parametrize(
    "shape", [(1, 2, 5, 8), (2, 4, 197, 16), (1, 2, 600, 32), (1, 1, 900, 24)], ids=str
)
def test_kernel_bytes_of_the_fused_attention_equal_the_profilers(shape):
    module, *inputs = attention(*[shape] * 3)
    (taken,) = profiled(module, *inputs).temporaries.values()
    assert analyze(module, tuple(inputs), cache=False).peak_kernel_bytes == taken


FIRST = """
import torch
from cspbench.analysis.api import analyze

class Scaled(torch.nn.Module):
    def forward(self, x):
        y = (x + 1) * torch.arange(3)
        return x + y

print([layer.live_bytes for layer in analyze(Scaled(), (2, 3), cache=False).layers])
"""


def test_what_torch_imports_at_its_first_call_keeps_nothing_alive():
    """Each tensor is 24 bytes: 2 x 3 floats of 4 bytes, or 3 whole numbers of 8 bytes.

    When ``y`` is added to ``x`` both factors of ``y`` are gone: three tensors are left.
    """
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    assert done.stdout == "[48, 72, 96, 72]\n"
