"""CSP as a plug-in: stages of any network are found, split, and rebuilt at the width of a part."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn

from cspbench.analysis.api import analyze_id
from cspbench.errors import InputError, Unsupported
from cspbench.models import plug_in
from cspbench.models.build import build
from cspbench.models.code import allowing_code
from cspbench.models.csp import CspStage
from cspbench.models.identity import canonical
from cspbench.models.inputs import IMAGE
from cspbench.models.sources._library_facts import problem
from cspbench.models.stage_search import find_stages
from cspbench.models.weights import materialize
from tests.models.csp_net import NET

INPUTS = (IMAGE.at(1, (32, 32)),)


class Bottleneck(nn.Module):
    """Residual block of 1x1, 3x3 and 1x1 convolutions, as in ResNet."""

    def __init__(self, channels, out, stride=1, groups=1):
        super().__init__()
        middle = out // 4
        self.conv1 = nn.Conv2d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.act = nn.SiLU(inplace=True)
        same = stride == 1 and channels == out
        self.shortcut = None if same else nn.Conv2d(channels, out, 1, stride)

    def forward(self, x):
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.act(y + (x if self.shortcut is None else self.shortcut(x)))


class Net(nn.Module):
    """A stem, two stages, a classifier."""

    def __init__(self, first, second):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = first
        self.layer2 = second
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.LazyLinear(10)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(self.pool(x).flatten(1))


def net(first, second, size=32):
    whole = Net(first, second).eval()
    with torch.no_grad():
        whole(torch.rand(1, 3, size, size))
    return whole


def resnet(groups=1):
    return net(
        nn.Sequential(*[Bottleneck(16, 16) for _ in range(3)]),
        nn.Sequential(Bottleneck(16, 64, 2), Bottleneck(64, 64, groups=groups),
                      Bottleneck(64, 64, groups=groups)),
    )  # fmt: skip


def conv_shapes(module):
    return [tuple(m.weight.shape[:2]) for m in module.modules() if isinstance(m, nn.Conv2d)]


def of_blocks(block, count=3, channels=16):
    """A network whose first stage consists of such blocks, and whose second cannot be split."""
    return net(nn.Sequential(*[block(channels) for _ in range(count)]), nn.Conv2d(channels, 24, 1))


def test_a_stage_by_hand():
    split = plug_in.apply(resnet(), INPUTS, gamma=0.25, fusion="csp")
    # The blocks of stage 1 keep their width, so all three go on 12 of 16 channels; a middle of 4
    # becomes 3. Block 0 of stage 2 widens and stays whole; the others go on 48 of 64.
    block = [(3, 12), (3, 3), (12, 3)]
    assert conv_shapes(split.layer1) == [(4, 16), (12, 16), *block * 3, (12, 12), (16, 16)]
    wide = [(12, 48), (12, 12), (48, 12)]
    assert conv_shapes(split.layer2) == [
        *[(16, 16), (16, 16), (64, 16), (64, 16)],
        *[(16, 64), (48, 64), *wide * 2, (48, 48), (64, 64)],
    ]
    with torch.no_grad():
        assert materialize(split).eval()(torch.rand(2, 3, 32, 32)).shape == (2, 10)
    assert plug_in.notes_of(split) == (
        "layer1.0 to 2: 3 blocks on 12 of 16 channels at 16x16, 4 bypass",
        "layer2.0 to 2: 0 stays whole, 2 blocks on 48 of 64 channels at 8x8, 16 bypass",
    )


@pytest.mark.parametrize(("fusion", "t1", "t2"), [("csp", True, True), ("first", False, True),
                                                  ("last", True, False)])  # fmt: skip
@pytest.mark.parametrize("split", ["conv", "slice"])
def test_fusions_and_splits(fusion, t1, t2, split):
    stage = plug_in.apply(resnet(), INPUTS, gamma=0.5, fusion=fusion, split=split).layer1[0]
    assert isinstance(stage, CspStage)
    assert (stage.t1 is not None, stage.t2 is not None) == (t1, t2)
    assert bool(list(stage.part1.parameters())) == (split == "conv")


def test_transitions_have_the_activation_of_the_blocks():
    stage = plug_in.apply(resnet(), INPUTS).layer1[0]
    assert isinstance(stage.t1[-1], nn.SiLU)


def test_rebuilt_blocks_have_the_networks_weights():
    plain = resnet()
    weight = plain.layer1[1].conv2.weight.detach().clone()
    split = plug_in.apply(plain, INPUTS, gamma=0.5)
    rebuilt = split.layer1[0].blocks[1].conv2.weight
    assert torch.equal(rebuilt, weight[:2, :2])


def test_looking_for_stages_leaves_the_network_as_it_is():
    plain = resnet()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = plain(x)
        find_stages(plain, INPUTS)
        assert torch.equal(plain(x), before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in plain.modules())


def test_groups_keep_their_width():
    split = plug_in.apply(resnet(groups=4), INPUTS, gamma=0.5)
    middle = split.layer2[1].blocks[0].conv2
    assert (middle.in_channels, middle.groups) == (8, 2)  # 4 channels a group, as before


def test_groups_that_do_not_fit_are_told():
    # A middle of 16 in groups of 8 becomes 12, which is no multiple of 8.
    split = plug_in.apply(resnet(groups=2), INPUTS, gamma=0.25)
    assert isinstance(split.layer1[0], CspStage)
    [reason] = [note for note in plug_in.notes_of(split) if note.startswith("layer2")]
    assert "stays as it is" in reason
    assert "groups of 8 channels do not go into 12" in reason


class Depthwise(nn.Module):
    """Inverted residual with squeeze and excitation, as in EfficientNet."""

    def __init__(self, channels):
        super().__init__()
        wide = 6 * channels
        self.conv = nn.Sequential(
            nn.Conv2d(channels, wide, 1), nn.BatchNorm2d(wide), nn.ReLU(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide), nn.BatchNorm2d(wide), nn.ReLU(),
        )  # fmt: skip
        self.squeeze = nn.Conv2d(wide, channels // 4, 1)
        self.excite = nn.Conv2d(channels // 4, wide, 1)
        self.project = nn.Conv2d(wide, channels, 1)

    def forward(self, x):
        y = self.conv(x)
        y = y * self.excite(self.squeeze(y.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return x + self.project(y)


class ChannelsLast(nn.Module):
    """ConvNeXt's block: depthwise 7x7, linear layers over the last axis, a scale of its own."""

    def __init__(self, channels):
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.gamma = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x):
        y = self.gamma * self.mlp(self.norm(self.dw(x).permute(0, 2, 3, 1)))
        return x + y.permute(0, 3, 1, 2)


class Pieces(nn.Module):
    """Res2Net's block: pieces of a width that is a number of the module."""

    def __init__(self, channels):
        super().__init__()
        self.width = channels // 2
        self.conv = nn.Conv2d(channels, channels, 1)
        self.parts = nn.ModuleList([nn.Conv2d(self.width, self.width, 3, padding=1)])

    def forward(self, x):
        first, second = torch.split(self.conv(x), self.width, 1)
        return x + torch.cat([first, self.parts[0](second)], 1)


class Grn(nn.Module):
    """A parameter with an axis for each channel, group normalisation, one channel of attention."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(4, channels)
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.act = nn.PReLU(channels)
        self.mask = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x):
        y = self.act(self.norm(self.conv(x)) * self.scale)
        seen = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return x + y * self.mask(seen).sigmoid()


@pytest.mark.parametrize("block", [Depthwise, ChannelsLast, Pieces, Grn])
@pytest.mark.parametrize("gamma", [0.25, 0.5, 0.75])
def test_blocks_of_many_kinds(block, gamma):
    plain = of_blocks(block)
    whole = sum(p.numel() for p in plain.layer1.parameters())
    split = plug_in.apply(plain, INPUTS, gamma=gamma)
    stage = split.layer1[0]
    assert isinstance(stage, CspStage)
    x = torch.rand(2, round(16 * (1 - gamma)), 8, 8)
    with torch.no_grad():
        assert stage.blocks.eval()(x).shape == x.shape
    rebuilt = sum(p.numel() for p in stage.blocks.parameters())
    assert rebuilt < (1 - gamma) * whole * 1.15  # linear in the width at most, and squares of it


class Listed(nn.Module):
    def __init__(self, collect):
        super().__init__()
        self.blocks = nn.ModuleList([Depthwise(16) for _ in range(3)])
        self.collect = collect
        self.last = nn.Conv2d(48 if collect else 16, 16, 1)

    def forward(self, x):
        seen = []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        return self.last(torch.cat(seen, 1) if self.collect else x)


def test_a_list_of_blocks_is_a_stage():
    split = plug_in.apply(net(Listed(False), nn.Conv2d(16, 24, 1)), INPUTS)
    assert isinstance(split.layer1.blocks[0], CspStage)
    assert len(split.layer1.blocks) == 3  # however it is walked


def test_blocks_whose_results_are_collected_are_none():
    with pytest.raises(InputError, match=r"layer1\.blocks stays as it is: .* also read outside"):
        plug_in.apply(net(Listed(True), nn.Conv2d(16, 24, 1)), INPUTS)


class Staged(nn.Module):
    def __init__(self, channels, out):
        super().__init__()
        self.down = nn.Conv2d(channels, out, 2, 2)
        self.blocks = nn.Sequential(Bottleneck(out, out), Bottleneck(out, out))

    def forward(self, x):
        return self.blocks(self.down(x))


def test_a_sequence_of_stages_is_not_called_one_that_stays():
    split = plug_in.apply(net(nn.Sequential(Staged(16, 32), Staged(32, 64)), Bottleneck(64, 64)),
                          INPUTS)  # fmt: skip
    assert plug_in.notes_of(split) == (
        "layer1.0.blocks.0 to 1: 2 blocks on 16 of 32 channels at 8x8, 16 bypass",
        "layer1.1.blocks.0 to 1: 2 blocks on 32 of 64 channels at 4x4, 32 bypass",
    )


class Called(nn.Module):
    """Blocks that are attributes, called one after another, as in timm's RegNet."""

    def __init__(self):
        super().__init__()
        self.b1, self.b2, self.b3 = Bottleneck(16, 32, 2), Bottleneck(32, 32), Bottleneck(32, 32)

    def forward(self, x):
        for block in self.children():
            x = block(x)
        return x


def test_blocks_that_a_module_calls_one_after_another_are_a_stage():
    split = plug_in.apply(net(Called(), Bottleneck(32, 48)), INPUTS)
    assert plug_in.notes_of(split) == (
        "layer1.b1 to b3: b1 stays whole, 2 blocks on 16 of 32 channels at 8x8, 16 bypass",
    )


def vgg():
    def conv(channels, out):
        return [nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]

    return nn.Sequential(
        *conv(3, 16), *conv(16, 16), nn.MaxPool2d(2),
        *conv(16, 32), *conv(32, 32), *conv(32, 32), nn.MaxPool2d(2),
    ).eval()  # fmt: skip


def test_layers_of_a_plain_sequence_are_blocks():
    stages, _ = find_stages(vgg(), INPUTS)
    assert [(one.entry, one.parts) for one in stages] == [
        (("0", "1", "2"), (("3", "4", "5"),)),
        (("7", "8", "9"), (("10", "11", "12"), ("13", "14", "15"))),
    ]


def test_what_lies_inside_of_blocks_is_no_stage():
    # A stem of two layers, a stage of blocks whose insides are sequences of equal width, and one
    # such block that is no stage, because it stands alone.
    class Alone(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(
                nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1)),
                nn.Sequential(*[Depthwise(16) for _ in range(3)]),
                nn.Sequential(nn.MaxPool2d(2), Depthwise(16)),
            )

        def forward(self, x):
            return self.net(x)

    stages, _ = find_stages(Alone().eval(), INPUTS)
    assert [one.path for one in stages] == ["net.1"]


def test_a_share_that_does_not_fit_one_stage_leaves_it():
    split = plug_in.apply(resnet(), INPUTS, gamma=1 / 32)
    assert not any(isinstance(m, CspStage) for m in split.layer1)
    assert isinstance(split.layer2[1], CspStage)
    assert plug_in.notes_of(split)[1].startswith(
        "layer1.0 to 2 stays as it is: gamma 0.03125 of 16 channels is 0.5; legal gamma: 0.0625"
    )


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.stem = nn.Conv2d(3, 16, 4, 4)
        self.blocks = nn.Sequential(layer, nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))

    def forward(self, x):
        return self.blocks(self.stem(x).flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Tokens, "blocks stays as it is: it works on 1x64x16, not on maps"),
        (lambda: nn.Conv2d(3, 8, 1), "it has no sequence of at least two blocks"),
        (lambda: net(nn.Sequential(Bottleneck(16, 32), Bottleneck(32, 64)), nn.Identity()),
         "the width or the resolution changes at each block"),
    ],
)  # fmt: skip
def test_networks_without_stages_say_why(network, reason):
    with pytest.raises(InputError, match=f"no stage of .* can be split: .*{reason}"):
        plug_in.apply(network().eval(), INPUTS)


def test_a_forward_pass_that_cannot_be_followed_is_told():
    class Asks(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(InputError, match="cannot be followed on shapes"):
        plug_in.apply(Asks(), INPUTS)


@pytest.fixture
def net_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def test_ones_own_module_by_its_id(net_file):
    plain = "net.py:network@64"
    name = "net.py:network[csp.gamma=0.5]@64"
    assert str(canonical(name)) == "python:net.py:network[csp.fusion=csp]@64"
    with allowing_code():
        split, whole = analyze_id(name), analyze_id(plain)
        # Four blocks of two 3x3 convolutions on 16 instead of 32 channels at 32x32, and four 1x1
        # convolutions (two of the split, t1, t2).
        blocks = 8 * 9 * (32 * 32 - 16 * 16) * 32 * 32
        pointwise = (2 * 32 * 16 + 16 * 16 + 32 * 32) * 32 * 32
        assert whole.macs - split.macs == blocks - pointwise
        assert split.notes == ("1.0 to 3: 4 blocks on 16 of 32 channels at 32x32, 16 bypass",)
        out = build(name)(torch.rand(1, 3, 64, 64))
    assert out.shape == (1, 10)
    assert torch.isfinite(out).all()


def test_a_network_without_stages_is_unsupported(net_file):
    with (
        allowing_code(),
        pytest.raises(Unsupported, match=r"no stage of Sequential can be split"),
    ):
        build("net.py:flat[csp.gamma=0.5]")


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2", "a.cfg"])
def test_a_fixed_graph_is_refused_with_the_reason(name, net_file):
    from cspbench.models.build import cannot_split, checked_options
    from cspbench.models.typed import parse_model

    ref = parse_model(f"{name}[csp.gamma=0.5]").model
    with pytest.raises(InputError, match="is a fixed graph whose blocks cannot be rebuilt"):
        checked_options("model", ref, ())
    assert ref.name in cannot_split(ref.name)


@pytest.mark.parametrize(
    ("name", "split"),
    [("resnet18", 4), ("regnetx_002", 1), ("efficientnet_b0", 5), ("convnext_atto", 4),
     ("mobilenetv3_small_100", 4), ("repvgg_a0", 3)],
)  # fmt: skip
def test_networks_of_timm(name, split):
    """A sample; ``benchmarks/csp_zoo.py`` tries fifty."""
    reason = problem("timm")
    if reason:
        pytest.skip(reason)
    module = build(f"timm:{name}[csp.gamma=0.5]@64")
    stages = [note for note in plug_in.notes_of(module) if "stays as it is" not in note]
    assert len(stages) == split
    with torch.inference_mode():
        out = module(torch.rand(1, 3, 64, 64))
    assert out.shape == (1, 1000)
    assert torch.isfinite(out).all()
