"""Darknet networks leave torch with constant geometry: the ONNX files run elsewhere and agree."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest
import torch

from cspbench.artifacts.kinds.onnx import export as export_onnx
from cspbench.models.sources.darknet.module import DarknetModule
from cspbench.models.sources.darknet.network import parse_network
from cspbench.models.weights import materialize

NET = "[net]\nwidth=12\nheight=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\npad=1\nbatch_normalize=1\nactivation={}\n"

#: What a detector is made of; OpenCV must run it as well.
DETECTOR = (
    NET
    + CONV.format("mish")
    + "[maxpool]\nsize=2\nstride=1\n"
    + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"
    + CONV.format("leaky")
    + "[shortcut]\nfrom=-2\nactivation=linear\n"  # partial: 4 of 8 channels
    + "[maxpool]\nsize=5\nstride=1\n[maxpool]\nsize=3\nstride=2\n[upsample]\nstride=2\n"
    + "[maxpool]\nmaxpool_depth=1\nout_channels=4\n[route]\nlayers=-1,-5\n"
    + CONV.format("swish")
    + "[avgpool]\n[convolutional]\nfilters=8\nactivation=logistic\n"
    + "[scale_channels]\nfrom=-3\n"
    + CONV.format("logistic")
    + "[sam]\nfrom=-2\n[reorg]\nstride=2\n"
    + "[convolutional]\nfilters=7\nactivation=linear\n[yolo]\nmask=0\nclasses=2\n"
)

#: The rest.
OTHERS = (
    NET
    + "[crop]\ncrop_height=8\ncrop_width=8\n"
    + CONV.format("hard_mish")
    + CONV.format("relu6").replace("batch", "antialiasing=1\nbatch")
    + "[shortcut]\nfrom=-2\nweights_type=per_channel\nweights_normalization=softmax\n"
    + "[local_avgpool]\nsize=4\nstride=3\n[upsample]\nstride=-2\n[reorg3d]\nstride=1\n"
    + "[batchnorm]\n[local]\nfilters=4\nsize=1\nactivation=tanh\n[dropout]\n"
    + "[connected]\noutput=6\nactivation=relu\n[softmax]\ngroups=2\n[cost]\n"
)


def exported(text: str, path) -> tuple[np.ndarray, np.ndarray]:
    """Write the ONNX file; returns its input and torch's first output."""
    with torch.device("meta"):
        module = DarknetModule(parse_network(text, "a.cfg"))
    materialize(module).eval()
    x = torch.rand(1, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    export_onnx(module, x, path)
    with torch.inference_mode():
        y = module(x)
    return x.numpy(), (y[0] if isinstance(y, tuple) else y).numpy()


@pytest.mark.parametrize("text", [DETECTOR, OTHERS], ids=["detector", "others"])
def test_onnx_runtime_agrees(text, tmp_path):
    x, expected = exported(text, tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    (y,) = session.run(None, {name: x})
    assert y.shape == expected.shape
    assert np.abs(y - expected).max() <= 1e-4 * np.abs(expected).max()


def test_opencv_agrees(tmp_path):
    x, expected = exported(DETECTOR, tmp_path / "a.onnx")
    net = cv2.dnn.readNetFromONNX(str(tmp_path / "a.onnx"))
    net.setInput(x)
    y = net.forward()
    assert np.abs(y.reshape(expected.shape) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_torch_export_agrees():
    with torch.device("meta"):
        module = DarknetModule(parse_network(DETECTOR, "a.cfg"))
    materialize(module).eval()
    x = torch.rand(2, 3, 8, 12)
    with torch.no_grad():
        program = torch.export.export(module, (x,)).module()
        assert torch.allclose(program(x)[0], module(x)[0], atol=1e-6)
