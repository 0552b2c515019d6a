"""The backend ``tensorrt``, against a stand-in for NVIDIA's package whose engines really compute.

No TensorRT was at hand: the calls are those of the documentation of its Python API. What is written
for it, files in half precision and in int8, runs in ONNX Runtime here.
"""

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.tensors import as_list, input_pool
from cspbench.backends.common.onnx_precision import in_precision
from cspbench.backends.precisions import PRECISIONS
from cspbench.backends.spec import BACKENDS, Compiles, LayerProfiler, Workload
from cspbench.core.cache import cache_folder
from cspbench.core.case import ModelId
from cspbench.errors import Unavailable, Unsupported
from cspbench.measure.agreement import relative_error
from tests.backends import fake_tensorrt
from tests.backends.card import Card

MODEL = "yolov3-tiny-prn@96"
SHAPE = (1, 3, 96, 96)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A detector with two outputs as an ONNX file, and torch's outputs for two inputs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        module = build_model(ModelId.parse(MODEL), 0)
        spec = ArtifactSpec(ModelId.parse(MODEL), 1, "onnx", 0)
        prepare(spec, module)
        arrays = input_pool(SHAPE, 0, 2)
        with torch.inference_mode():
            answers = [
                [tensor.numpy() for tensor in as_list(module(torch.from_numpy(array)))]
                for array in arrays
            ]
        yield spec.path, arrays, answers


class Board(Card):
    """A device on which an engine takes 1000 bytes."""

    def __init__(self):
        super().__init__()
        self.free = iter((5000, 4000))

    def use_own_stream(self):
        self.log.append("own stream")

    def free_bytes(self):
        return next(self.free)


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Installs a stand-in; the cache is empty before the first."""
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))

    def put(name="a device", **more):
        module = fake_tensorrt.package(**more)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        monkeypatch.delitem(sys.modules, "cspbench.backends._tensorrt", raising=False)
        _tensorrt = importlib.import_module("cspbench.backends._tensorrt")

        monkeypatch.setattr(_tensorrt, "CudaRuntime", Board)
        monkeypatch.setattr(_tensorrt, "_stream", lambda: 7)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
        return module

    yield put
    sys.modules.pop("cspbench.backends._tensorrt", None)


def load(network, **options):
    return BACKENDS.get("tensorrt").load(network[0], options, 1)


def worst(session, expected):
    pairs = zip(session.outputs(), expected, strict=True)
    return max(relative_error(*pair) for pair in pairs)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "int8"])
def test_an_engine_computes_in_the_types_of_its_file(network, install, precision):
    trt = install()
    session = load(network, precision=precision)
    session.set_input(network[1][0])
    session.run()
    error = worst(session, network[2][0])
    assert error <= PRECISIONS.get(precision).tolerance
    (model, config) = trt.made[0]
    assert (trt.BuilderFlag.TF32 in config.flags) is (precision == "tf32")
    types = {onnx.TensorProto.DataType.Name(one.data_type) for one in model.graph.initializer}
    if precision == "fp16":
        assert error > 1e-5
        assert "FLOAT" not in types
    quantised = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert bool(quantised) is (precision == "int8")
    assert all(
        one.type.tensor_type.elem_type == onnx.TensorProto.FLOAT for one in model.graph.input
    )


def test_weights_are_quantised_by_channel_and_biases_are_not(network, tmp_path):
    in_precision(network[0], "int8", tmp_path / "int8.onnx")
    graph = onnx.load(tmp_path / "int8.onnx").graph
    by_name = {one.name: one for one in graph.initializer}
    products = [node for node in graph.node if node.op_type == "Conv"]
    maker = {name: node for node in graph.node for name in node.output}
    for node in products:
        weight = maker[node.input[1]]
        assert weight.op_type == "DequantizeLinear"
        integers, scales, zeros = (onnx.numpy_helper.to_array(by_name[n]) for n in weight.input)
        assert integers.dtype == np.int8
        assert scales.shape == (integers.shape[0],)  # one for each output channel
        assert not zeros.any()  # symmetric
        assert all(name in by_name for name in node.input[2:])  # a plain bias
        zero = by_name[maker[node.input[0]].input[2]]
        assert not onnx.numpy_helper.to_array(zero).any()


def test_what_the_tools_cannot_read_is_unsupported(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(Unsupported, match="no fp16 form"):
        in_precision(tmp_path / "broken.onnx", "fp16", tmp_path / "out.onnx")


def test_without_onnx_runtime_other_precisions_are_unavailable(network, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="pip install onnxruntime"):
        in_precision(network[0], "int8", tmp_path / "out.onnx")


def test_inputs_on_the_device_are_read_in_turn(network, install):
    install()
    session = load(network)
    session.stage(network[1])
    for number in (0, 1, 0):
        session.choose(number)
        session.run()
        assert worst(session, network[2][number]) < 1e-4
        assert worst(session, network[2][1 - number]) > 1e-3


def test_a_captured_engine_reads_what_is_put_in(network, install, monkeypatch):
    install()
    session = load(network, cudagraph=True)

    def capture(work):
        return work, work()

    monkeypatch.setattr(session._runtime, "capture", capture)
    session.stage(network[1])
    for number in (0, 1):
        session.choose(number)
        session.run()
        assert worst(session, network[2][number]) < 1e-4


def test_an_engine_is_built_once_for_a_device_a_version_and_settings(network, install):
    backend = BACKENDS.get("tensorrt")
    assert isinstance(backend, Compiles)
    assert backend.compiles({})
    trt = install()
    load(network)
    assert (len(trt.made), backend.compiled_from_cache()) == (1, False)
    load(network)
    assert (len(trt.made), backend.compiled_from_cache()) == (1, True)
    load(network, precision="tf32")
    assert (len(trt.made), backend.compiled_from_cache()) == (2, False)
    for difference in ({"name": "another device"}, {"version": "10.3.0"}):
        other = install(**difference)
        load(network)
        assert len(other.made) == 1
    same = install()
    load(network)
    assert not same.made


def test_a_damaged_engine_is_built_again(network, install):
    trt = install()
    load(network)
    [engine] = cache_folder("tensorrt").glob("*.engine")
    engine.write_bytes(b"PLAN of somebody else")
    load(network)
    assert len(trt.made) == 2


def test_times_of_kernels_are_kept_for_the_next_build(network, install):
    trt = install()
    load(network)
    load(network, precision="tf32")
    # The stand-in adds a mark in each build.
    assert [config.timings for _, config in trt.made] == [b"", b"+"]


def test_times_that_another_driver_took_are_taken_anew(network, install):
    trt = install()
    load(network)
    [kept] = cache_folder("tensorrt").glob("timing-*")
    kept.write_bytes(b"of another driver")
    load(network, precision="tf32")
    assert trt.made[1][1].timings == b""
    assert kept.read_bytes() == b"+"


def test_a_dla_core_runs_what_it_can(network, install):
    trt = install(dla_cores=2)
    load(network, dla="core1", precision="fp16")
    config = trt.made[0][1]
    assert (config.default_device_type, config.DLA_core) == ("dla", 1)
    assert trt.BuilderFlag.GPU_FALLBACK in config.flags


@pytest.mark.parametrize(
    ("more", "options", "kind", "text"),
    [
        ({"version": "8.5.2"}, {}, Unavailable, "TensorRT 10 or newer is needed; this is 8.5.2"),
        ({"dla_cores": 1}, {"dla": "core1", "precision": "fp16"}, Unavailable,
         "has 1 DLA cores: no core 1"),
        ({"dla_cores": 2}, {"dla": "core1"}, Unsupported, "a DLA computes in fp16 or int8"),
        ({"unreadable": ("Conv",)}, {}, Unsupported, "cannot read the model: no importer"),
        ({"refusal": "no kernel"}, {}, Unsupported, "cannot build the engine: no kernel"),
        ({}, {"flush_l2": True, "scope": "pipeline"}, Unsupported, "scope inference"),
    ],
)  # fmt: skip
def test_why_there_is_no_engine(network, install, more, options, kind, text):
    install(**more)
    with pytest.raises(kind, match=text):
        load(network, **options)
    assert not list(cache_folder("tensorrt").glob("*.onnx"))


def test_layers_are_told_with_their_nodes(network, install):
    install()
    backend = BACKENDS.get("tensorrt")
    assert isinstance(backend, LayerProfiler)
    session = backend.load_profiled(network[0], {}, 1)
    took = session.run(network[1][0])
    profile = session.profile()
    nodes = [node.name for node in onnx.load(network[0]).graph.node]
    assert [entry.members for entry in profile.entries] == [(name,) for name in nodes]
    assert took == profile.total_ns == len(nodes) * 500_000
    with pytest.raises(Unsupported, match="plain calls"):
        backend.load_profiled(network[0], {"cudagraph": True}, 1)


@pytest.mark.parametrize(
    ("name", "metadata", "nodes"),
    [
        ("x", "[ONNX Layer: /a/Conv]\x1e[ONNX Layer: /a/Relu]", ("/a/Conv", "/a/Relu")),
        ("/a/Conv + /a/Relu", "", ("/a/Conv", "/a/Relu")),
        ("/a/Conv + PWN(PWN(/b/Sigmoid), /b/Mul)", "", ("/a/Conv", "/b/Sigmoid", "/b/Mul")),
        ("/a/Conv || /b/Conv", "", ("/a/Conv", "/b/Conv")),
    ],
)
def test_nodes_of_a_fused_layer(install, name, metadata, nodes):
    install()
    from cspbench.backends._tensorrt import nodes_of

    assert nodes_of(name, metadata) == nodes


def test_memory_that_torch_did_not_take_counts(network, install):
    install()
    session = load(network)
    assert session.device_used_bytes() == 1000 + 1234
    assert session.device_peak_bytes() == 1000 + 12345
    facts = session.describe()
    assert (facts["version"], facts["device_uuid"]) == ("11.4.0", "1-2-3")
    assert "own stream" in session._runtime.log


def test_overlapped_inferences_cannot_be_flushed(network):
    work = Workload(Path("x.onnx"), {"flush_l2": True}, 1, network[1], 0.1)
    with pytest.raises(Unsupported, match="overlap"):
        BACKENDS.get("tensorrt").throughput(work)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_real_engines_agree(network, precision, tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    backend = BACKENDS.get("tensorrt")
    if backend.available() is not None:
        pytest.skip(f"tensorrt: {backend.available()}")
    session = load(network, precision=precision)
    for array, expected in zip(network[1], network[2], strict=True):
        session.set_input(array)
        session.run()
        assert worst(session, expected) <= PRECISIONS.get(precision).tolerance
    profile = backend.load_profiled(network[0], {"precision": precision}, 1)
    profile.run(network[1][0])
    assert profile.profile().entries
