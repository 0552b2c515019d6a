"""A stand-in for NVIDIA's package ``tensorrt``: its calls, and engines that ONNX Runtime runs.

An engine reads and writes the memory whose addresses it was given, as TensorRT does; here that is
the processor's. ``made`` holds the configurations of all engines that were built.
"""

import ctypes
import json
import types

import numpy as np
import onnx
import pytest

onnxruntime = pytest.importorskip("onnxruntime")
LAYER_MS = 0.5


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = "internal", "error", "warning"


class IProfiler:
    pass


class NetworkDefinitionCreationFlag:
    STRONGLY_TYPED = 1


class BuilderFlag:
    TF32, GPU_FALLBACK = "tf32", "gpu fallback"


class DeviceType:
    GPU, DLA = "gpu", "dla"


class ProfilingVerbosity:
    DETAILED = "detailed"


class TensorIOMode:
    INPUT, OUTPUT = "input", "output"


class LayerInformationFormat:
    JSON = "json"


class Config:
    def __init__(self):
        self.flags, self.default_device_type, self.DLA_core = {BuilderFlag.TF32}, "gpu", -1
        self.timings = b""

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def set_flag(self, flag):
        self.flags.add(flag)

    def create_timing_cache(self, known):
        return known

    def set_timing_cache(self, cache, _ignore_mismatch):
        if cache.startswith(b"of another driver"):
            return False
        self.timings = cache
        return True

    def get_timing_cache(self):
        return types.SimpleNamespace(serialize=lambda: self.timings + b"+")


class Parser:
    def __init__(self, network, log):
        self._network, self._log, self.num_errors = network, log, 0

    def parse_from_file(self, path):
        model = onnx.load(path)
        if any(node.op_type in self._network.unreadable for node in model.graph.node):
            self.num_errors = 1
            return False
        self._network.model = model
        return True

    def get_error(self, _number):
        return types.SimpleNamespace(desc=lambda: "no importer for the operator")


class Engine:
    def __init__(self, plan):
        self._model = onnx.load_from_string(plan.removeprefix(b"PLAN"))
        options = onnxruntime.SessionOptions()
        # As the file says: ONNX Runtime's int8 kernels saturate on processors without VNNI.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(plan.removeprefix(b"PLAN"), options)
        self._io = [*self._session.get_inputs(), *self._session.get_outputs()]
        self.num_io_tensors = len(self._io)

    def get_tensor_name(self, number):
        return self._io[number].name

    def _one(self, name):
        return next(one for one in self._io if one.name == name)

    def get_tensor_mode(self, name):
        inputs = [one.name for one in self._session.get_inputs()]
        return TensorIOMode.INPUT if name in inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name):
        return self._one(name).type

    def create_execution_context(self):
        return Context(self._session, [node.name for node in self._model.graph.node])

    def create_engine_inspector(self):
        layers = [
            {
                "Name": f"layer {number}",
                "LayerType": "Fused",
                "Metadata": f"[ONNX Layer: {node.name}]",
            }
            for number, node in enumerate(self._model.graph.node)
        ]
        text = json.dumps({"Layers": [*layers, "a name alone"], "Bindings": []})
        return types.SimpleNamespace(get_engine_information=lambda _form: text)


class Context:
    def __init__(self, session, nodes):
        self._session, self._nodes, self._addresses, self.profiler = session, nodes, {}, None

    def get_tensor_shape(self, name):
        inputs = self._session.get_inputs()
        zeros = {one.name: np.zeros(one.shape, nptype(one.type)) for one in inputs}
        return self._session.run([name], zeros)[0].shape

    def set_tensor_address(self, name, address):
        self._addresses[name] = address

    def execute_async_v3(self, _stream):
        feed = {one.name: self._read(one) for one in self._session.get_inputs()}
        results = self._session.run(None, feed)
        for one, result in zip(self._session.get_outputs(), results, strict=True):
            whole = np.ascontiguousarray(result)
            ctypes.memmove(self._addresses[one.name], whole.ctypes.data, whole.nbytes)
        if self.profiler is not None:
            for number in range(len(self._nodes)):
                self.profiler.report_layer_time(f"layer {number}", LAYER_MS)
        return True

    def _read(self, one):
        dtype = np.dtype(nptype(one.type))
        count = int(np.prod(one.shape))
        memory = ctypes.string_at(self._addresses[one.name], count * dtype.itemsize)
        return np.frombuffer(memory, dtype).reshape(one.shape)


def nptype(kind):
    return {"tensor(float)": np.float32, "tensor(int64)": np.int64}[kind]


def package(version="11.4.0", dla_cores=0, unreadable=(), refusal=""):
    """The module.

    Args:
        version: of TensorRT.
        dla_cores: of the board.
        unreadable: operators that its parser does not know.
        refusal: why no engine can be built; empty if one can.
    """
    made = []

    class Builder:
        def __init__(self, log):
            self._log, self.num_DLA_cores = log, dla_cores

        def create_network(self, flags):
            assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
            return types.SimpleNamespace(unreadable=unreadable, model=None)

        def create_builder_config(self):
            return Config()

        def build_serialized_network(self, network, config):
            made.append((network.model, config))
            if refusal:
                self._log.log(ILogger.WARNING, "a warning")
                self._log.log(ILogger.ERROR, refusal)
                return None
            return b"PLAN" + network.model.SerializeToString()

    class Runtime:
        def __init__(self, log):
            self._log = log

        def deserialize_cuda_engine(self, plan):
            if plan.startswith(b"PLAN"):
                return Engine(plan)
            self._log.log(ILogger.ERROR, "wrong magic")
            return None

    module = types.ModuleType("tensorrt")
    names = (ILogger, IProfiler, NetworkDefinitionCreationFlag, BuilderFlag, DeviceType)
    more = (ProfilingVerbosity, TensorIOMode, LayerInformationFormat, Builder, Runtime)
    for one in (*names, *more):
        setattr(module, one.__name__, one)
    module.OnnxParser, module.nptype = Parser, nptype
    module.__version__, module.made = version, made
    return module
