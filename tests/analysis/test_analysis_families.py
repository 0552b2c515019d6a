"""Families of operators beyond the common ones: bags, distances, recurrent and quantised layers."""

import time

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.ao import quantization
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cspbench.analysis.api import analyze
from cspbench.errors import InputError
from tests.analysis.counted import Call, assert_counted, assert_refused, param

# -- products --------------------------------------------------------------------------------------


def test_a_bilinear_layer_is_two_products():
    module = nn.Bilinear(20, 30, 40)
    assert_counted(module, torch.rand(8, 20), torch.rand(8, 30), macs=8 * 40 * (20 + 1) * 30)


def test_a_matrix_times_a_vector_added_to_another():
    module = Call(lambda m, b, a, v: torch.addmv(b, a, v))
    assert_counted(module, torch.rand(4), torch.rand(4, 5), torch.rand(5), macs=20)
    assert_counted(
        Call(lambda m, a: torch.addmv(m.b, a, m.v), b=param(4), v=param(5)),
        torch.rand(4, 5),
        macs=20,
    )


def test_addbmm_sums_the_products_of_its_batch():
    module = Call(lambda m, x, a, b: torch.addbmm(x, a, b))
    inputs = torch.rand(4, 6), torch.rand(3, 4, 5), torch.rand(3, 5, 6)
    assert_counted(module, *inputs, macs=3 * 4 * 5 * 6)
    with_weight = Call(lambda m, x, a: torch.addbmm(x, a, m.w), w=param(3, 5, 6))
    assert_counted(with_weight, *inputs[:2], macs=3 * 4 * 5 * 6)


def test_a_convolution_with_time_first():
    module = Call(lambda m, x: F.conv_tbc(x, m.w, m.b, pad=1), w=param(3, 4, 6), b=param(6))
    analysis = assert_counted(module, torch.rand(10, 2, 4), macs=10 * 2 * 6 * 3 * 4)
    assert analysis.layers[-1].bias_elements == 6


def test_integer_products():
    module = Call(lambda m, x: torch._int_mm(x, x.t()))
    assert_counted(module, torch.ones(32, 64, dtype=torch.int8), macs=32 * 32 * 64)


@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_a_sparse_product_multiplies_what_is_stored(layout):
    matrix = torch.eye(6).to_sparse(layout=layout)
    for function in (torch.sparse.mm, torch.mm, torch.matmul):
        module = Call(lambda m, x, function=function: function(m.a, x), {"a": matrix})
        assert_counted(module, torch.rand(6, 5), macs=6 * 5)


def test_an_operator_of_a_sparse_tensor_that_is_not_followed_is_refused():
    module = Call(lambda m, x: m.a * x, {"a": torch.eye(6).to_sparse()})
    with pytest.raises(InputError, match="sparse"):
        analyze(module, (6, 6), cache=False)


def test_a_sparse_input_is_refused():
    with pytest.raises(InputError, match="dense"):
        analyze(
            Call(lambda m, x: torch.sparse.mm(x, m.w), w=param(6, 2)),
            (torch.eye(6).to_sparse(),),
            cache=False,
        )


def test_distances_by_a_product():
    module = Call(lambda m, x, y: torch.cdist(x, y))
    assert_counted(module, torch.rand(2, 40, 16), torch.rand(2, 50, 16), macs=2 * 40 * 50 * 16)


def test_distances_to_a_codebook():
    module = Call(lambda m, x: torch.cdist(x, m.codes), codes=param(50, 16))
    assert_counted(module, torch.rand(40, 16), macs=40 * 50 * 16)


def test_distances_without_a_product_multiply_and_accumulate_nothing():
    assert_counted(Call(lambda m, x: torch.cdist(x, x, p=1)), torch.rand(4, 3), macs=0)


# -- look-ups and made weights ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_embeddings(mode):
    module = nn.Sequential(nn.EmbeddingBag(100, 16, mode=mode), nn.Linear(16, 4))
    assert_counted(module, torch.randint(0, 100, (3, 7)), macs=3 * 16 * 4)


def test_bags_of_embeddings_by_offsets():
    module = nn.EmbeddingBag(100, 16)
    assert_counted(module, torch.randint(0, 100, (21,)), torch.tensor([0, 4, 9]), macs=0)


@pytest.mark.filterwarnings("ignore:.*weight_norm")
def test_a_normalised_weight_costs_no_product():
    analysis = assert_counted(nn.utils.weight_norm(nn.Conv2d(4, 6, 3)), torch.rand(1, 4, 8, 8))
    assert analysis.params_conv == 6 * 36


def test_an_orthogonal_weight():
    module = nn.utils.parametrizations.orthogonal(nn.Linear(20, 20))
    analysis = analyze(module, (3, 20), cache=False)
    assert analysis.coverage == 100.0
    assert analysis.macs == 3 * 20 * 20 + 20**3  # the layer, and the base times the exponential


# -- recurrent -------------------------------------------------------------------------------------

RECURRENT = {
    "lstm": nn.LSTM(6, 5),
    "lstm, two ways, three deep": nn.LSTM(6, 5, 3, bidirectional=True, batch_first=True),
    "lstm without biases": nn.LSTM(6, 5, bias=False),
    "lstm, projected": nn.LSTM(6, 5, 2, proj_size=3, bidirectional=True),
    "gru": nn.GRU(6, 5, 2, bidirectional=True),
    "rnn": nn.RNN(6, 5),
    "rnn with relu": nn.RNN(6, 5, nonlinearity="relu", batch_first=True),
}


@pytest.mark.parametrize("name", RECURRENT)
@pytest.mark.parametrize("shape", [(7, 2, 6), (7, 6)], ids=["batch", "one"])
def test_a_recurrent_layer(name, shape):
    module, x = RECURRENT[name], torch.rand(shape)
    shapes = []

    def function(m, x):
        output, state = m.net(x)
        states = state if isinstance(state, tuple) else (state,)
        shapes.append([tuple(tensor.shape) for tensor in (output, *states)])
        return output

    by_step = Call(lambda m, x: m.net(x), net=module)
    analysis = assert_counted(Call(function, net=module), x, macs=_meta_macs(by_step, x))
    with torch.no_grad():
        function(by_step, x)
    assert shapes[0] == shapes[-1]
    assert sum(layer.params for layer in analysis.layers) == analysis.params


def _meta_macs(module, x):
    """MACs as torch makes the layer on meta, which is step by step."""
    import copy

    from torch.utils.flop_counter import FlopCounterMode

    twin = copy.deepcopy(module).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(x.to("meta"))
    return counter.get_total_flops() // 2


def test_a_recurrent_layer_takes_as_many_rows_whatever_its_steps():
    module = nn.LSTM(48, 48, bidirectional=True, batch_first=True)
    few, many = (analyze(module, (32, steps, 48), cache=False) for steps in (4, 128))
    assert len(few.layers) == len(many.layers) < 50
    assert many.macs == 32 * few.macs == 2 * 32 * 128 * 4 * 48 * 96


def test_a_long_recurrent_layer_takes_no_longer_than_a_short_one():
    module = nn.LSTM(48, 48, bidirectional=True, batch_first=True)

    def processor_seconds(steps):
        start = time.process_time()
        analyze(module, (32, steps, 48), cache=False)
        return time.process_time() - start

    short, long = (min(processor_seconds(steps) for _ in range(5)) for steps in (32, 1000))
    assert long < 5 * short  # one step at a time it would be 31 times


def packed(m, x):
    sequence = pack_padded_sequence(x, torch.tensor([5, 3, 2]), batch_first=True)
    return pad_packed_sequence(m.net(sequence)[0], batch_first=True)[0]


@pytest.mark.parametrize(
    ("module", "gates"),
    [(nn.LSTM(20, 30, batch_first=True), 4), (nn.GRU(20, 30, batch_first=True), 3)],
)
def test_packed_sequences_cost_no_padding(module, gates):
    analysis = assert_counted(
        Call(packed, net=module), torch.rand(3, 5, 20), macs=10 * gates * 30 * (20 + 30)
    )
    assert analysis.layers[-1].output_shapes == ((3, 5, 30),)


def test_sequences_of_any_order_are_packed():
    def function(m, x):
        sequence = pack_padded_sequence(x, [2, 5, 3], batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(m.net(sequence)[0], batch_first=True)[0]

    module = Call(function, net=nn.LSTM(20, 30, batch_first=True))
    assert_counted(module, torch.rand(3, 5, 20), macs=10 * 4 * 30 * 50)


def test_lengths_that_are_an_input_are_refused():
    def function(m, x, lengths):
        return m.net(pack_padded_sequence(x, lengths, batch_first=True))[0].data

    module = Call(function, net=nn.LSTM(20, 30, batch_first=True))
    with pytest.raises(InputError, match="lengths of packed sequences need the values"):
        analyze(module, (torch.rand(3, 5, 20), torch.tensor([5, 3, 2])), cache=False)


def test_lengths_that_do_not_fit_are_refused():
    def function(m, x):
        return pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True).data

    assert_refused(Call(function), torch.rand(3, 5, 20))


# -- quantised -------------------------------------------------------------------------------------

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*quantization", "ignore:.*observer", "ignore:.*Typed"
)


def small_net():
    return nn.Sequential(
        quantization.QuantStub(),
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.Flatten(),
        nn.Linear(24, 5),
        quantization.DeQuantStub(),
    )


SMALL_MACS = 6 * 64 * 36 + 6 * 4 * 18 + 24 * 5


def engine():
    supported = torch.backends.quantized.supported_engines
    name = next((name for name in ("x86", "fbgemm", "qnnpack") if name in supported), None)
    if name is None:
        pytest.skip("this torch has no quantised kernels")
    return name


def test_a_statically_quantised_network():
    net = small_net().eval()
    net.qconfig = quantization.get_default_qconfig(engine())
    quantization.prepare(net, inplace=True)
    net(torch.rand(2, 4, 8, 8))
    quantised = quantization.convert(net)
    analysis = analyze(quantised, (1, 4, 8, 8), cache=False)
    assert analysis.coverage == 100.0
    assert analysis.macs == SMALL_MACS
    assert analysis.layers[-1].output_shapes == ((1, 5),)
    first = next(layer for layer in analysis.layers if layer.kind == "conv")
    assert (first.input_bytes, first.output_bytes) == (4 * 64, 6 * 64)  # a byte an element
    assert first.weight_elements == 6 * 36 + 6


def test_a_dynamically_quantised_network():
    engine()
    net = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 10))
    quantised = quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)
    analysis = analyze(quantised, (3, 20), cache=False)
    assert (analysis.macs, analysis.coverage) == (3 * (600 + 300), 100.0)


@pytest.mark.parametrize(("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3)])
def test_a_dynamically_quantised_recurrent_layer(kind, gates):
    engine()
    net = nn.Sequential(kind(20, 30, 2, bidirectional=True))
    quantised = quantization.quantize_dynamic(net, {kind}, dtype=torch.qint8)
    analysis = analyze(quantised, (7, 3, 20), cache=False)
    assert analysis.macs == analyze(net, (7, 3, 20), cache=False).macs
    assert analysis.coverage == 100.0


def test_a_network_trained_for_quantisation():
    net = nn.Sequential(
        quantization.QuantStub(),
        nn.Conv2d(4, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        quantization.DeQuantStub(),
    ).train()
    net.qconfig = quantization.get_default_qat_qconfig(engine())
    analysis = analyze(quantization.prepare_qat(net), (1, 4, 8, 8), cache=False)
    assert (analysis.macs, analysis.coverage) == (6 * 36 * 36, 100.0)


def test_a_quantised_layer_of_other_channels_is_refused():
    engine()
    quantised = quantization.quantize_dynamic(nn.Sequential(nn.Linear(20, 30)), {nn.Linear})
    assert_refused(quantised, torch.rand(3, 19))
