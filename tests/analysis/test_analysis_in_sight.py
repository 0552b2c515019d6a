"""Nothing disappears: what runs out of sight is seen, and what is not seen is told."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from cspbench.analysis import trace
from cspbench.analysis.api import analyze
from cspbench.analysis.rules import RULES
from cspbench.errors import InputError
from tests.analysis.counted import Call, assert_counted, param


@torch.jit.script
def swish(x):
    return x * torch.sigmoid(x)


@torch.jit.script
def scripted_attention(x, w):
    q = torch.nn.functional.linear(x, w)
    return torch.matmul(q.matmul(q.transpose(-1, -2)).softmax(-1), q)


def test_a_scripted_activation_is_seen():
    module = Call(lambda m, x: m.d(swish(m.c(x))), c=nn.Conv2d(3, 4, 3), d=nn.Conv2d(4, 5, 1))
    analysis = assert_counted(module, torch.rand(1, 3, 8, 8))
    assert [layer.op for layer in analysis.layers] == ["conv2d", "sigmoid", "mul", "conv2d"]


def test_scripted_products_are_counted():
    module = Call(lambda m, x: scripted_attention(x, m.w), w=param(6, 4))
    assert_counted(module, torch.rand(2, 5, 4))


def test_a_scripted_function_runs_as_before_after_an_analysis():
    analyze(Call(lambda m, x: swish(x)), (2, 3), cache=False)
    assert torch.equal(swish(torch.ones(2)), torch.sigmoid(torch.ones(2)))


class Hidden:
    """A thread is out of sight: no mode is active there."""

    def __call__(self, m, x):
        import threading

        result = []
        thread = threading.Thread(target=lambda: result.append(torch.relu(x)))
        thread.start()
        thread.join()
        return result[0]


def test_what_is_not_seen_is_told():
    analysis = analyze(Call(Hidden()), (2, 3), cache=False)
    assert analysis.unsupported == {"untraced": 1}
    assert analysis.coverage < 100.0


def test_what_is_not_seen_is_told_where_it_is_used():
    def function(m, x):
        return m.f(Hidden()(m, m.f(x)))

    analysis = analyze(Call(function, f=nn.Linear(3, 3)), (2, 3), cache=False)
    assert analysis.unsupported == {"untraced": 1}
    assert [layer.op for layer in analysis.layers] == ["linear", "untraced", "linear"]


def test_a_rule_that_is_wrong_is_told(monkeypatch):
    def wrong(tracer, func, args, kwargs):
        out, result = tracer.empty((1, 2), torch.float32, 4)
        tracer.recorder.record("linear", (tracer.value(args[0]),), (result,))
        return out

    monkeypatch.setattr(trace, "_COMPARED", set())
    monkeypatch.setitem(trace.RULES, F.linear, wrong)
    assert trace.RULES is RULES
    with pytest.raises(InputError, match=r"linear gives .*by our rule"):
        analyze(nn.Linear(3, 5), (2, 3), cache=False)


HEADS = {
    "one head of queries": ((2, 1, 10, 8), (2, 8, 12, 8)),
    "one head of keys and values": ((2, 8, 10, 8), (2, 1, 12, 8)),
    "one batch of queries": ((1, 8, 10, 8), (3, 8, 12, 8)),
    "fewer dimensions of queries": ((10, 8), (2, 8, 12, 8)),
    "as many of each": ((2, 8, 10, 8), (2, 8, 12, 8)),
}


@pytest.mark.parametrize("name", HEADS)
def test_attention_broadcasts_its_heads(name):
    query, keys = HEADS[name]
    module = Call(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v))
    inputs = torch.rand(query), torch.rand(keys), torch.rand(keys)
    with torch.no_grad():
        out = module(*inputs)
    pairs = out.numel() // 8 * 12
    analysis = assert_counted(module, *inputs, macs=pairs * (8 + 8))
    assert analysis.layers[-1].output_shapes == (tuple(out.shape),)
    assert analysis.totals["activations"] == pairs + out.numel()


def test_grouped_queries_share_their_keys():
    module = Call(lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    inputs = torch.rand(2, 8, 10, 16), torch.rand(2, 2, 12, 16), torch.rand(2, 2, 12, 4)
    analysis = assert_counted(module, *inputs, macs=2 * 8 * 10 * 12 * (16 + 4))
    assert analysis.layers[-1].output_shapes == ((2, 8, 10, 4),)


def test_learned_queries_are_counted():
    module = Call(
        lambda m, x: F.scaled_dot_product_attention(m.q.expand(2, -1, -1), x, x), q=param(1, 5, 8)
    )
    assert_counted(module, torch.rand(2, 7, 8), macs=2 * 5 * 7 * 16)


def autocasted(m, x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return m.f(m.f(x))


def test_autocast_halves_the_bytes_of_products():
    module = Call(autocasted, f=nn.Linear(256, 256))
    analysis = assert_counted(module, torch.rand(64, 256))
    last = analysis.layers[-1]
    assert (last.output_bytes, last.input_bytes) == (2 * 64 * 256, 2 * 64 * 256)
    casts = [layer for layer in analysis.layers if layer.op == "_to_copy"]
    assert [layer.params for layer in casts].count(256 * 256) == 1


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (
            nn.Sequential(
                nn.Conv2d(3, 8, 3),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(288, 5),
                nn.Softmax(-1),
            ),
            (2, 3, 8, 8),
            2 * (36 * 8 * 27 + 288 * 5),
        ),
        (nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), 2 * (5 * 8 * 32 + 2 * 25 * 8)),
    ],
)
def test_autocast_gives_the_types_that_torch_gives(module, shape, macs):
    def function(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = m.net(x, x, x)[0] if shape == (2, 5, 8) else m.net(x)
        types.append(result.dtype)
        return result

    types = []
    analysed = Call(function, net=module)
    assert_counted(analysed, torch.rand(shape), macs=macs)
    with torch.no_grad():
        analysed(torch.rand(shape))
    assert len(types) == 2
    assert types[0] is types[1]


def test_a_pool_of_threads_runs_at_once():
    def function(m, x):
        with ThreadPoolExecutor(2) as pool:
            return [future.result() for future in [pool.submit(part, x) for part in (m.a, m.b)]]

    module = Call(function, a=nn.Linear(4, 5), b=nn.Linear(4, 6))
    analysis = analyze(module, (2, 4), cache=False)
    assert analysis.macs == 2 * 20 + 2 * 24
    assert [layer.name for layer in analysis.layers] == ["a", "b"]
    with ThreadPoolExecutor(1) as pool:  # and as before afterwards
        assert pool.submit(lambda: torch.ones(2).sum().item()).result() == 2


def test_an_output_that_is_a_distribution(monkeypatch):
    # torch.compile in an earlier test of this process switches torch's check off for good.
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
    module = Call(lambda m, x: torch.distributions.Categorical(logits=m.f(x)), f=nn.Linear(10, 5))
    assert_counted(module, torch.rand(1, 10))
    with pytest.raises(ValueError, match="parameter"):
        torch.distributions.Categorical(probs=torch.tensor([-1.0, 2.0]))


def test_a_function_over_a_batch():
    assert_counted(
        Call(lambda m, x: torch.func.vmap(m.f)(x), f=nn.Linear(4, 5)),
        torch.rand(3, 2, 4),
        macs=6 * 20,
    )


def test_an_ensemble_over_its_weights():
    nets = [nn.Linear(4, 5) for _ in range(3)]
    params, _ = torch.func.stack_module_state(nets)

    def function(m, x):
        def one(weights, sample):
            return torch.func.functional_call(nets[0], weights, (sample,))

        return torch.func.vmap(one, (0, None))(dict(m.named_parameters()), x)

    module = Call(function)
    for name, stacked in params.items():
        module.register_parameter(name, nn.Parameter(stacked.detach()))
    assert_counted(module, torch.rand(2, 4), macs=3 * 2 * 20)


def gradient(m, x):
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return torch.autograd.grad(m.f(x).sum(), x)[0]


def test_gradients_that_the_forward_pass_asks_for_are_counted():
    assert_counted(Call(gradient, f=nn.Linear(4, 1)), torch.rand(2, 4), macs=2 * 8)


def test_conversion_by_type_is_seen():
    analysis = analyze(Call(lambda m, x: x.type(torch.float64)), (2, 3), cache=False)
    assert analysis.coverage == 100.0
    assert analysis.layers[-1].output_bytes == 8 * 6


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_plain_tensor_of_the_module_is_a_constant(device):
    module = Call(
        lambda m, x: F.conv2d(x, m.kept["k"].expand(3, 1, 3, 3), groups=3),
        kept={"k": torch.ones(1, 1, 3, 3, device=device)},
    )
    analysis = analyze(module, (1, 3, 8, 8), cache=False)
    assert analysis.coverage == 100.0
    assert analysis.macs == 3 * 36 * 9
    assert analysis.layers[0].live_bytes == 4 * (3 * 64 + 3 * 36)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: torch.as_tensor([0.5, 0.2, 0.1], device=x.device)[:, None, None],
        lambda x: torch.tensor(0.5, device=x.device),
        lambda x: x.new_tensor([0.5])[:, None],
        lambda x: torch.full((1,), 0.5, device=x.device),
    ],
    ids=["as_tensor", "tensor", "new_tensor", "full"],
)
def test_what_is_made_of_plain_numbers_is_a_constant(make):
    analysis = analyze(Call(lambda m, x: x * make(x)), (1, 3, 8, 8), cache=False)
    assert analysis.unsupported == {}
    assert analysis.layers[-1].input_shapes == ((1, 3, 8, 8),)


class Detector(nn.Module):
    """A detector of two stages: the second one runs on the boxes that the first one keeps."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))

    def forward(self, x):
        boxes = self.first(x).flatten(2).transpose(1, 2)[0]
        return self.second(boxes[boxes[:, 0] > 0])


def test_a_detector_is_counted_up_to_where_data_decides(monkeypatch):
    with pytest.raises(InputError, match="needs the values"):
        analyze(Detector(), (1, 3, 8, 8), cache=False)
    monkeypatch.setattr(Detector, "__module__", "torchvision.models.detection.faster_rcnn")
    analysis = analyze(Detector(), (1, 3, 8, 8), cache=False)
    assert analysis.macs == 64 * 12
    assert analysis.coverage < 100.0
    assert analysis.unsupported == {"data_dependent": 1, "not_reached": 2}
    rest = [layer.name for layer in analysis.layers if layer.op == "not_reached"]
    assert rest == ["second.0", "second.2"]
