"""What would make a backend look faster than it is: folded inputs, stored answers, denormals.

On a network whose every path depends on the input, for each backend that this machine has.
"""

import importlib.util
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.tensors import POOL_SIZE, as_list, input_pool
from cspbench.backends.precisions import PRECISIONS
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case, ModelId
from cspbench.jobs import load as load_job
from cspbench.jobs.burst import BurstRequest, burst
from cspbench.jobs.load import LoadRequest
from cspbench.measure.agreement import relative_error
from tests.backends.requirements import skip_without_engine

SETTINGS = [
    ("opencv-cpu", {}), ("opencv-cpu", {"engine": "new"}), ("opencv-cpu", {"engine": "classic"}),
    ("onnxruntime", {}), ("openvino", {}), ("torch-cpu", {}), ("torch-cpu", {"mode": "fused"}),
    ("torch-cpu", {"layout": "channels_last"}), ("torch-cpu", {"precision": "bf16"}),
]  # fmt: skip
MODEL = "yolov3-tiny-prn@96"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = ModelId.parse(MODEL)
        module = build_model(model, 0)
        specs = {kind: ArtifactSpec(model, 1, kind, 0) for kind in ("onnx", "pt2")}
        for spec in specs.values():
            prepare(spec, module)
        yield {**specs, "module": module}


def load(made, name, options):
    backend = BACKENDS.get(name)
    if backend.available() is not None:
        pytest.skip(f"{name}: {backend.available()}")
    skip_without_engine(name, options)
    return backend.load(made[backend.artifact].path, options, 1)


def answers(session, array):
    session.set_input(array)
    session.run()
    return session.outputs()


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_nothing_of_the_input_was_folded_into_the_artifact(made, name, options):
    """A pixel anywhere moves the outputs that see it; an all-zero image gives another answer."""
    tolerance = PRECISIONS.get(options.get("precision", "fp32")).tolerance
    session = load(made, name, options)
    array = input_pool((1, 3, 96, 96), 0, 1)[0]
    first = answers(session, array)
    for place in ((0, 0, 0, 0), (0, 2, 95, 95), (0, 1, 48, 48)):
        changed = array.copy()
        changed[place] += 10.0
        moved = answers(session, changed)
        assert any(not np.array_equal(a, b) for a, b in zip(first, moved, strict=True)), place
    for image in (np.zeros_like(array), 100 * array):
        with torch.inference_mode():
            expected = [t.numpy() for t in as_list(made["module"](torch.from_numpy(image)))]
        for output, reference in zip(answers(session, image), expected, strict=True):
            assert relative_error(output, reference) <= tolerance


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_running_again_writes_the_result_again(made, name, options):
    session = load(made, name, options)
    pool = input_pool((1, 3, 96, 96), 0, 2)
    expected = [answers(session, array) for array in pool]
    for round_ in range(3):
        for array, reference in zip(pool, expected, strict=True):
            session.set_input(array)
            for _ in range(round_ + 1):
                session.run()
            for output, known in zip(session.outputs(), reference, strict=True):
                assert np.array_equal(output, known)


def test_no_two_inferences_in_a_row_have_the_same_input(monkeypatch):
    """So a stored answer would be a wrong one, which the backend tests would see."""
    fed = []
    request = LoadRequest(Case.parse("peleenet@64/opencv-cpu/b1/t1"), Path())
    kept = load_job.Kept(request, None, lambda i: fed.append(i % POOL_SIZE), lambda: None)
    monkeypatch.setattr(load_job, "_kept", kept)
    for _ in range(9):
        burst(BurstRequest(7), lambda _: None)
    assert len(fed) == 63
    assert all(a != b for a, b in itertools.pairwise(fed))
    arrays = input_pool((1, 3, 8, 8), 0)
    assert len({array.tobytes() for array in arrays}) == POOL_SIZE


@pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="onnx is not installed")
def test_the_graph_keeps_every_convolution_of_the_module(made):
    """Export folds batch norms, but no work: as many convolutions as the module calls."""
    import onnx

    convolutions = sum(isinstance(m, torch.nn.Conv2d) for m in made["module"].modules())
    graph = onnx.load(made["onnx"].path).graph
    assert sum(node.op_type == "Conv" for node in graph.node) == convolutions
    fed = {graph.input[0].name}
    for node in graph.node:
        if fed & set(node.input):
            fed |= set(node.output)
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert all(node.input[0] in fed for node in convs)


def test_activations_are_no_denormals(made):
    """Numbers below 1.2e-38 slow processors down tenfold: seeded weights keep clear of them."""
    tiny = np.finfo(np.float32).tiny
    shares = []

    def look(module, inputs, output):
        values = output.detach().abs()
        shares.append(((values > 0) & (values < tiny)).float().mean().item())

    hooks = [m.register_forward_hook(look) for m in made["module"].modules()
             if isinstance(m, torch.nn.Conv2d)]  # fmt: skip
    with torch.inference_mode():
        made["module"](torch.from_numpy(input_pool((1, 3, 96, 96), 0, 1)[0]))
    for hook in hooks:
        hook.remove()
    assert len(shares) > 10
    assert max(shares) == 0.0
    weights = torch.cat([p.detach().abs().flatten() for p in made["module"].parameters()])
    assert not ((weights > 0) & (weights < tiny)).any()
