"""The tracer against PyTorch itself and against other counters."""

import warnings

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from cspbench.analysis.api import analyze
from cspbench.analysis.verify import fvcore_counts, reconcile
from cspbench.errors import InputError
from tests.analysis.nets import NETS, ConvBn, Vit


def built(name):
    make, side = NETS[name]
    torch.manual_seed(0)
    return make().eval(), torch.randn(1, 3, side, side)


@pytest.mark.parametrize("name", NETS)
def test_macs_equal_fvcore_by_operator(name):
    module, x = built(name)
    analysis = analyze(module, x)
    counted, _ = fvcore_counts(module, (x,))
    assert analysis.macs_conv == counted["conv"]
    assert analysis.macs_linear == counted["linear"] + counted["addmm"]
    assert analysis.coverage == 100.0


@pytest.mark.parametrize("name", NETS)
def test_flops_equal_flop_counter_mode(name):
    make, side = NETS[name]
    with torch.device("meta"):
        module = make().eval()
    x = torch.empty(1, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(x)
    assert analyze(module, x).flops == counter.get_total_flops()


def profiled_peak(module, x):
    """Largest running sum of the allocator's events of one eager forward, plus the input."""
    from torch.profiler import ProfilerActivity, profile

    with torch.no_grad():
        module(x)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            result = module(x)
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    total = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        total += event.nbytes()
        peak = max(peak, total)
    del result
    return peak + x.numel() * x.element_size()


# Not "mobile": PyTorch's dilated convolution takes a column buffer, which is no activation.
@pytest.mark.parametrize("name", ["resnext", "pelee", "yolo", "vit"])
def test_peak_live_bytes_equal_the_allocators(name):
    module, x = built(name)
    assert analyze(module, x).peak_live_bytes == pytest.approx(profiled_peak(module, x), rel=0.01)


@pytest.mark.parametrize("name", NETS)
def test_saved_bytes_equal_autograds(name):
    module, x = built(name)
    expected = analyze(module, x).saved_for_backward_bytes
    own = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *module.buffers()]}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    module.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = module(x)
    assert expected == sum(storage.nbytes() for storage in kept.values())
    del result


def test_a_vit_by_hand():
    analysis = analyze(Vit(), (1, 3, 32, 32))
    # 17 tokens of 64. Patches: 16 x 64 x 3 x 8 x 8. A block: qkv, projection, MLP of 4 x 64.
    patches = 16 * 64 * 192
    block_linear = 17 * (64 * 192 + 64 * 64 + 2 * 64 * 256)
    block_attention = 4 * 17 * 17 * (16 + 16)
    assert analysis.macs_conv == patches
    assert analysis.macs_linear == 2 * block_linear + 64 * 10
    assert analysis.macs_matmul == 2 * block_attention
    assert sum(layer.params for layer in analysis.layers) == analysis.params


def test_multihead_attention_module_is_counted():
    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    analysis = analyze(Encoder(), (1, 6, 16))
    # Projections in and out: 6 x 16 x (48 + 16); scores and sums: 4 heads x 6 x 6 x (4 + 4).
    assert analysis.macs_linear == 6 * 16 * 64
    assert analysis.macs_matmul == 4 * 36 * 8
    assert analysis.coverage == 100.0


def test_shared_weights_count_once_and_compute_twice():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.again = self.conv
            self.tied = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.tied.weight = self.conv.weight

        def forward(self, x):
            return self.tied(self.again(self.conv(x)))

    analysis = analyze(Shared(), (1, 4, 5, 5))
    assert analysis.params == 4 * 4 * 9 + 4
    assert analysis.params_conv == 144
    assert analysis.macs == 3 * 100 * 36
    assert [layer.params for layer in analysis.layers] == [148, 0, 0]


def test_several_inputs_keywords_and_nested_outputs():
    class Fuse(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 2, 1)

        def forward(self, image, depth, *, scale=1.0):
            return {"out": (self.conv(torch.cat([image, depth], 1)) * scale, [image])}

    image, depth = torch.empty(1, 3, 4, 4), torch.empty(1, 3, 4, 4)
    by_position = analyze(Fuse(), (image, depth))
    by_name = analyze(Fuse(), {"image": image, "depth": depth, "scale": 2.0})
    assert by_position.macs == by_name.macs == 2 * 16 * 6
    assert by_position.input == ((1, 3, 4, 4), (1, 3, 4, 4))


def test_in_place_operators_keep_no_second_tensor():
    class InPlace(nn.Module):
        def forward(self, x):
            y = x * 2
            y += 1
            y.relu_()
            y[:, :1] = x[:, :1]
            return y

    analysis = analyze(InPlace(), (1, 4, 8, 8))
    assert analysis.peak_live_bytes == 2 * 4 * 256
    assert [layer.op for layer in analysis.layers] == ["mul", "add", "relu", "slice", "copy"]
    assert analysis.coverage == 100.0


def test_the_module_is_left_as_it_was():
    module = nn.Sequential(ConvBn(3, 4), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    call = nn.Module.__call__
    analyze(module, (2, 3, 8, 8))
    assert all(child.training for child in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert nn.Module.__call__ is call


def test_paths_and_stages():
    module, x = built("resnext")
    layers = analyze(module, x).layers
    assert (layers[0].name, layers[0].stage) == ("stem.0.0", "stem.0")
    assert {layer.stage for layer in layers if layer.name.startswith("stages")} == {
        "stages.0",
        "stages.1",
    }
    assert layers[-1].name == "fc"


def test_a_weight_computed_in_the_forward_pass():
    module = nn.Sequential(weight_norm(nn.Conv2d(4, 8, 3)))
    analysis = analyze(module, (1, 4, 6, 6))
    assert analysis.macs == 8 * 16 * 36
    assert analysis.params_conv == 288
    assert analysis.params == 288 + 8 + 8  # direction, magnitude, bias
    assert sum(layer.params for layer in analysis.layers) == analysis.params


def test_a_constant_filter_is_no_parameter():
    class Blur(nn.Module):
        def forward(self, x):
            line = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
            kernel = torch.outer(line, line).expand(x.shape[1], 1, -1, -1)
            return F.conv2d(x, kernel, padding=1, groups=x.shape[1])

    analysis = analyze(Blur(), (1, 4, 6, 6))
    assert analysis.macs == 4 * 36 * 9
    assert analysis.params == analysis.params_conv == 0


def test_constants_made_in_the_forward_pass():
    class Grid(nn.Module):
        def forward(self, x):
            rows = torch.arange(x.shape[2]).float()
            grid = torch.stack(torch.meshgrid(rows, rows, indexing="ij"))
            state = torch.zeros(x.shape[0], 2, x.shape[2], x.shape[3])
            steps = [int(step) for step in torch.tensor([1, 2])]  # a constant's values are known
            return x[:, :2] + grid + state * sum(steps)

    analysis = analyze(Grid(), (1, 4, 6, 6))
    assert analysis.coverage == 100.0
    assert analysis.layers[-1].output_shapes == ((1, 2, 6, 6),)


def test_half_precision_moves_half_the_bytes():
    net = nn.Conv2d(3, 4, 1)
    full = analyze(net, torch.empty(1, 3, 4, 4))
    half = analyze(net.half(), torch.empty(1, 3, 4, 4, dtype=torch.float16))
    assert half.traffic_bytes * 2 == full.traffic_bytes
    assert half.macs == full.macs


class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:  # the line that the message must name
            return x
        return -x


class Looping(nn.Module):
    def forward(self, x):
        return x[x > 0]


@pytest.mark.parametrize(
    ("module", "line"),
    [(Branching(), "if x.sum() > 0"), (Looping(), "return x[x > 0]")],
)
def test_data_dependent_control_flow_names_its_line(module, line):
    with pytest.raises(InputError) as caught:
        analyze(module, (1, 3, 4, 4))
    (problem,) = caught.value.problems
    assert "test_analysis_trace.py:" in problem
    assert line in problem
    assert "must not depend on data" in problem


def test_a_forward_that_fails_names_its_line():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)

        def forward(self, x):
            return self.conv(x)

    with pytest.raises(InputError, match=r"return self\.conv\(x\).*4 channels was given 3"):
        analyze(Wrong(), (1, 3, 8, 8))


def test_inputs_that_are_none():
    with pytest.raises(InputError, match="example input"):
        analyze(nn.ReLU(), 3.5)
    with pytest.raises(InputError, match="can be analysed"):
        analyze(lambda x: x, (1, 3))


def test_torchscript_is_refused_with_a_way_out():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Conv2d(3, 4, 1))
    with pytest.raises(InputError, match="TorchScript"):
        analyze(scripted, (1, 3, 4, 4))


@torch.library.custom_op("cspbench_test::mystery", mutates_args=())
def mystery(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@torch.library.custom_op("cspbench_test::opaque", mutates_args=())
def opaque(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@mystery.register_fake
def _(x):
    return torch.empty_like(x)


class Custom(nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.operator = operator
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return torch.relu(self.operator(self.conv(x)))


def test_an_unknown_operator_is_unsupported_and_never_free():
    analysis = analyze(Custom(mystery), (1, 3, 4, 4))
    assert analysis.unsupported == {"cspbench_test.mystery": 1}
    assert analysis.coverage == pytest.approx(100 * 2 / 3)
    assert analysis.ignored["macs"] == {"cspbench_test.mystery": 1, "relu": 1}


def test_an_operator_without_a_shape_rule_says_how_to_give_it_one():
    with pytest.raises(InputError, match="register_fake"):
        analyze(Custom(opaque), (1, 3, 4, 4))


def test_reconciliation_explains_every_difference():
    module, x = built("vit")
    rows = {row["operator"]: row for row in reconcile(analyze(module, x), module, (x,))}
    assert rows["conv"]["verdict"] == rows["linear"]["verdict"] == "equal"
    assert rows["conv"]["fvcore"] == rows["conv"]["cspbench_macs"] > 0
    # Neither fvcore nor FlopCounterMode knows the CPU's fused attention kernel.
    assert "differs" in rows["matmul"]["verdict"]
    assert rows["layer_norm"]["fvcore"] > 0
    assert rows["layer_norm"]["cspbench_macs"] == 0


def test_recurrent_networks_fall_to_the_complete_level():
    analysis = analyze(nn.LSTM(4, 8, batch_first=True), (1, 5, 4))
    # 5 steps: 4 gates x 8 x (4 inputs + 8 states).
    assert analysis.macs == 5 * 32 * 12
