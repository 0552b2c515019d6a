"""Every system at its smallest input: in range, and the same in OpenCV and ONNX Runtime."""

from __future__ import annotations

import gc
import warnings

import numpy as np
import pytest
import torch

from cspbench.models.build import build
from cspbench.models.spec import MODELS, NECKS

cv2 = pytest.importorskip("cv2")
onnxruntime = pytest.importorskip("onnxruntime")

#: max abs(error) / max abs(output) between engines, fp32.
TOLERANCE = 1e-4
#: Range of the standard deviation of a layer's output; the largest value stays below fp16's 65504.
LOWEST, HIGHEST, FP16 = 1e-3, 1e3, 6.5e4

CASES = [
    *MODELS.names(),
    *(f"csppeleenet-ref+{neck}" for neck in NECKS.names()),
    "peleenet[act=swish,se=true]",
    "resnext50[csp.fusion=csp]",
    "mobilenet-v2[csp.fusion=last]",
    "peleenet[csp.fusion=first,csp.split=slice]",
    "csppeleenet[fusion=last,gamma=0.25]",
    "mobilenet-v2+efm",
    "darknet-ref+prn-3l",
]
#: One of each kind, for every day; the whole zoo takes minutes and is marked `slow`.
QUICK = {
    "csppeleenet", "yolov3-tiny-prn", "csppeleenet-ref+prn", "mobilenet-v2[csp.fusion=last]",
    "csppeleenet[fusion=last,gamma=0.25]",
}  # fmt: skip
assert set(CASES) >= QUICK


def spread_of_layers(module: torch.nn.Module, x: torch.Tensor):
    """Outputs, and (name, standard deviation, largest value) of every layer that computes."""
    found: list[tuple[str, float, float]] = []

    def record(name):
        def hook(layer, inputs, output):
            found.append((name, float(output.std()), float(output.abs().max())))

        return hook

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d, torch.nn.BatchNorm2d)
    hooks = [
        layer.register_forward_hook(record(name))
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
    ]
    with torch.inference_mode():
        y = module(x)
    for hook in hooks:
        hook.remove()
    return y, found


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in CASES]
)
def test_runs_in_range_and_agrees_everywhere(name, tmp_path):
    side = MODELS.get(name.partition("+")[0].partition("[")[0]).min_input
    module = build(name)
    x = torch.from_numpy(np.random.default_rng(0).random((1, 3, side, side), np.float32))
    y, layers = spread_of_layers(module, x)
    for layer, deviation, largest in layers:
        # A map of one value a channel (after global pooling) may vary little.
        assert np.isfinite(largest), layer
        assert LOWEST < deviation < HIGHEST, (layer, deviation)
        assert largest < FP16, layer
    expected = [part.numpy() for part in (y if isinstance(y, tuple) else (y,))]

    path = tmp_path / "model.onnx"
    names = [f"output{i}" for i in range(len(expected))]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), path, opset_version=17, dynamo=False, output_names=names)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x.numpy()}
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(x.numpy())
    for engine, outputs in (
        ("ONNX Runtime", session.run(names, feed)),
        ("OpenCV", net.forward(names)),
    ):
        for want, got in zip(expected, outputs, strict=True):
            error = np.abs(got.reshape(want.shape) - want).max() / np.abs(want).max()
            assert error < TOLERANCE, (engine, error)
    del module, session, net
    gc.collect()
