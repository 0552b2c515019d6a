"""The cross-stage-partial transform, on the zoo and on a network of the user's own."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cspbench.errors import InputError
from cspbench.models import csp
from cspbench.models.build import build
from cspbench.models.gamma import legal, part_widths, problem
from cspbench.models.spec import MODELS, SOURCES, ModelSpec, SourceSpec

STAGED = [spec.name for spec in MODELS if spec.staged]


class MyStage(nn.Module):
    """What the documentation asks of a stage, and nothing else."""

    def __init__(self, channels, out_channels):
        super().__init__()
        self.base_channels = channels
        self.out_channels = out_channels
        self.blocks = self.make_blocks(channels)
        self.transition = nn.Conv2d(channels, out_channels, 1)

    def make_blocks(self, channels):
        blocks = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())
        blocks.out_channels = channels
        return blocks

    def forward(self, x):
        return self.transition(self.blocks(x))


class MyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 1)
        self.stages = nn.Sequential(MyStage(8, 16), MyStage(16, 24))

    def forward(self, x):
        return self.stages(self.stem(x))


def conv_shapes(module):
    return [tuple(m.weight.shape[:2]) for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_a_users_network_by_hand():
    net = csp.apply(MyNet(), gamma=0.25, fusion="csp")
    # Stage 1, base 8: 2 bypass, 6 are computed on; t1 6 -> 6, concatenation 6 + 2 = 8, t2 -> 16.
    # Stage 2, base 16: 4 and 12; t1 12 -> 12, concatenation 16, t2 -> 24. (out, in):
    assert conv_shapes(net) == [
        (8, 3),
        *[(2, 8), (6, 8), (6, 6), (6, 6), (16, 8)],
        *[(4, 16), (12, 16), (12, 12), (12, 12), (24, 16)],
    ]
    assert net(torch.rand(1, 3, 8, 8)).shape == (1, 24, 8, 8)


def test_fusion_first_has_no_t1_and_fusion_last_no_t2():
    first = csp.apply(MyNet(), gamma=0.5, fusion="first").stages[0]
    assert first.t1 is None
    assert tuple(first.t2.conv.weight.shape[:2]) == (16, 8)
    last = csp.apply(MyNet(), gamma=0.5, fusion="last").stages[0]
    assert last.t2 is None
    # 16 come out: 4 of them bypass, so t1 makes 12 of 4.
    assert tuple(last.t1.conv.weight.shape[:2]) == (12, 4)


def test_slices_cover_the_base_once():
    stage = csp.apply(MyNet(), gamma=0.25, fusion="csp", split="slice").stages[1]
    base = torch.arange(16.0).reshape(1, 16, 1, 1)
    assert stage.part1(base).flatten().tolist() == [0.0, 1.0, 2.0, 3.0]
    assert torch.equal(torch.cat([stage.part1(base), stage.part2(base)], 1), base)


def test_what_cannot_be_split_is_said():
    with pytest.raises(InputError, match="has no 'stages'"):
        csp.apply(nn.Conv2d(3, 3, 1))
    net = MyNet()
    net.stages = nn.Sequential(nn.Conv2d(8, 8, 1))
    with pytest.raises(InputError, match="needs base_channels, out_channels and make_blocks"):
        csp.apply(net)
    with pytest.raises(InputError, match=r"legal gamma: 0\.125, 0\.25, 0\.375, 0\.5"):
        csp.apply(MyNet(), gamma=0.3)
    with pytest.raises(InputError, match="fusion must be one of"):
        csp.apply(MyNet(), fusion="none")
    with pytest.raises(InputError, match="split must be one of"):
        csp.apply(MyNet(), split="half")


@pytest.mark.parametrize("fusion", csp.FUSIONS)
@pytest.mark.parametrize("name", STAGED)
def test_every_staged_network_keeps_its_features(name, fusion):
    plain = build(name, weights=False)
    made = build(f"{name}[csp.fusion={fusion}]", weights=False)
    assert made.feature_channels == plain.feature_channels
    side = MODELS.get(name).min_input
    assert made(torch.empty(1, 3, side, side, device="meta")).shape == (1, 1000)
    split = [stage for stage in made.stages if isinstance(stage, csp.CspStage)]
    assert split


@pytest.mark.parametrize("name", STAGED)
def test_light_check_knows_the_stages_of_the_network(name):
    module = build(name, weights=False)
    bases = [module.stages[i].base_channels for i in csp.split_stages(module)]
    multiples = {module.stages[i].width_multiple for i in csp.split_stages(module)}
    check = MODELS.get(name).check
    for gamma in (Fraction(1, 64), Fraction(3, 16), Fraction(1, 4), Fraction(1, 3), Fraction(1, 2)):
        options = {"csp.fusion": "csp", "csp.gamma": float(gamma), "csp.split": "conv"}
        assert check(options) == problem(float(gamma), bases, max(multiples))
    assert check({"csp.fusion": "none", "csp.gamma": 1 / 3, "csp.split": "conv"}) is None


@given(
    st.lists(st.integers(1, 64).map(lambda n: 2 * n), min_size=1, max_size=4),
    st.sampled_from([1, 2, 8, 32]),
)
def test_legal_gammas_are_those_without_a_problem(bases, multiple):
    found = legal(bases, multiple)
    for gamma in found:
        assert problem(float(gamma), bases, multiple) is None
        for base in bases:
            bypass, computed = part_widths(base, float(gamma), multiple)
            assert bypass + computed == base
            assert bypass == gamma * base
            assert computed % multiple == 0
    smallest = min(bases)
    for k in range(1, smallest):
        gamma = Fraction(k, smallest)
        assert (gamma in found) == (problem(float(gamma), bases, multiple) is None)


def test_messages_name_the_legal_values():
    # 8, 12: common divisor 4, so quarters.
    assert problem(0.3, [8, 12]) == "gamma 0.3 of 8 channels is 2.4; legal gamma: 0.25, 0.5, 0.75"
    assert problem(0.5, [3]) == "gamma 0.5 of 3 channels is 1.5; legal gamma: 0.333333, 0.666667"
    assert problem(0.5, [1, 2]).endswith("legal gamma: none")
    # Groups of 32: a computed part of 48 of 64 channels is not possible.
    assert problem(0.25, [64], 32).startswith("48 computed channels are not a multiple of 32")


def test_a_source_can_be_split_and_carry_a_neck(monkeypatch):
    # Anybody's model: a source whose spec says that it has stages and features.
    class Featured(MyNet):
        feature_channels = (8, 16, 24)

        def features(self, x):
            x = self.stem(x)
            found = []
            for size, stage in zip((8, 4, 2), [nn.Identity(), *self.stages], strict=True):
                x = stage(x)
                found.append(nn.functional.adaptive_avg_pool2d(x, size))
            return found

    def spec(target):
        own = {"name": f"mine:{target}", "summary": "mine", "source": target, "build": Featured}
        return ModelSpec(**own, confidence="confirmed", staged=True, necks=True)

    source = SourceSpec("mine", "mine", spec, lambda target, options: Featured())
    monkeypatch.setitem(SOURCES._entries, "mine", source)
    net = build("mine:net[csp.fusion=csp,csp.gamma=0.25]+prn")
    assert isinstance(net.backbone.stages[0], csp.CspStage)
    # What the source made keeps its values; what was added is seeded and real.
    assert {p.device.type for p in net.parameters()} == {"cpu"}
    assert [tuple(o.shape) for o in net(torch.rand(1, 3, 16, 16))] == [
        (1, 255, 2, 2),
        (1, 255, 4, 4),
    ]
    with pytest.raises(InputError, match="legal gamma"):
        build("mine:net[csp.fusion=csp,csp.gamma=0.3]")
