"""Engines of TensorRT: building, calling with torch's tensors, and times of layers.

Written against the Python API of TensorRT 10 and 11 (NVIDIA's documentation). This module imports
torch and tensorrt; only a worker's ``load`` imports it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorrt as trt
import torch

from cspbench.backends._cuda_runtime import CudaRuntime
from cspbench.backends._torch_cuda import TorchCudaSession
from cspbench.backends.common.compiled import compiled
from cspbench.backends.common.onnx_precision import in_precision
from cspbench.backends.common.profiling import Profiled, RecordingSession
from cspbench.backends.spec import LayerTime
from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import write_whole
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    from cspbench.artifacts.tensors import Feed
    from cspbench.core.options import Options, Value

#: Folder and suffix of engines in the cache.
PLACE = ("tensorrt", ".engine")
#: Strong typing and ``execute_async_v3`` as they are used here came with it.
OLDEST = 10
#: Precisions that need a file of their own; the others compute in the file's float32.
CONVERTED = ("fp16", "int8")


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps what TensorRT says went wrong."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, msg: str) -> None:
        """One message."""
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(msg)

    @property
    def why(self) -> str:
        """The first error, which later ones follow from."""
        return self.errors[0] if self.errors else "it gave no reason"


class Engine:
    """An engine that is called with torch's tensors and returns others.

    Args:
        plan: the engine as TensorRT wrote it.
        dla: core of the accelerator, or None.
        device: where tensors lie.

    Raises:
        Unavailable: TensorRT cannot load it.
    """

    def __init__(self, plan: bytes, dla: int | None, device: torch.device) -> None:
        self._log = Log()
        runtime = trt.Runtime(self._log)
        if dla is not None:
            runtime.DLA_core = dla
        self.engine = runtime.deserialize_cuda_engine(plan)
        if self.engine is None:
            raise Unavailable(f"TensorRT cannot load the engine: {self._log.why}")
        self._runtime = runtime  # it has to outlive the engine
        self.context = self.engine.create_execution_context()
        if self.context is None:
            raise torch.OutOfMemoryError(
                f"TensorRT is out of memory for the engine: {self._log.why}"
            )
        names = [self.engine.get_tensor_name(i) for i in range(self.engine.num_io_tensors)]
        is_input = {n: self.engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT for n in names}
        self._inputs = [name for name in names if is_input[name]]
        self._outputs = [self._bound(name, device) for name in names if not is_input[name]]
        self._addresses: list[int] = []

    def _bound(self, name: str, device: torch.device) -> torch.Tensor:
        """Memory of an output, into which every inference writes."""
        dtype = torch.from_numpy(_empty(trt.nptype(self.engine.get_tensor_dtype(name)))).dtype
        shape = tuple(self.context.get_tensor_shape(name))
        tensor = torch.empty(shape, dtype=dtype, device=device)
        self.context.set_tensor_address(name, tensor.data_ptr())
        return tensor

    def __call__(self, *inputs: torch.Tensor) -> Sequence[torch.Tensor]:
        """Submit one inference to the current stream.

        Raises:
            RuntimeError: TensorRT could not submit it.
        """
        addresses = [tensor.data_ptr() for tensor in inputs]
        if addresses != self._addresses:
            for name, address in zip(self._inputs, addresses, strict=True):
                self.context.set_tensor_address(name, address)
            self._addresses = addresses
        if not self.context.execute_async_v3(_stream()):
            raise RuntimeError(f"TensorRT could not run the engine: {self._log.why}")
        return self._outputs

    def layers(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Type of each layer of the engine and the ONNX nodes that are fused into it, by name."""
        inspector = self.engine.create_engine_inspector()
        text = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        found = {}
        for layer in json.loads(text).get("Layers", []):
            if isinstance(layer, str):  # an engine without details has names alone
                layer = {"Name": layer}  # noqa: PLW2901
            nodes = nodes_of(layer["Name"], layer.get("Metadata", ""))
            found[layer["Name"]] = (layer.get("LayerType", ""), nodes)
        return found


def nodes_of(name: str, metadata: str) -> tuple[str, ...]:
    r"""ONNX nodes of an engine's layer: by its metadata, else by its name, as TensorRT joins them.

    >>> nodes_of("x", "[ONNX Layer: /a/Conv]\x1e[ONNX Layer: /a/Relu]")
    ('/a/Conv', '/a/Relu')
    >>> nodes_of("/a/Conv + PWN(PWN(/b/Sigmoid), /b/Mul)", "")
    ('/a/Conv', '/b/Sigmoid', '/b/Mul')
    """
    named = re.findall(r"\[ONNX Layer: ([^\]]+)\]", metadata)
    if not named:
        plain = re.sub(r"PWN\(|\)", "", name)
        named = [part for part in re.split(r" \+ |, |\|\|", plain) if part.strip()]
    return tuple(dict.fromkeys(part.strip() for part in named))


def load(artifact: Path, options: Options) -> TorchCudaSession:
    """The session of an engine, on a stream of its own.

    On the default stream TensorRT would wait for the device in each call.
    """
    runtime = CudaRuntime()
    runtime.use_own_stream()
    return session_of(built(artifact, options), options, runtime)


def session_of(plan: Path, options: Options, runtime: CudaRuntime) -> TorchCudaSession:
    """The session of a built engine on a device."""
    free = runtime.free_bytes()
    engine = Engine(plan.read_bytes(), _dla(options), runtime.device)
    return TorchCudaSession(
        engine,
        {**options, **_versions()},
        torch.float32,
        torch.contiguous_format,
        captured=options["cudagraph"] is True,
        flush_l2=options["flush_l2"] is True,
        runtime=runtime,
        foreign_bytes=max(0, free - runtime.free_bytes()),
    )


def load_profiled(artifact: Path, options: Options) -> ProfiledEngine:
    """The session whose layers are timed."""
    session = load(artifact, options)
    return ProfiledEngine(session, session.program)


def built(artifact: Path, options: Options) -> Path:
    """The engine of an ONNX file in the cache, built if there is none.

    Raises:
        Unavailable: TensorRT is too old, or the board has no such DLA core.
        Unsupported: TensorRT cannot build it.
    """
    version = str(trt.__version__)
    if int(version.partition(".")[0]) < OLDEST:
        raise Unavailable(f"TensorRT {OLDEST} or newer is needed; this is {version}")
    facts = {
        **_versions(),
        "device": torch.cuda.get_device_name(),
        "capability": torch.cuda.get_device_capability(),
        "precision": options["precision"],
        "dla": options["dla"],
    }

    def make(path: Path) -> None:
        source = artifact
        if options["precision"] in CONVERTED:
            source = path.with_suffix(".onnx")
            in_precision(artifact, str(options["precision"]), source)
        try:
            path.write_bytes(build(source, options))
        finally:
            if source != artifact:
                source.unlink(missing_ok=True)

    return compiled(PLACE, artifact, facts, make)


def build(source: Path, options: Options) -> bytes:
    """Build an engine that computes in the types of its ONNX file."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(source)):
        errors = [parser.get_error(number).desc() for number in range(parser.num_errors)]
        raise Unsupported(f"TensorRT cannot read the model: {(errors or [log.why])[0]}")
    config = builder.create_builder_config()
    # With names of the nodes in the engine, which a profile is joined by.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options["precision"] != "tf32":
        config.clear_flag(trt.BuilderFlag.TF32)
    dla = _dla(options)
    if dla is not None:
        if options["precision"] not in CONVERTED:
            raise Unsupported("a DLA computes in fp16 or int8: set precision")
        if dla >= builder.num_DLA_cores:
            raise Unavailable(f"this device has {builder.num_DLA_cores} DLA cores: no core {dla}")
        config.default_device_type, config.DLA_core = trt.DeviceType.DLA, dla
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)
    timings = _timings()
    known = timings.read_bytes() if timings.exists() else b""
    if not config.set_timing_cache(config.create_timing_cache(known), False):
        # Timings of another driver or card, which TensorRT refuses: they are taken anew.
        config.set_timing_cache(config.create_timing_cache(b""), False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise Unsupported(f"TensorRT cannot build the engine: {log.why}")
    write_whole(timings, bytes(config.get_timing_cache().serialize()), shared=True)
    return bytes(plan)


def _timings() -> Path:
    """Times of kernels that earlier builds on this device took, so that engines repeat."""
    folder = cache_folder(PLACE[0])
    make_cache_folder(folder)
    device = re.sub(r"\W+", "-", torch.cuda.get_device_name())
    return folder / f"timing-{device}-{trt.__version__}.cache"


def _dla(options: Options) -> int | None:
    return None if options["dla"] == "off" else int(str(options["dla"]).removeprefix("core"))


def _versions() -> dict[str, Value]:
    return {"version": str(trt.__version__), "cuda": str(torch.version.cuda)}


def _stream() -> int:
    return int(torch.cuda.current_stream().cuda_stream)


def _empty(dtype: Any) -> Any:
    import numpy as np

    return np.empty(0, dtype)


class LayerClock(trt.IProfiler):  # type: ignore[misc]
    """Collects the times of layers that TensorRT reports."""

    def __init__(self) -> None:
        trt.IProfiler.__init__(self)
        self.times: list[tuple[str, float]] = []

    def report_layer_time(self, layer_name: str, ms: float) -> None:
        """One layer of one inference."""
        self.times.append((layer_name, ms))


class ProfiledEngine(RecordingSession):
    """An engine with TensorRT's profiler, which waits for each inference."""

    method = "TensorRT's profiler"

    def __init__(self, session: TorchCudaSession, engine: Any) -> None:
        super().__init__()
        self._session = session
        self._layers: Mapping[str, tuple[str, tuple[str, ...]]] = engine.layers()
        self._clock = LayerClock()
        engine.context.profiler = self._clock

    def once(self, feed: Feed) -> Profiled:
        """One inference: the sum of its layers, and each of them."""
        self._session.set_input(feed)
        self._clock.times.clear()
        self._session.run()
        entries = [self._entry(name, ms) for name, ms in self._clock.times]
        return sum(entry.ns for entry in entries), entries

    def _entry(self, name: str, ms: float) -> LayerTime:
        op, nodes = self._layers.get(name, ("", nodes_of(name, "")))
        return LayerTime(name, op, round(1e6 * ms), nodes)
