"""Layers that are answered without their own forward: only where that changes nothing."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.overrides import TorchFunctionMode

from cspbench.analysis.api import analyze
from cspbench.analysis.leaves import LEAVES
from cspbench.errors import InputError

IMAGE = torch.rand(2, 4, 6, 6)
ROWS = torch.rand(2, 4)
LAYERS = {
    nn.Conv2d: lambda: (nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), IMAGE),
    nn.BatchNorm2d: lambda: (nn.BatchNorm2d(4), IMAGE),
    nn.Linear: lambda: (nn.Linear(4, 3), ROWS),
    nn.LayerNorm: lambda: (nn.LayerNorm(4), ROWS),
    nn.ReLU: lambda: (nn.ReLU(inplace=True), IMAGE.clone()),
    nn.SiLU: lambda: (nn.SiLU(), IMAGE),
}


def facts(layer, x):
    """What an analysis of the layer behind another operator says, but for the names."""
    layers = analyze(nn.Sequential(nn.Sigmoid(), layer), x, cache=False).layers
    return [{**one.as_dict(), "name": "", "stage": ""} for one in layers]


@pytest.mark.parametrize("kind", LEAVES)
def test_its_own_forward_tells_the_same(kind):
    layer, x = LAYERS[kind]()
    at_once = facts(layer, x)
    layer.forward = layer.forward  # an attribute of its own: it is asked
    assert facts(layer, x) == at_once
    assert len(at_once) == 2


def test_a_layer_of_a_subclass_is_asked():
    class Padded(nn.Conv2d):
        def forward(self, x):
            return super().forward(nn.functional.pad(x, (1, 1, 1, 1)))

    assert [one["op"] for one in facts(Padded(4, 8, 3), IMAGE)] == ["sigmoid", "pad", "conv2d"]


def test_hooks_run():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda module, args, output: output * 2)
    assert [one["op"] for one in facts(layer, IMAGE)] == ["sigmoid", "relu", "mul"]
    layer = nn.ReLU()
    layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    assert [one["op"] for one in facts(layer, IMAGE)] == ["sigmoid", "add", "relu"]


def test_a_hook_of_all_modules_runs():
    seen = []
    hook = nn.modules.module.register_module_forward_hook(
        lambda module, args, output: seen.append(type(module))
    )
    try:
        facts(nn.ReLU(), IMAGE)
    finally:
        hook.remove()
    assert nn.ReLU in seen


def test_weights_that_lie_elsewhere_are_found():
    layer = nn.Linear(4, 3)
    parametrize.register_parametrization(layer, "weight", nn.Tanh())
    assert [one["op"] for one in facts(layer, ROWS)] == ["sigmoid", "tanh", "linear"]
    layer = nn.Linear(4, 3)
    prune.l1_unstructured(layer, "weight", amount=0.5)  # weight = weight_orig * weight_mask
    assert [one["op"] for one in facts(layer, ROWS)] == ["sigmoid", "mul", "linear"]
    layer = nn.Linear(4, 3)
    weight = layer.weight.detach() * 2
    del layer.weight
    layer.weight = weight  # no parameter any more
    assert [one["op"] for one in facts(layer, ROWS)] == ["sigmoid", "linear"]


def test_a_mirrored_border_is_a_layer_of_its_own():
    layer = nn.Conv2d(4, 8, 3, padding=1, padding_mode="reflect")
    assert [one["op"] for one in facts(layer, IMAGE)] == ["sigmoid", "pad", "conv2d"]


def test_an_image_without_batch_is_refused_as_torch_does():
    with pytest.raises(InputError, match="expected 4D input"):
        facts(nn.BatchNorm2d(4), IMAGE[0])


def test_a_mode_of_the_user_sees_every_call():
    seen = []

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(4, 8, 3), nn.ReLU()

        def forward(self, x):
            with Watching():
                return self.act(self.conv(x))

    layers = analyze(Watched(), IMAGE, cache=False).layers
    assert [layer.op for layer in layers] == ["conv2d", "relu"]
    assert [name for name in seen if name in ("conv2d", "relu")] == ["conv2d", "relu"]


def test_what_is_wrong_with_a_leaf_names_the_line_of_the_model():
    class Wrong(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(5, 8, 3)

        def forward(self, x):
            return self.conv(x)

    with pytest.raises(InputError, match=r"test_leaves\.py:\d+ \(return self\.conv\(x\)\)"):
        analyze(Wrong(), IMAGE, cache=False)
