"""ONNX Runtime: its CPU provider, or CUDA and TensorRT where the installed build has them.

Timed: ``InferenceSession.run`` of all outputs with the input as a numpy array (for CUDA and
TensorRT with the copies to and from the device). All graph optimisations are on, as in its default.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.cache import ArtifactKind
from cspbench.axes import Axis, Options, Value, resolve
from cspbench.backends.spec import BACKENDS, Device, LayerProfile, LayerTime
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    import numpy as np

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


@dataclass(frozen=True)
class OnnxRuntime:
    """Spec of the backend."""

    name: str = "onnxruntime"
    summary: str = "ONNX Runtime, ONNX"
    library: str = "onnxruntime"
    artifact: ArtifactKind = "onnx"
    device: Device = "cpu"
    axes: tuple[Axis, ...] = (
        Axis("provider", "cpu", "choice", tuple(PROVIDERS), "execution provider"),
    )

    def available(self) -> str | None:
        """ONNX Runtime must be installed."""
        if importlib.util.find_spec("onnxruntime") is None:
            return "ONNX Runtime is not installed (pip install 'cspbench[onnx]')"
        return None

    def load(self, artifact: Path, options: Options, threads: int) -> OnnxRuntimeSession:
        """Make a session with the provider asked for, and no silent other one."""
        return OnnxRuntimeSession(*self._session(artifact, options, threads, None), threads)

    def profile_layers(
        self,
        artifact: Path,
        options: Options,
        threads: int,
        inputs: Sequence[np.ndarray],
        seconds: float,
    ) -> LayerProfile:
        """Times of its kernels from its profile, in whole microseconds."""
        from cspbench.backends._layers import WARM_RUNS, combine, repeat

        with tempfile.TemporaryDirectory() as folder:
            _, session = self._session(artifact, options, threads, f"{folder}/profile")
            name = session.get_inputs()[0].name
            totals: list[int] = []

            def run(array: np.ndarray) -> None:
                start = time.perf_counter_ns()
                session.run(None, {name: array})
                totals.append(time.perf_counter_ns() - start)

            runs = repeat(run, inputs, seconds)
            events = json.loads(Path(session.end_profiling()).read_text())
        found = kernel_times(events)[WARM_RUNS:]
        return combine(totals[WARM_RUNS:], found, runs, "ONNX Runtime's profile")

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
        try:
            session = onnxruntime.InferenceSession(str(artifact), settings, providers=[provider])
        except Exception as error:  # its exceptions share only this base
            raise Unsupported(f"ONNX Runtime cannot load the model: {error}") from error
        if session.get_providers()[0] != provider:
            raise Unavailable(f"ONNX Runtime fell back from {provider}")
        return onnxruntime.__version__, session


def kernel_times(events: Sequence[dict[str, Any]]) -> list[list[LayerTime]]:
    """Kernels of every run in an ONNX Runtime profile, in the order of execution.

    A kernel bears the name of the last node that was fused into it, with marks of the layout.
    """
    runs: list[list[LayerTime]] = []
    spans = [event for event in events if event.get("name") == "model_run"]
    kernels = [
        event
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    for span in sorted(spans, key=lambda event: int(event["ts"])):
        begin, end = span["ts"], span["ts"] + span["dur"]
        inside = [event for event in kernels if begin <= event["ts"] <= end]
        runs.append(
            [_kernel(event) for event in sorted(inside, key=lambda event: int(event["ts"]))]
        )
    return runs


def _kernel(event: dict[str, Any]) -> LayerTime:
    name = event["name"].removesuffix("_kernel_time")
    node = re.sub(r"(_output_\d+)?(_nchwc)?(_token_\d+)?$", "", name)
    op = str(event["args"].get("op_name", ""))
    return LayerTime(name, op, int(event["dur"]) * 1000, (node,))


class OnnxRuntimeSession:
    """A session with its input's name."""

    def __init__(self, version: str, session: Any, threads: int) -> None:
        self._version = version
        self._session = session
        self._threads = threads
        self._input_name = session.get_inputs()[0].name
        self._feed: dict[str, Any] = {}
        self._outputs: list[Any] = []

    def set_input(self, array: np.ndarray) -> None:
        self._feed = {self._input_name: array}

    def run(self) -> None:
        self._outputs = self._session.run(None, self._feed)

    def outputs(self) -> Sequence[np.ndarray]:
        return list(self._outputs)

    def describe(self) -> Mapping[str, Value]:
        return {
            "version": self._version,
            "provider": self._session.get_providers()[0],
            "threads": self._threads,
        }

    def close(self) -> None:
        self._session = None


BACKENDS.add(OnnxRuntime())
