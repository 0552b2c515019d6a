"""ONNX Runtime: its CPU provider, or CUDA and TensorRT where the installed build has them.

Timed: ``InferenceSession.run`` of all outputs with the input as a numpy array; for CUDA and
TensorRT ``run_with_iobinding`` with input and outputs bound to memory of the device, up to the end
of the work. All graph optimisations are on, as in its default.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.tensors import arrays_of
from cspbench.backends._onnxruntime_profile import ProfiledSession, input_names
from cspbench.backends.spec import (
    BACKENDS,
    SCOPE,
    BackendSpec,
    HostSession,
    LayerSession,
    Throughput,
    Workload,
)
from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.options import Axis, Options, Value, resolve
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np

    from cspbench.artifacts.tensors import Feed

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
PROVIDER = Axis("provider", "cpu", "choice", tuple(PROVIDERS), "execution provider")
#: Concurrent callers on a device: one is submitting while the other one's work is done.
DEVICE_CALLERS = 2


#: Engines in the cache before this process made a session.
_engines_before: frozenset[str] = frozenset()


class OnnxRuntime(BackendSpec):
    """Spec of the backend."""

    def available(self) -> str | None:
        """ONNX Runtime must be installed."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "ONNX Runtime is not installed (pip install onnxruntime)"
        return None

    def device_with(self, options: Options) -> str:
        """The CPU, or a CUDA device with the other two providers."""
        return "cpu" if resolve(self.axes, options)["provider"] == "cpu" else "cuda"

    def load(self, artifact: Path, options: Options, threads: int) -> OnnxRuntimeSession:
        """Make a session with the chosen provider, without a silent fallback to another."""
        version, session = self._session(artifact, options, threads, None)
        device = self.device_with(options)
        kind = OnnxRuntimeSession if device == "cpu" else OnnxRuntimeBoundSession
        return kind(version, session, threads)

    def compiles(self, options: Options) -> bool:
        """TensorRT builds an engine, which takes minutes and stays in its cache."""
        return resolve(self.axes, options)["provider"] == "tensorrt"

    def compiled_from_cache(self) -> bool:
        """True if this process added no engine to the cache."""
        return _engines() == _engines_before

    def throughput(self, work: Workload) -> Throughput:
        """Run concurrent callers of one session; on the CPU one for each thread."""
        from concurrent.futures import ThreadPoolExecutor, wait

        from cspbench.backends.common.throughput import run_for

        on_cpu = self.device_with(work.options) == "cpu"
        callers = work.threads if on_cpu else DEVICE_CALLERS
        threads = 1 if on_cpu else work.threads
        version, session = self._session(work.artifact, work.options, threads, None)
        names = input_names(session)
        slots = threading.Semaphore(callers)
        futures: list[Future[None]] = []
        # More inputs than callers, so that no two use one binding at a time.
        assert on_cpu or len(work.inputs) >= callers

        def on_the_processor(feed: Feed) -> Callable[[], object]:
            named = dict(zip(names, arrays_of(feed), strict=True))
            return lambda: session.run(None, named)

        def on_the_device(feed: Feed) -> Callable[[], object]:
            """Inputs and outputs stay there, as other backends' do: copies have their own scope."""
            bound = OnnxRuntimeBoundSession(version, session, threads)
            bound.set_input(feed)
            return bound.run

        def one(inference: Callable[[], object]) -> None:
            try:
                inference()
            finally:
                slots.release()

        def submit(inference: Callable[[], object]) -> None:
            slots.acquire()
            futures.append(pool.submit(one, inference))

        def finish() -> None:
            wait(futures)
            for future in futures:
                future.result()
            futures.clear()

        ready = [(on_the_processor if on_cpu else on_the_device)(feed) for feed in work.inputs]
        with ThreadPoolExecutor(callers) as pool:
            return run_for(
                submit, ready, work.seconds, in_flight=callers, method="concurrent callers",
                finish=finish,
            )  # fmt: skip

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Times of its kernels from its profile, in whole microseconds."""
        if self.device_with(options) != "cpu":
            raise Unsupported("ONNX Runtime's profile shows when kernels were submitted, not run")
        folder = tempfile.TemporaryDirectory()
        _, session = self._session(artifact, options, threads, f"{folder.name}/profile")
        return ProfiledSession(session, folder)

    def _session(
        self, artifact: Path, options: Options, threads: int, profile: str | None
    ) -> tuple[str, Any]:
        """Return the version and an ``InferenceSession``, with its profiler on if asked for."""
        import onnxruntime

        provider = PROVIDERS[str(resolve(self.axes, options)["provider"])]
        if provider not in onnxruntime.get_available_providers():
            raise Unavailable(f"this build of ONNX Runtime has no {provider}")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3
        if profile is not None:
            settings.enable_profiling = True
            settings.profile_file_prefix = profile
        # A waiting thread that spins takes the processor from whatever is measured beside it.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if provider != PROVIDERS["cpu"]:
            # TensorRT has no option for it; NVIDIA's libraries read this when they are loaded.
            os.environ["NVIDIA_TF32_OVERRIDE"] = "0"
            # Without this the CPU would silently run nodes that the provider cannot.
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            # CUDA and cuDNN of pip's packages lie where no loader looks.
            preload = getattr(onnxruntime, "preload_dlls", None)
            if preload is not None:
                preload()
        chosen = [(provider, _provider_options(provider))]
        if provider == PROVIDERS["tensorrt"]:  # for nodes that TensorRT does not know
            chosen.append((PROVIDERS["cuda"], _provider_options(PROVIDERS["cuda"])))
            global _engines_before  # noqa: PLW0603 - one worker compiles one model
            _engines_before = _engines()
        try:
            session = onnxruntime.InferenceSession(str(artifact), settings, providers=chosen)
        except Exception as error:  # its exceptions share only this base
            raise Unsupported(f"ONNX Runtime cannot load the model: {error}") from error
        if session.get_providers()[0] != provider:
            raise Unavailable(f"ONNX Runtime fell back from {provider}")
        return onnxruntime.__version__, session


def _provider_options(provider: str) -> dict[str, str]:
    """What a provider is told: no TF32, and TensorRT where its engines and timings are kept.

    Without the two caches every process would build the engine anew, for minutes, and choose other
    kernels each time.
    """
    if provider == PROVIDERS["cuda"]:
        return {"use_tf32": "0"}
    if provider == PROVIDERS["tensorrt"]:
        folder = cache_folder("tensorrt")
        make_cache_folder(folder)
        return {
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "True",
            "trt_timing_cache_path": str(folder),
        }
    return {}


def _engines() -> frozenset[str]:
    """Names of the engines in the cache."""
    return frozenset(path.name for path in cache_folder("tensorrt").glob("*.engine"))


class OnnxRuntimeSession(HostSession):
    """A session with the names of its inputs."""

    def __init__(self, version: str, session: Any, threads: int) -> None:
        self._version = version
        self._session = session
        self._threads = threads
        self._names = input_names(session)
        self._feed: dict[str, Any] = {}
        self._outputs: list[Any] = []

    def set_input(self, feed: Feed) -> None:
        self._feed = dict(zip(self._names, arrays_of(feed), strict=True))

    def run(self) -> None:
        self._outputs = self._session.run(None, self._feed)

    def views(self) -> Sequence[np.ndarray]:
        return self._outputs

    def describe(self) -> Mapping[str, Value]:
        return {
            "version": self._version,
            "provider": self._session.get_providers()[0],
            # The others run what it does not know: of TensorRT that is CUDA.
            "providers": ", ".join(self._session.get_providers()),
            "threads": self._threads,
        }

    def close(self) -> None:
        self._session = None


class OnnxRuntimeBoundSession(OnnxRuntimeSession):
    """Input and outputs stay on a device between runs (I/O binding).

    ``where`` is the device as ONNX Runtime names it.
    """

    def __init__(self, version: str, session: Any, threads: int, where: str = "cuda") -> None:
        super().__init__(version, session, threads)
        from cspbench.machine.cuda_device import first_device

        self._where = where
        self._identity = first_device()
        self._values: list[Any] = []
        self._staged: list[list[Any]] = []
        self._binding = session.io_binding()
        for output in session.get_outputs():
            self._binding.bind_output(output.name, where, 0)

    def set_input(self, feed: Feed) -> None:
        """Copy to the device, always into the same memory."""
        if self._values:
            for value, array in zip(self._values, arrays_of(feed), strict=True):
                value.update_inplace(array)
        else:
            self._values = self._there(feed)
        self._bind(self._values)

    def stage(self, feeds: Sequence[Feed]) -> None:
        """Copy inputs to the device, where ``choose`` takes them from."""
        self._staged = [self._there(feed) for feed in feeds]

    def choose(self, number: int) -> None:
        """Let the next run read a staged input; nothing is copied."""
        self._bind(self._staged[number])

    def _there(self, feed: Feed) -> list[Any]:
        import onnxruntime

        make = onnxruntime.OrtValue.ortvalue_from_numpy
        return [make(array, self._where, 0) for array in arrays_of(feed)]

    def _bind(self, values: Sequence[Any]) -> None:
        for name, value in zip(self._names, values, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        self._binding.synchronize_inputs()

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def views(self) -> Sequence[np.ndarray]:
        outputs: Sequence[np.ndarray] = self._binding.copy_outputs_to_cpu()
        return outputs

    def describe(self) -> Mapping[str, Value]:
        return {**super().describe(), **self._identity}


BACKENDS.add(
    OnnxRuntime("onnxruntime", "ONNX Runtime, ONNX", "onnxruntime", "onnx", (PROVIDER, SCOPE))
)
