"""Scopes and throughput of every backend of this machine, on one small detector."""

import ctypes
import os
import uuid
from pathlib import Path

import numpy as np
import pytest

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.tensors import input_pool
from cspbench.backends.common.throughput import WARM_ROUNDS, run_for
from cspbench.backends.onnxruntime import OnnxRuntimeBoundSession
from cspbench.backends.spec import BACKENDS, Compiles, Pipelines, StagesInputs, device_of
from cspbench.core.case import ModelId
from cspbench.core.statuses import Status
from cspbench.errors import Unsupported
from cspbench.jobs.time import flags
from cspbench.jobs.worker import perform
from cspbench.machine import cuda_device as _cuda_device
from cspbench.measure.agreement import check_agreement
from tests.timed import timed_here

MODEL = "yolov3-tiny-prn@96"
NAMES = ["opencv-cpu", "onnxruntime", "openvino", "torch-cpu"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = ModelId.parse(MODEL)
        module = build_model(model, 0)
        specs = {kind: ArtifactSpec(model, 1, kind, 0) for kind in ("onnx", "pt2")}
        for spec in specs.values():
            prepare(spec, module)
        yield specs


def spec_of(made, name):
    backend = BACKENDS.get(name)
    if backend.available() is not None:
        pytest.skip(f"{name}: {backend.available()}")
    return made[backend.artifact]


def job(made, name, options=""):
    spec = spec_of(made, name)
    return {
        "case": f"{MODEL}/{name}{options}/b1/t1", "artifact": str(spec.path),
        "reference": str(spec.reference), "seed": 0, "max_seconds": 0.02,
    }  # fmt: skip


def throughput(made, name, options=""):
    return perform({**job(made, name, options), "job": "throughput"}, lambda phase: None)


@pytest.mark.parametrize("scope", ["end_to_end", "pipeline"])
@pytest.mark.parametrize("name", NAMES)
def test_a_launch_has_the_scope_of_its_case(made, name, scope):
    outcome = timed_here(job(made, name, f"[scope={scope}]"))
    assert (outcome.status, outcome.reason) == (Status.OK, "")
    assert outcome.answer["scope"] == scope
    assert outcome.answer["agreement"]["max_relative_error"] <= 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_what_end_to_end_gives_is_the_models_output(made, name):
    spec = spec_of(made, name)
    session = BACKENDS.get(name).load(spec.path, {}, 1)
    pool = input_pool((1, 3, 96, 96), 0, 2)
    session.set_input(pool[1])
    session.run()
    session.infer(pool[1])
    outputs = session.infer(pool[0])
    check_agreement(outputs, spec.reference)
    assert all(isinstance(output, np.ndarray) for output in outputs)
    session.close()


@pytest.mark.parametrize("name", NAMES)
def test_throughput_is_a_job_of_its_own(made, name):
    answer = throughput(made, name)
    assert (answer["status"], answer.get("reason")) == ("ok", None)
    found = answer["throughput"]
    assert found["inferences"] >= found["in_flight"] >= 1
    assert found["ns"] > 0
    overlaps = isinstance(BACKENDS.get(name), Pipelines)
    assert overlaps == (found["method"] != "back to back")
    assert overlaps == (name in ("onnxruntime", "openvino"))


def test_throughput_of_another_scope_is_refused(made):
    answer = throughput(made, "torch-cpu", "[scope=pipeline]")
    assert answer["status"] == "unsupported"
    assert "scope inference" in answer["reason"]


def test_what_comes_before_and_after_the_window_of_throughput():
    log = []
    found = run_for(
        log.append, ["a", "b", "c"], 0.0, in_flight=2, method="m",
        finish=lambda: log.append("finished"),
    )  # fmt: skip
    # No time, but at least as many as can be under way; warm-up and counting are kept apart.
    assert log == ["a", "b", "c", "a", "finished", "a", "b", "finished"]
    assert log.index("finished") == WARM_ROUNDS * 2
    assert (found.inferences, found.in_flight, found.method) == (2, 2, "m")
    assert found.ns > 0


def flags_of(outcome):
    return flags(outcome.checked("time"))


def test_a_launch_of_a_fallback_engine_has_its_flag(made, monkeypatch):
    from cspbench.backends.opencv_cpu import OpenCvSession

    assert "fallback_engine" not in flags_of(timed_here(job(made, "opencv-cpu")))
    describe = OpenCvSession.describe
    told = "the new engine cannot read the model"
    monkeypatch.setattr(OpenCvSession, "describe", lambda one: {**describe(one), "fallback": told})
    assert "fallback_engine" in flags_of(timed_here(job(made, "opencv-cpu")))


def test_a_launch_that_ran_with_other_threads_is_no_measurement(made, monkeypatch):
    from cspbench.backends.opencv_cpu import OpenCvSession

    describe = OpenCvSession.describe
    monkeypatch.setattr(OpenCvSession, "describe", lambda one: {**describe(one), "threads": 7})
    outcome = timed_here(job(made, "opencv-cpu"))
    assert outcome.status is Status.FAILED
    assert outcome.reason == "1 threads were asked for, the backend has 7"


# A device chosen by an option ---------------------------------------------------------------------


def test_the_device_follows_the_provider():
    backend = BACKENDS.get("onnxruntime")
    assert [device_of(backend, {"provider": name}) for name in ("cpu", "cuda", "tensorrt")] == [
        "cpu", "cuda", "cuda",
    ]  # fmt: skip
    assert device_of(backend, {}) == "cpu"
    assert device_of(BACKENDS.get("torch-cuda"), {}) == "cuda"


CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})


def tensorrt(cache):
    """Engines and timings are kept: without them each process would build an engine, for minutes.

    What TensorRT does not know runs on CUDA.
    """
    kept = str(cache / "tensorrt")
    options = {
        "trt_engine_cache_enable": "True", "trt_engine_cache_path": kept,
        "trt_timing_cache_enable": "True", "trt_timing_cache_path": kept,
    }  # fmt: skip
    return [("TensorrtExecutionProvider", options), CUDA]


@pytest.mark.parametrize(
    ("provider", "expected"), [("cuda", lambda cache: [CUDA]), ("tensorrt", tensorrt)]
)
def test_a_gpu_provider_computes_in_fp32_and_leaves_nothing_to_the_cpu(
    made, monkeypatch, tmp_path, provider, expected
):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    asked, preloaded = {}, []
    expected = expected(tmp_path / "cache")

    def session(path, settings, providers):
        asked["providers"] = providers
        asked["fallback"] = settings.get_session_config_entry("session.disable_cpu_ep_fallback")
        asked["tf32"] = os.environ["NVIDIA_TF32_OVERRIDE"]
        raise RuntimeError("no such device")

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    names = [name for name, _ in expected]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda: preloaded.append("CUDA"), raising=False
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    with pytest.raises(Unsupported, match="no such device"):
        BACKENDS.get("onnxruntime").load(made["onnx"].path, {"provider": provider}, 1)
    assert asked == {"providers": expected, "fallback": "1", "tf32": "0"}
    assert preloaded == ["CUDA"]  # of pip's packages, where no loader looks


def test_an_engine_that_is_in_the_cache_was_not_compiled(made, monkeypatch, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    backend = BACKENDS.get("onnxruntime")
    assert isinstance(backend, Compiles)
    assert [backend.compiles({"provider": name}) for name in ("cpu", "cuda", "tensorrt")] == [
        False, False, True,
    ]  # fmt: skip
    builds = iter([True, False])

    class Session:
        """Builds an engine where the cache has none, as TensorRT does."""

        def __init__(self, path, settings, providers):
            if next(builds):
                (Path(providers[0][1]["trt_engine_cache_path"]) / "net_sm90.engine").touch()

        def get_providers(self):
            return ["TensorrtExecutionProvider", "CUDAExecutionProvider"]

    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["TensorrtExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    cached = []
    for _ in range(2):
        backend._session(made["onnx"].path, {"provider": "tensorrt"}, 1, None)
        cached.append(backend.compiled_from_cache())
    assert cached == [False, True]


def test_bound_inputs_and_outputs(made):
    """I/O binding with the processor as the device: each input its own answer, in fixed memory."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = OnnxRuntimeBoundSession(
        onnxruntime.__version__,
        onnxruntime.InferenceSession(str(made["onnx"].path), providers=["CPUExecutionProvider"]),
        1,
        where="cpu",
    )
    first, second = input_pool((1, 3, 96, 96), 0, 2)
    answers = []
    for array in (first, second, first):
        session.set_input(array.copy())  # a value on the processor shares its array's memory
        place = session._values[0].data_ptr()
        session.run()
        answers.append(session.outputs())
        assert session._values[0].data_ptr() == place
    check_agreement(answers[0], made["onnx"].reference)
    assert np.array_equal(answers[0][0], answers[2][0])
    assert not np.array_equal(answers[0][0], answers[1][0])
    check_agreement(session.infer(first), made["onnx"].reference)

    assert isinstance(session, StagesInputs)
    session.stage([second.copy(), first.copy()])
    for number, answer in ((1, answers[0]), (0, answers[1]), (1, answers[0])):
        session.choose(number)
        session.run()
        assert np.array_equal(session.outputs()[0], answer[0])
    session.set_input(second)  # the memory of its own, as before
    session.run()
    assert np.array_equal(session.outputs()[0], answers[1][0])


class Driver:
    """libcuda with one device; ``broken`` names a function that fails."""

    def __init__(self, broken=""):
        self.broken = broken

    def __getattr__(self, name):
        def call(*arguments):
            if name == "cuDeviceGetName":
                arguments[0].value = b"NVIDIA Something"
            if name == "cuDeviceGetUuid_v2":
                pointer = ctypes.cast(arguments[0], ctypes.POINTER(ctypes.c_ubyte))
                for i in range(16):
                    pointer[i] = i
            return 100 if name == self.broken else 0

        return call


def test_identity_of_the_first_device():
    assert _cuda_device.first_device(Driver()) == {
        "device": "NVIDIA Something", "device_uuid": str(uuid.UUID(bytes=bytes(range(16)))),
    }  # fmt: skip
    assert _cuda_device.first_device(Driver("cuInit")) == {}


@pytest.mark.gpu
def test_identity_is_that_which_torch_tells():
    import torch

    found = _cuda_device.first_device()
    assert found["device_uuid"] == str(torch.cuda.get_device_properties(0).uuid)
    assert found["device"] == torch.cuda.get_device_name(0)


@pytest.mark.gpu
def test_onnx_runtime_on_a_gpu(made):
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has no CUDA")
    session = BACKENDS.get("onnxruntime").load(made["onnx"].path, {"provider": "cuda"}, 1)
    session.set_input(input_pool((1, 3, 96, 96), 0, 1)[0])
    session.run()
    check_agreement(session.outputs(), made["onnx"].reference)  # fp32: TF32 is off
    assert session.describe()["device_uuid"]
