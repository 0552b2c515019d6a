"""Every backend that this machine has, on a real model: agrees with torch, and says what ran.

yolov3-tiny-prn at 96 x 96, batch 2: two outputs of different shapes, so their order matters.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.tensors import as_list, input_pool
from cspbench.backends.precisions import precision_of
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import ModelId
from cspbench.measure.agreement import check_agreement, relative_error
from cspbench.measure.clock import MonotonicClock
from cspbench.measure.sampling import warm_up
from tests.backends.requirements import skip_without_engine

MODEL = "yolov3-tiny-prn@96"
BATCH = 2
SETTINGS = [
    ("opencv-cpu", {}),
    ("opencv-cpu", {"engine": "new"}),
    ("opencv-cpu", {"engine": "classic"}),
    ("torch-cpu", {}),
    ("torch-cpu", {"layout": "channels_last"}),
    ("onnxruntime", {}),
    ("openvino", {}),
]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """The model in the form that each backend loads: kind -> spec, made once; and its module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = ModelId.parse(MODEL)
        module = build_model(model, 0)
        specs = {kind: ArtifactSpec(model, BATCH, kind, 0) for kind in ("onnx", "pt2")}
        for spec in specs.values():
            prepare(spec, module)
        yield {**specs, "module": module}


@pytest.fixture
def pool():
    return input_pool((BATCH, 3, 96, 96), seed=0)


def load(artifacts, name, options, threads=1):
    backend = BACKENDS.get(name)
    if backend.available() is not None:
        pytest.skip(f"{name}: {backend.available()}")
    skip_without_engine(name, options)
    return backend.load(artifacts[backend.artifact].path, options, threads)


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_it_agrees_with_torch(artifacts, pool, name, options):
    session = load(artifacts, name, options)
    session.set_input(pool[0])
    session.run()
    outputs = session.outputs()
    backend = BACKENDS.get(name)
    reference = artifacts[backend.artifact].reference
    found = check_agreement(outputs, reference, precision_of(backend, options))
    assert found.max_relative_error <= 1e-4
    assert all(output.dtype == np.float32 for output in outputs)
    session.close()


@pytest.mark.parametrize(("name", "options"), SETTINGS)
def test_every_input_of_the_pool_gets_its_own_answer(artifacts, pool, name, options):
    """No stale buffer: outputs are those of the last input, and earlier ones stay as they were."""
    session = load(artifacts, name, options)
    answers = []
    for array in (pool[0], pool[1], pool[0]):
        session.set_input(array)
        session.run()
        answers.append(session.outputs())
    with torch.inference_mode():
        expected = [
            tensor.numpy() for tensor in as_list(artifacts["module"](torch.from_numpy(pool[1])))
        ]
    for output, reference in zip(answers[1], expected, strict=True):
        assert relative_error(output, reference) <= 1e-4
    for first, second, third in zip(*answers, strict=True):
        assert np.array_equal(first, third)
        assert not np.array_equal(first, second)
    session.close()


@pytest.mark.parametrize(("name", "options"), SETTINGS)
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_set_and_recorded(artifacts, name, options, threads):
    session = load(artifacts, name, options, threads)
    facts = session.describe()
    assert facts["threads"] == threads
    assert facts["version"]
    json.dumps(facts, allow_nan=False)  # goes into the run as it is
    session.close()


@pytest.mark.parametrize(
    ("asked", "ran"), [("auto", {"new", "classic"}), ("new", {"new"}), ("classic", {"classic"})]
)
def test_opencv_tells_which_engine_ran(artifacts, asked, ran):
    cv2 = pytest.importorskip("cv2")
    if asked == "new" and not hasattr(cv2.dnn, "ENGINE_NEW"):
        pytest.skip(f"OpenCV {cv2.__version__} has one engine")
    session = load(artifacts, "opencv-cpu", {"engine": asked})
    assert session.describe()["engine"] in ran
    session.close()


@pytest.mark.parametrize("name", ["opencv-cpu", "torch-cpu", "onnxruntime"])
def test_a_value_that_its_option_does_not_have_is_refused(artifacts, name):
    backend = BACKENDS.get(name)
    if backend.available() is not None:
        pytest.skip(f"{name}: {backend.available()}")
    with pytest.raises(ValueError, match=backend.axes[0].name):
        backend.load(artifacts[backend.artifact].path, {backend.axes[0].name: "nonsense"}, 1)


@pytest.mark.parametrize("name", ["opencv-cpu", "torch-cpu", "onnxruntime", "openvino"])
def test_specs_are_light_and_whole(name):
    backend = BACKENDS.get(name)
    assert backend.name == name
    assert backend.summary
    assert backend.artifact in ("onnx", "pt2")
    assert backend.device == "cpu"
    assert backend.library


def test_reasons_are_told_without_importing_anything_heavy():
    code = (
        "import sys\n"
        "from cspbench.backends.spec import BACKENDS\n"
        "reasons = {b.name: b.available() for b in BACKENDS}\n"
        "heavy = {'torch', 'cv2', 'onnxruntime', 'openvino', 'numpy'} & set(sys.modules)\n"
        "import json; print(json.dumps([reasons, sorted(heavy)]))\n"
    )
    reasons, heavy = json.loads(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert heavy == []
    assert {"opencv-cpu", "torch-cpu", "torch-cuda", "jetson"} <= set(reasons)
    assert reasons["torch-cpu"] is None


def test_a_worker_that_times_opencv_imports_no_torch(artifacts):
    if BACKENDS.get("opencv-cpu").available() is not None:
        pytest.skip("OpenCV is not installed")
    spec = artifacts["onnx"]
    job = {
        "job": "load", "case": f"{MODEL}/opencv-cpu/b{BATCH}/t1", "artifact": str(spec.path),
        "reference": str(spec.reference), "seed": 0, "warmup_seconds": 0.05,
    }  # fmt: skip
    code = (
        "import json, sys\n"
        "from cspbench.jobs.worker import perform\n"
        "answer = perform(json.loads(sys.argv[1]), lambda phase: None)\n"
        "perform({'job': 'burst', 'count': 3}, lambda phase: None)\n"
        "heavy = {'torch', 'pandas', 'matplotlib', 'openvino', 'onnxruntime'} & set(sys.modules)\n"
        "print(json.dumps([answer['status'], answer.get('reason'), sorted(heavy)]))\n"
    )
    command = [sys.executable, "-c", code, json.dumps(job)]
    last = subprocess.check_output(command, text=True).splitlines()[-1]
    assert json.loads(last) == ["ok", None, []]


NO_BOARD = "not an NVIDIA Jetson board (no /etc/nv_tegra_release)"
NO_DRIVER = "no NVIDIA driver is loaded"
NO_CUDA = "the installed PyTorch was built without CUDA"


@pytest.mark.parametrize(
    ("tegra", "driver", "cuda", "reasons"),
    [
        (False, False, None, [NO_DRIVER, NO_BOARD]),
        (False, True, None, [NO_CUDA, NO_BOARD]),
        (False, True, "12.8", [None, NO_BOARD]),
        (True, True, None, [NO_CUDA, NO_CUDA]),
        (True, True, "12.6", [None, None]),
    ],
)
def test_what_torch_cuda_and_jetson_need(monkeypatch, tegra, driver, cuda, reasons):
    from cspbench.machine.devices import cuda as device

    monkeypatch.setattr(device, "on_tegra", lambda: tegra)
    monkeypatch.setattr(device, "nvidia_driver_loaded", lambda: driver)
    monkeypatch.setattr(device, "torch_cuda_version", lambda: cuda)
    assert [BACKENDS.get(name).available() for name in ("torch-cuda", "jetson")] == reasons


def test_the_cuda_version_of_torch_is_read_from_its_file():
    from cspbench.machine.devices.cuda import torch_cuda_version

    assert torch_cuda_version() == torch.version.cuda


@pytest.mark.gpu
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_torch_cuda_loads_agrees_and_measures(artifacts, pool, precision, layout):
    options = {"precision": precision, "layout": layout}
    session = load(artifacts, "torch-cuda", options)
    session.set_input(pool[0])
    session.run()
    check_agreement(session.outputs(), artifacts["pt2"].reference, options["precision"])
    facts = session.describe()
    assert facts["precision"] == precision
    assert facts["device"] == torch.cuda.get_device_name()
    warm = warm_up(session.run, lambda i: session.set_input(pool[i % 4]), MonotonicClock(), 0.5)
    assert min(warm.window_medians_ns) > 0
    session.close()
