"""Each construct of a Darknet configuration against torch functions."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cspbench.errors import InputError
from cspbench.models.sources.darknet.activations import activation
from cspbench.models.sources.darknet.module import DarknetModule
from cspbench.models.sources.darknet.network import parse_network
from cspbench.models.sources.darknet.ops import ACTIVATIONS
from cspbench.models.weights import materialize


def network(body: str, channels: int = 4, height: int = 8, width: int = 8) -> DarknetModule:
    """A seeded network with a [net] section of that input before ``body``."""
    head = f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n"
    parsed = parse_network(head + body)
    with torch.device("meta"):
        module = DarknetModule(parsed)
    return materialize(module).eval()


def image(channels: int = 4, height: int = 8, width: int = 8, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, height, width, generator=generator)


def run(body: str, x: Tensor | None = None) -> Tensor:
    """Output of ``body`` for ``x``; checks that the reader foresaw its shape."""
    x = image() if x is None else x
    module = network(body, *x.shape[1:])
    with torch.no_grad():
        y = module(x)
    y = y[0] if isinstance(y, tuple) else y
    layer = module.network.layers[module.network.outputs[-1]]
    assert y.numel() == len(x) * math.prod(layer.out_shape)
    return y


def conv_of(module: DarknetModule, index: int = 0) -> torch.nn.Conv2d:
    conv = module.layers[index].conv
    assert isinstance(conv, torch.nn.Conv2d)
    return conv


CONVOLUTIONS = {
    "plain": ("size=3", {}),
    "padded": ("size=3\npad=1", {"padding": 1}),
    "padding is per side": ("size=3\npadding=2", {"padding": 2}),
    "pad wins over padding": ("size=5\npad=1\npadding=1", {"padding": 2}),
    "strided": ("size=3\nstride=2\npad=1", {"stride": 2, "padding": 1}),
    "stride by axis": ("size=3\nstride_x=2\nstride_y=1", {"stride": (1, 2)}),
    "stride_x alone": ("size=3\nstride=2\nstride_x=1", {"stride": (2, 1)}),
    "grouped": ("size=3\npad=1\ngroups=2", {"padding": 1, "groups": 2}),
    "depthwise": ("size=3\npad=1\ngroups=4", {"padding": 1, "groups": 4}),
    "dilated": ("size=3\npad=1\ndilation=2", {"padding": 2, "dilation": 2}),
    "1x1 has no dilation": ("size=1\npad=1\ndilation=3", {}),
    "even size": ("size=2\npad=1\nstride=2", {"padding": 1, "stride": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution(name):
    options, expected = CONVOLUTIONS[name]
    body = f"[convolutional]\nfilters=8\nactivation=linear\n{options}\n"
    module, x = network(body, 4, 9, 8), image(4, 9, 8)
    conv = conv_of(module)
    with torch.no_grad():
        assert torch.equal(module(x), functional.conv2d(x, conv.weight, conv.bias, **expected))
    # k k cin/groups cout oh ow
    layer, groups = module.network.layers[0], expected.get("groups", 1)
    oh, ow = module(x).shape[2:]
    assert layer.macs == conv.kernel_size[0] ** 2 * (4 // groups) * 8 * oh * ow
    assert layer.cio == 4 * 9 * 8 + 8 * oh * ow


def test_batch_normalisation_uses_running_statistics_and_darknets_epsilon():
    body = "[convolutional]\nfilters=5\nsize=1\nbatch_normalize=1\nactivation=leaky\n"
    module, x = network(body), image()
    bn = module.layers[0].bn
    y = functional.conv2d(x, conv_of(module).weight)
    mean, var = bn.running_mean.view(-1, 1, 1), bn.running_var.view(-1, 1, 1)
    y = (y - mean) / torch.sqrt(var + 1e-5) * bn.weight.view(-1, 1, 1) + bn.bias.view(-1, 1, 1)
    assert torch.allclose(module(x), torch.where(y > 0, y, 0.1 * y), atol=1e-6)


#: Darknet's activations.h at a few places, computed by hand.
ACTIVATED = {
    "linear": [(-2.0, -2.0), (3.0, 3.0)],
    "leaky": [(-2.0, -0.2), (3.0, 3.0)],
    "revleaky": [(-2.0, -0.2), (3.0, 3.0)],
    "relu": [(-2.0, 0.0), (3.0, 3.0)],
    "relu6": [(-2.0, 0.0), (3.0, 3.0), (9.0, 6.0)],
    "relie": [(-2.0, -0.02), (3.0, 3.0)],
    "ramp": [(-2.0, -0.2), (3.0, 3.3)],
    "logistic": [(0.0, 0.5), (2.0, 1 / (1 + math.exp(-2)))],
    "loggy": [(0.0, 0.0), (2.0, 2 / (1 + math.exp(-2)) - 1)],
    "tanh": [(0.5, math.tanh(0.5))],
    "swish": [(2.0, 2 / (1 + math.exp(-2))), (-1.0, -1 / (1 + math.e))],
    "mish": [(1.0, math.tanh(math.log(1 + math.e))), (-1.0, -math.tanh(math.log(1 + 1 / math.e)))],
    "hard_mish": [(1.0, 1.0), (-1.0, -0.5), (-3.0, 0.0)],
    "elu": [(-1.0, math.exp(-1) - 1), (2.0, 2.0)],
    "selu": [(2.0, 2.1014), (-1.0, 1.0507 * 1.6732 * (math.exp(-1) - 1))],
    "gelu": [(1.0, 0.5 * (1 + math.tanh(0.797885 + 0.035677)))],
    "hardtan": [(-2.0, -1.0), (0.5, 0.5), (3.0, 1.0)],
    "lhtan": [(-2.0, -0.002), (0.5, 0.5), (3.0, 1.002)],
    "plse": [(-6.0, -0.02), (0.0, 0.5), (6.0, 1.02)],
    "stair": [(2.5, 1.0), (3.25, 1.25), (-1.5, -1.0)],
}


@pytest.mark.parametrize("name", sorted(ACTIVATED))
def test_activation(name):
    function = activation(name)
    for x, y in ACTIVATED[name]:
        assert function(torch.tensor([x])).item() == pytest.approx(y, abs=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_can_follow_a_convolution(name):
    y = run(f"[convolutional]\nfilters=3\nsize=1\nactivation={name}\n")
    assert torch.isfinite(y).all()


def test_normalised_channels():
    # relu(x) / (sum over channels of relu(x) + 0.0001), at each place.
    x = torch.tensor([3.0, -1.0, 1.0]).view(1, 3, 1, 1)
    y = activation("normalize_channels")(x).flatten()
    assert torch.allclose(y, torch.tensor([3.0, 0.0, 1.0]) / 4.0001)
    e = torch.exp(x.flatten())
    assert torch.allclose(
        activation("normalize_channels_softmax")(x).flatten(), e / (e.sum() + 1e-4)
    )
    e = torch.exp(x.flatten() - 3)
    assert torch.allclose(
        activation("normalize_channels_softmax_maxval")(x).flatten(), e / (e.sum() + 1e-4)
    )


def test_default_activation_is_logistic():
    module, x = network("[convolutional]\nfilters=3\n"), image()
    conv = conv_of(module)
    assert torch.allclose(module(x), torch.sigmoid(functional.conv2d(x, conv.weight, conv.bias)))


def windows(x: Tensor, size: int, stride: int, padding: int, *, largest: bool) -> Tensor:
    """Darknet's pooling, cell by cell: padding // 2 before, only cells inside the map count."""
    before = padding // 2
    sides = [(side + padding - size) // stride + 1 for side in x.shape[2:]]
    y = torch.empty(*x.shape[:2], *sides)
    for i in range(sides[0]):
        for j in range(sides[1]):
            top, left = i * stride - before, j * stride - before
            cells = x[:, :, max(top, 0) : top + size, max(left, 0) : left + size].flatten(2)
            y[:, :, i, j] = cells.amax(2) if largest else cells.mean(2)
    return y


POOLS = {
    "size=2\nstride=2": (2, 2, 1),
    "size=2\nstride=1": (2, 1, 1),  # YOLOv3-tiny: one more row and column on the far side
    "size=3\nstride=2": (3, 2, 2),
    "size=3\nstride=2\npadding=0": (3, 2, 0),
    "size=3\nstride=2\npadding=1": (3, 2, 1),
    "size=5\nstride=1": (5, 1, 4),  # spatial pyramid pooling
    "size=13\nstride=1": (13, 1, 12),  # larger than the map
    "stride=2": (2, 2, 1),  # size is the stride where it is not given
    "size=4\nstride=3": (4, 3, 3),
    "": (1, 1, 0),
}


@pytest.mark.parametrize("options", POOLS)
@pytest.mark.parametrize("height", [7, 8])
def test_maxpool(options, height):
    x = image(3, height, 9)
    assert torch.equal(run(f"[maxpool]\n{options}\n", x), windows(x, *POOLS[options], largest=True))


@pytest.mark.parametrize("options", POOLS)
@pytest.mark.parametrize("height", [7, 8])
def test_local_avgpool(options, height):
    x = image(3, height, 9)
    y = run(f"[local_avgpool]\n{options}\n", x)
    assert torch.allclose(y, windows(x, *POOLS[options], largest=False), atol=1e-6)


def test_maxpool_of_other_strides_by_axis():
    x = image(3, 8, 8)
    y = run("[maxpool]\nsize=2\nstride=1\nstride_x=2\nstride_y=2\n", x)
    assert torch.equal(y, functional.max_pool2d(x, 2, 2))


def test_maxpool_depth_is_maxout():
    # 6 channels to 2: output g is the largest of channels g, g + 2, g + 4.
    x = image(6)
    y = run("[maxpool]\nmaxpool_depth=1\nout_channels=2\nsize=1\nstride=1\n", x)
    assert torch.equal(y[:, 0], torch.stack((x[:, 0], x[:, 2], x[:, 4])).amax(0))
    assert torch.equal(y[:, 1], torch.stack((x[:, 1], x[:, 3], x[:, 5])).amax(0))


def test_antialiasing_blurs_after_the_full_resolution():
    x = image(2)
    y = run("[maxpool]\nsize=2\nstride=2\nantialiasing=1\n", x)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = torch.outer(line, line).expand(2, 1, 3, 3)
    full = windows(x, 2, 1, 1, largest=True)
    assert torch.allclose(y, functional.conv2d(full, kernel, stride=2, padding=1, groups=2))
    module = network("[convolutional]\nfilters=2\nsize=3\nstride=2\npad=1\nantialiasing=2\n", 2)
    conv = conv_of(module)
    full = torch.sigmoid(functional.conv2d(x, conv.weight, conv.bias, padding=1))
    assert torch.allclose(module(x), functional.avg_pool2d(full, 2))
    # The convolution itself runs at full resolution: 9 * 2 * 2 * 8 * 8.
    assert module.network.layers[0].macs == 9 * 2 * 2 * 8 * 8


def test_avgpool_is_global():
    x = image(5)
    assert torch.allclose(run("[avgpool]\n", x), x.mean((2, 3)))


COPY = "[activation]\nactivation=linear\n"  # a layer whose output is its input


def test_route_concatenates_relative_and_absolute():
    body = f"{COPY}[maxpool]\nsize=3\nstride=1\n[route]\nlayers=-1, 0\n"
    x = image()
    assert torch.equal(run(body, x), torch.cat((windows(x, 3, 1, 2, largest=True), x), 1))


def test_route_of_one_layer_is_that_layer():
    x = image()
    assert torch.equal(run(f"{COPY}[maxpool]\nsize=3\n[route]\nlayers=-2\n", x), x)


def test_route_takes_a_group_of_every_source():
    # 4 channels in 2 groups: of x and of -x (through two routes of it) channels 2 and 3 each.
    x = image()
    body = f"{COPY}{COPY}[route]\nlayers=-1,-2\ngroups=2\ngroup_id=1\n"
    assert torch.equal(run(body, x), torch.cat((x[:, 2:], x[:, 2:]), 1))


def test_shortcut_adds_and_activates():
    body = f"{COPY}[maxpool]\nsize=3\nstride=1\n[shortcut]\nfrom=-2\nactivation=leaky\n"
    x = image()
    y = windows(x, 3, 1, 2, largest=True) + x
    assert torch.equal(run(body, x), functional.leaky_relu(y, 0.1))


def test_shortcut_of_several_sources():
    body = f"{COPY}{COPY}{COPY}[shortcut]\nfrom=-2,0\nactivation=linear\n"
    x = image()
    assert torch.allclose(run(body, x), 3 * x)


@pytest.mark.parametrize(("first", "last"), [(6, 4), (4, 6)])
def test_partial_residual_adds_the_common_channels(first, last):
    # The layer before decides the shape of the sum; the channels that both have are added.
    body = (
        f"[convolutional]\nfilters={first}\nsize=1\nactivation=linear\n"
        f"[convolutional]\nfilters={last}\nsize=1\nactivation=linear\n"
        "[shortcut]\nfrom=-2\nactivation=linear\n"
    )
    module, x = network(body), image()
    a = functional.conv2d(x, conv_of(module, 0).weight, conv_of(module, 0).bias)
    b = functional.conv2d(a, conv_of(module, 1).weight, conv_of(module, 1).bias)
    expected = b.clone()
    expected[:, :4] += a[:, :4]
    assert torch.allclose(module(x), expected, atol=1e-6)


def test_shortcut_from_a_finer_map_reads_every_other_place():
    # ResNet's downsampling blocks in Darknet: 8x8 source, 4x4 sum.
    body = f"{COPY}[maxpool]\nsize=2\nstride=2\n[shortcut]\nfrom=-2\nactivation=linear\n"
    x = image()
    assert torch.equal(run(body, x), functional.max_pool2d(x, 2) + x[:, :, ::2, ::2])


@pytest.mark.parametrize("kind", ["per_feature", "per_channel"])
@pytest.mark.parametrize("norm", ["none", "relu", "softmax"])
def test_weighted_shortcut(kind, norm):
    body = f"{COPY}{COPY}[shortcut]\nfrom=-2\nweights_type={kind}\nweights_normalization={norm}\n"
    module, x = network(body), image()
    factors = 1 if kind == "per_feature" else 4
    weight = torch.linspace(-1, 2, 2 * factors).view(2, factors)
    module.layers[2].weight = torch.nn.Parameter(weight)
    if norm == "relu":
        weight = weight.clamp(min=0) / (weight.clamp(min=0).sum(0) + 1e-4)
    elif norm == "softmax":
        powers = torch.exp(weight - weight.amax(0))
        weight = powers / (powers.sum(0) + 1e-4)
    expected = x * weight[0].view(1, -1, 1, 1) + x * weight[1].view(1, -1, 1, 1)
    assert torch.allclose(module(x), expected, atol=1e-6)
    assert module.network.params_file == 2 * factors


def test_weighted_partial_residual():
    body = (
        "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n"
        "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"
        "[shortcut]\nfrom=-2\nweights_type=per_channel\n"
    )
    module, x = network(body), image()
    module.layers[2].weight = torch.nn.Parameter(torch.arange(8.0).view(2, 4))
    a, b = module.layers[0](x), module.layers[1](module.layers[0](x))
    expected = b * torch.arange(4.0).view(1, 4, 1, 1) + a[:, :4] * torch.arange(4.0, 8.0).view(
        1, 4, 1, 1
    )
    assert torch.allclose(module(x), expected, atol=1e-5)


def test_upsample_repeats_scales_and_reverses():
    x = image()
    assert torch.equal(run("[upsample]\nstride=2\n", x), functional.interpolate(x, scale_factor=2))
    y = run("[upsample]\nstride=3\nscale=0.5\n", x)
    assert torch.equal(y, 0.5 * x.repeat_interleave(3, 2).repeat_interleave(3, 3))
    # A negative stride sums the squares that the opposite would repeat.
    y = run("[upsample]\nstride=-2\n", x)
    assert torch.allclose(y, x.unfold(2, 2, 2).unfold(3, 2, 2).sum((4, 5)), atol=1e-5)


def test_scale_channels_is_squeeze_and_excitation():
    body = f"{COPY}[avgpool]\n[scale_channels]\nfrom=-2\nactivation=relu\n"
    x = image()
    assert torch.allclose(run(body, x), functional.relu(x * x.mean((2, 3), keepdim=True)))


def test_scale_wh_scales_places():
    body = (
        f"{COPY}[convolutional]\nfilters=1\nsize=1\nactivation=logistic\n"
        "[scale_channels]\nfrom=-2\nscale_wh=1\n"
    )
    module, x = network(body), image()
    assert torch.allclose(module(x), x * module.layers[1](x))


def test_sam_multiplies_elements():
    body = f"{COPY}[convolutional]\nfilters=4\nsize=1\nactivation=logistic\n[sam]\nfrom=-2\n"
    module, x = network(body), image()
    assert torch.allclose(module(x), x * module.layers[1](x))


@pytest.mark.parametrize("section", ["dropout", "cost", "empty", "silence"])
def test_sections_that_do_nothing_at_test_time(section):
    x = image()
    assert torch.equal(run(f"[{section}]\nprobability=.9\n", x), x)


def test_softmax_over_everything_groups_and_places():
    x = image(4, 2, 2)
    flat = x.flatten(1)
    assert torch.allclose(run("[softmax]\n", x).flatten(1), flat.softmax(1))
    y = run("[softmax]\ngroups=2\ntemperature=2\n", x).reshape(2, 2, 8)
    assert torch.allclose(y, (flat.view(2, 2, 8) / 2).softmax(2))
    assert torch.allclose(run("[softmax]\nspatial=1\n", x), x.softmax(1))


def test_connected_flattens_channels_first():
    body = "[connected]\noutput=7\nactivation=relu\n"
    module, x = network(body), image()
    linear = module.layers[0].linear
    expected = functional.relu(x.flatten(1) @ linear.weight.T + linear.bias)
    assert torch.allclose(module(x), expected, atol=1e-5)
    assert module.network.macs == 4 * 8 * 8 * 7
    body = "[connected]\noutput=7\nbatch_normalize=1\nactivation=linear\n"
    module = network(body)
    bn = module.layers[0].bn
    y = x.flatten(1) @ module.layers[0].linear.weight.T
    y = (y - bn.running_mean) / torch.sqrt(bn.running_var + 1e-5) * bn.weight + bn.bias
    assert torch.allclose(module(x), y, atol=1e-5)


def test_a_connected_network_has_one_input_size():
    module = network("[convolutional]\nfilters=2\n[connected]\noutput=3\n")
    with pytest.raises(InputError, match=r":7: \[connected\] fixes the input size to 8x8"):
        module(image(4, 16, 16))


def test_local_has_weights_of_its_own_at_every_place():
    module, x = (
        network("[local]\nfilters=3\nsize=3\npad=1\nstride=1\nactivation=linear\n", 2, 4, 5),
        image(2, 4, 5),
    )
    weight = module.layers[0].weight.view(4, 5, 3, 2, 3, 3)
    padded = functional.pad(x, (1, 1, 1, 1))
    y = module(x)
    for i in range(4):
        for j in range(5):
            cells = padded[:, :, i : i + 3, j : j + 3]
            expected = (
                torch.einsum("nckl,fckl->nf", cells, weight[i, j]) + module.layers[0].bias[:, i, j]
            )
            assert torch.allclose(y[:, :, i, j], expected, atol=1e-5)


def reorg_by_index(x: Tensor, stride: int, *, legacy: bool) -> Tensor:
    """The loops of Darknet's reorg, index by index on the flat buffer."""
    n, c, h, w = x.shape
    out_c, out_h, out_w = c * stride**2, h // stride, w // stride
    if legacy:  # it runs over the input's own shape and so needs c / stride^2 channels
        out_c, out_h, out_w = c, h, w
    in_c = out_c // stride**2
    flat, y = x.reshape(n, -1), torch.empty(n, x[0].numel())
    for k in range(out_c):
        for j in range(out_h):
            for i in range(out_w):
                offset = k // in_c
                w2, h2 = i * stride + offset % stride, j * stride + offset // stride
                source = w2 + out_w * stride * (h2 + out_h * stride * (k % in_c))
                y[:, i + out_w * (j + out_h * k)] = flat[:, source]
    return y.reshape(n, c * stride**2, h // stride, w // stride)


@pytest.mark.parametrize(("section", "legacy"), [("reorg", True), ("reorg3d", False)])
def test_reorg(section, legacy):
    x = image(8, 4, 6)
    assert torch.equal(run(f"[{section}]\nstride=2\n", x), reorg_by_index(x, 2, legacy=legacy))


def test_reorg_reverse_undoes_reorg3d():
    x = image(3, 4, 6)
    body = "[reorg3d]\nstride=2\n[reorg3d]\nstride=2\nreverse=1\n"
    assert torch.equal(run(body, x), x)


def test_crop_takes_the_centre():
    x = image(3, 8, 10)
    y = run("[crop]\ncrop_height=4\ncrop_width=6\nnoadjust=1\n", x)
    assert torch.equal(y, x[:, :, 2:6, 2:8])
    assert torch.equal(run("[crop]\ncrop_height=8\ncrop_width=10\n", x), x * 2 - 1)


def test_batchnorm_and_activation_sections():
    module, x = network("[batchnorm]\n[activation]\nactivation=tanh\n"), image()
    assert torch.allclose(module(x), torch.tanh(module.layers[0](x)))


def test_shared_weights():
    body = (
        "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=linear\n"
        "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=relu\nshare_index=-1\n"
    )
    module, x = network(body), image()
    once = module.layers[0]
    assert torch.allclose(module(x), functional.relu(once(once(x))))
    # 3 * 3 * 4 * 4 weights and 4 values of normalisation a filter, once.
    assert module.network.params_file == 144 + 16
    assert sum(parameter.numel() for parameter in module.parameters()) == 144 + 8


def test_binary_convolutions():
    options = "filters=3\nsize=3\npad=1\nactivation=linear\n"
    x = image()
    for kind, seen in (("binary", x), ("xnor", torch.where(x > 0, 1.0, -1.0))):
        module = network(f"[convolutional]\n{kind}=1\n{options}")
        conv = conv_of(module)
        mean = conv.weight.abs().mean((1, 2, 3), keepdim=True)
        weight = torch.where(conv.weight > 0, mean, -mean)
        expected = functional.conv2d(seen, weight, conv.bias, padding=1)
        assert torch.allclose(module(x), expected, atol=1e-5)


def detector(kind: str, filters: int, options: str) -> str:
    return f"[convolutional]\nfilters={filters}\nsize=1\nactivation=linear\n[{kind}]\n{options}\n"


@pytest.mark.parametrize(
    ("kind", "filters", "options"),
    [
        ("yolo", 21, "mask=0,1,2\nclasses=2\nnum=9"),  # 3 * (4 + 1 + 2)
        ("yolo", 14, "classes=2\nnum=2"),  # without a mask all anchors: 2 * (4 + 1 + 2)
        ("Gaussian_yolo", 33, "mask=0,1,2\nclasses=2"),  # 3 * (8 + 1 + 2)
        ("region", 35, "classes=2\ncoords=4\nnum=5"),  # 5 * (4 + 1 + 2)
    ],
)
def test_detection_layers_put_out_what_they_read(kind, filters, options):
    module, x = network(detector(kind, filters, options)), image()
    output = module(x)
    assert isinstance(output, tuple)
    assert torch.equal(output[0], module.layers[0](x))
    wrong = detector(kind, filters + 1, options)
    with pytest.raises(InputError, match=f"need {filters} channels before it, not {filters + 1}"):
        network(wrong)


def test_yolov1_detection_reads_a_vector():
    # 3 * 3 places of 2 boxes (1 + 4 numbers) and 5 classes: 135 numbers.
    body = "[connected]\noutput=135\n[detection]\nside=3\nnum=2\ncoords=4\nclasses=5\n"
    assert run(body).shape == (2, 135, 1, 1)
    with pytest.raises(InputError, match="reads 135 numbers, but the layer before it has 134"):
        network(body.replace("output=135", "output=134"))


def test_several_outputs_come_in_the_order_of_the_file():
    body = (
        "[convolutional]\nfilters=7\nsize=1\nactivation=linear\n[yolo]\nmask=0\nclasses=2\n"
        "[route]\nlayers=0\n[upsample]\nstride=2\n[yolo]\nmask=1\nclasses=2\n"
    )
    outputs = network(body)(image())
    assert [tuple(output.shape) for output in outputs] == [(2, 7, 8, 8), (2, 7, 16, 16)]


def test_one_module_serves_every_size_at_which_the_network_exists():
    body = f"{COPY}[maxpool]\nsize=2\nstride=2\n[upsample]\nstride=2\n[route]\nlayers=-1,0\n"
    module = network(body)
    assert module(image(4, 12, 6)).shape == (2, 8, 12, 6)
    with pytest.raises(InputError, match="layer 0 is 7x8"):
        module(image(4, 7, 8))
    with pytest.raises(InputError, match=r"reads \(n, 4, h, w\), not \(2, 3, 8, 8\)"):
        module(image(3))
