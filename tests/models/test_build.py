"""From ids to networks: options, necks, features, shapes, what is light."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest
import torch
from torch import nn

from cspbench.core.case import ModelId
from cspbench.errors import InputError
from cspbench.models.build import build, default_input, spec_of
from cspbench.models.detector import attach
from cspbench.models.spec import MODELS, NECKS

#: The systems and necks of the zoo.
SYSTEMS = [
    *("darknet53", "cspdarknet53", "cspdarknet53-elastic"),
    *("resnet10", "cspresnet10"),
    *("resnet50", "cspresnet50", "cspresnet50-elastic"),
    *("resnext50", "cspresnext50", "cspresnext50-elastic"),
    *("densenet201", "densenet201-elastic", "cspdensenet201-elastic"),
    *("peleenet", "speleenet", "peleenext", "csppeleenet"),
    *("darknet-ref", "cspdensenet-ref", "cspdensenetb-ref"),
    *("csppeleenet-ref", "csppeleenetb-ref"),
    *("efficientnet-b0", "mobilenet-v2", "cspmobilenet-v2"),
    *("res2netlite72", "vovnet39", "snet49", "snet146"),
    *("yolov3-tiny", "yolov3-tiny-prn"),
    *("thundernet-snet49", "thundernet-snet146"),
    *("centernet-resnet18", "pelee-ssd"),
]
NECK_NAMES = [
    *("yolov3", "fpn", "panet", "panet-spp", "prn", "prn-3l"),
    *("gfm", "efm", "efm-spp", "efm-sam", "cem-sam"),
]


def test_every_system_and_neck_is_there():
    assert set(SYSTEMS) <= set(MODELS.names())
    assert set(NECK_NAMES) <= set(NECKS.names())


def test_listing_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from cspbench.models.spec import MODELS, NECKS, SOURCES\n"
        "names = MODELS.names() + NECKS.names() + SOURCES.names()\n"
        "from cspbench import literature; literature.everything()\n"
        "heavy = {'torch', 'cv2', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert names and not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", SYSTEMS)
def test_output_shapes_at_the_smallest_and_the_next_input(name):
    spec = MODELS.get(name)
    module = build(name, weights=False)
    sides = [spec.min_input, spec.min_input + spec.stride]
    # Bilinear upsampling takes long on the meta device, and these have hundreds.
    for side in sides[:1] if spec.family == "densenet" else sides:
        output = module(torch.empty(2, 3, side, side, device="meta"))
        if spec.task == "classification":
            assert output.shape == (2, 1000)
        else:
            assert isinstance(output, tuple)
            assert all(part.shape[0] == 2 and part.ndim == 4 for part in output)


@pytest.mark.parametrize("name", [spec.name for spec in MODELS if spec.necks])
def test_features_have_the_channels_and_strides_that_they_announce(name):
    module = build(name, weights=False)
    found = module.features(torch.empty(1, 3, 128, 256, device="meta"))
    for feature, channels, stride in zip(found, module.feature_channels, (8, 16, 32), strict=True):
        assert feature.shape == (1, channels, 128 // stride, 256 // stride)


class Features(nn.Module):
    """A network of the user's own that can carry a neck."""

    def __init__(self, channels):
        super().__init__()
        self.feature_channels = list(channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(3, c, stride, stride) for c, stride in zip(channels, (8, 16, 32), strict=True)
        )

    def features(self, x):
        return [conv(x) for conv in self.convs]


#: Output strides of each neck, in its order.
STRIDES = {
    "yolov3": (32, 16),
    "fpn": (32, 16),
    "prn": (32, 16),
    "prn-3l": (32, 16, 8),
    "panet": (8, 16, 32),
    "panet-spp": (8, 16, 32),
    "gfm": (8, 16, 32),
    "efm": (8, 16, 32),
    "efm-spp": (8, 16, 32),
    "efm-sam": (8, 16, 32),
    "cem-sam": (16,),
}


@functools.cache
def widths_of_all_backbones():
    found = {tuple(build(s.name, weights=False).feature_channels) for s in MODELS if s.necks}
    # A neck depends on these numbers only: every fourth, from the narrowest to the widest.
    return [*sorted(found)[::4], max(found)]


@pytest.mark.parametrize("name", NECK_NAMES)
def test_every_neck_fits_every_backbone(name):
    neck = NECKS.get(name)
    # Odd and narrow widths too, as a user's network may have them.
    for channels in [*widths_of_all_backbones(), (24, 48, 97), (31, 130, 515)]:
        with torch.device("meta"):
            detector = neck.build(Features(channels), {"act": "leaky"})
        outputs = detector(torch.empty(1, 3, 64, 128, device="meta"))
        assert [tuple(o.shape) for o in outputs] == [
            (1, 255, 64 // stride, 128 // stride) for stride in STRIDES[name]
        ]


def test_a_detector_has_no_classifier():
    module = build("efficientnet-b0+prn", weights=False)
    assert not [n for n, _ in module.named_parameters() if "classifier" in n or "tail" in n]


def test_a_network_without_features_takes_no_neck():
    with pytest.raises(InputError, match="has no features"):
        attach(nn.Conv2d(3, 3, 1), lambda channels: nn.Identity())
    with pytest.raises(InputError, match="'yolov3-tiny' offers no features for a neck"):
        build("yolov3-tiny+prn", weights=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pelenet", "unknown model 'pelenet' (did you mean 'peleenet'?)"),
        ("peleenet+pm", "unknown neck 'pm'"),
        ("csppeleenet[gama=0.5]", "did you mean 'gamma'"),
        ("csppeleenet[gamma=1]", "strictly between 0 and 1"),
        ("csppeleenet[gamma=0.3]", "multiples of 1/128"),
        ("csppeleenet[fusion=middle]", "fusion must be one of csp, first, last"),
        ("peleenet[csp.fusion=csp,csp.gamma=0.3]", "multiples of 1/32 from 0.03125 to 0.96875"),
        ("peleenet[act=gelu]", "act must be one of"),
        ("peleenet+prn[act=gelu]", "act must be one of"),
        ("nothing:here", "unknown source 'nothing'"),
    ],
)
def test_mistakes_are_one_sentence(name, message):
    with pytest.raises(InputError) as error:
        build(name, weights=False)
    assert message in str(error.value)
    assert len(error.value.problems) == 1


def test_options_change_what_they_say():
    plain, swish = build("peleenet", weights=False), build("peleenet[act=swish]", weights=False)
    assert not [m for m in plain.modules() if isinstance(m, nn.SiLU)]
    assert not [m for m in swish.modules() if isinstance(m, nn.LeakyReLU)]
    # 2 x 32 x 16 weights in each of 21 layers.
    extra = build("peleenet[se=true]", weights=False)
    weights = [
        sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))
        for net in (plain, extra)
    ]
    assert weights[1] - weights[0] == 21 * 2 * 32 * 16


def test_default_inputs():
    assert default_input("resnet50") == (256, 256)
    assert default_input("peleenet+prn") == (416, 416)
    assert default_input("peleenet@192x256") == (192, 256)
    assert default_input(ModelId.parse("yolov3-tiny")) == (416, 416)
    assert spec_of("csppeleenet[gamma=0.25]+prn").name == "csppeleenet"


def test_built_networks_are_real_and_in_evaluation_mode():
    module = build("snet49")
    assert not module.training
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    assert build("snet49", weights=False).stem[0].conv.weight.device.type == "meta"


def test_no_module_hides_a_method_of_torch():
    for name in [
        *(spec.name for spec in MODELS if "elastic" not in spec.name),
        *(f"darknet-ref+{neck}" for neck in NECK_NAMES),
    ]:
        for module in build(name, weights=False).modules():
            assert callable(module.half)
            assert callable(module.double)
            assert callable(module.train)


def test_every_spec_is_complete():
    for spec in MODELS:
        assert spec.summary
        assert spec.source
        assert spec.min_input % spec.stride == 0
        assert spec.input % spec.stride == 0
        assert spec.staged == any(axis.name == "csp.fusion" for axis in spec.all_axes)
    for neck in NECKS:
        assert neck.summary
        assert neck.source
