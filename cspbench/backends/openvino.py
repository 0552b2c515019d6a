"""OpenVINO on the CPU, with single precision demanded (its default may be bfloat16).

Timed: ``InferRequest.infer``; the input tensor is shared, so nothing is copied before it.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.artifacts.tensors import arrays_of
from cspbench.backends.spec import (
    BACKENDS,
    SCOPE,
    BackendSpec,
    HostSession,
    LayerProfile,
    LayerSession,
    LayerTime,
    Throughput,
    Workload,
)
from cspbench.core.options import Options, Value
from cspbench.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed


class OpenVino(BackendSpec):
    """Spec of the backend."""

    def available(self) -> str | None:
        """OpenVINO must be installed."""
        if importlib.util.find_spec("openvino") is None:
            return "OpenVINO is not installed (pip install openvino)"
        return None

    def load(self, artifact: Path, options: Options, threads: int) -> OpenVinoSession:  # noqa: ARG002 - none is the engine's
        """Compile the model for latency on ``threads`` threads."""
        return OpenVinoSession(*self._compiled(artifact, threads))

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:  # noqa: ARG002 - none is the engine's
        """Times by ``InferRequest.get_profiling_info``, in whole microseconds."""
        return ProfiledRequest(*self._compiled(artifact, threads, PERF_COUNT=True))

    def throughput(self, work: Workload) -> Throughput:
        """Asynchronous requests, as many as OpenVINO recommends for throughput on ``threads``."""
        from cspbench.backends.common.throughput import run_for

        openvino, compiled = self._compiled(
            work.artifact, work.threads,
            PERFORMANCE_HINT="THROUGHPUT", NUM_STREAMS=work.threads,
        )  # fmt: skip
        in_flight = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
        queue = openvino.AsyncInferQueue(compiled, in_flight)
        return run_for(
            lambda feed: queue.start_async(dict(enumerate(arrays_of(feed))), share_inputs=True),
            work.inputs,
            work.seconds, in_flight=in_flight, method="asynchronous requests",
            finish=queue.wait_all,
        )  # fmt: skip

    def _compiled(self, artifact: Path, threads: int, **more: object) -> tuple[Any, Any]:
        """Return the module and the compiled model."""
        import openvino

        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            **more,
        }
        try:
            compiled = core.compile_model(core.read_model(str(artifact)), "CPU", settings)
        except RuntimeError as error:
            raise Unsupported(f"OpenVINO cannot load the model: {error}") from error
        return openvino, compiled


class ProfiledRequest:
    """A request of a model that was compiled with performance counters.

    The counters are means over all inferences since the model was compiled, rounded down
    (``Graph::GetPerfData`` of the CPU plugin), so they are read twice: when the first inferences
    have warmed up, and at the end.
    """

    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._openvino = openvino
        self._request = compiled.create_infer_request()
        self._members = _original_names(compiled)
        self._before: dict[str, int] = {}
        self._totals: list[int] = []
        self._warm = 0

    def run(self, feed: Feed) -> int:
        """One inference."""
        _set_inputs(self._openvino, self._request, feed)
        start = time.perf_counter_ns()
        self._request.infer()
        self._totals.append(time.perf_counter_ns() - start)
        return self._totals[-1]

    def begin(self) -> None:
        """Forget the inferences so far."""
        self._warm = len(self._totals)
        self._before = {
            info.node_name: _mean_ns(info) for info in self._request.get_profiling_info()
        }

    def profile(self) -> LayerProfile:
        """Means of the inferences since `begin`."""
        count = len(self._totals)
        measured = self._totals[self._warm :]
        entries = tuple(
            LayerTime(info.node_name, info.node_type,
                      mean_between(self._before.get(info.node_name, 0), self._warm,
                                   _mean_ns(info), count),
                      self._members.get(info.node_name, ()))
            for info in self._request.get_profiling_info()
            if info.status.name == "EXECUTED"  # 2024.4 does not export the enumeration
        )  # fmt: skip
        mean = sum(measured) // len(measured)
        return LayerProfile(entries, mean, len(measured), "OpenVINO's profiling info")


def _set_inputs(openvino: Any, request: Any, feed: Feed) -> None:
    for number, array in enumerate(arrays_of(feed)):
        request.set_input_tensor(number, openvino.Tensor(array, shared_memory=True))


def mean_between(mean_before: int, before: int, mean_after: int, after: int) -> int:
    """Mean of the runs from number ``before`` to number ``after``, of two running means in ns.

    >>> mean_between(30, 2, 14, 10)  # (10 * 14 - 2 * 30) / 8
    10
    """
    return max(0, round((after * mean_after - before * mean_before) / (after - before)))


def _mean_ns(info: Any) -> int:
    return 1000 * int(info.real_time / timedelta(microseconds=1))


def _original_names(compiled: Any) -> dict[str, tuple[str, ...]]:
    """Nodes of the ONNX file that each executed node contains."""
    members = {}
    for node in compiled.get_runtime_model().get_ordered_ops():
        names = str(node.get_rt_info()["originalLayersNames"].astype(str)).split(",")
        members[node.get_friendly_name()] = tuple(name for name in names if name)
    return members


class OpenVinoSession(HostSession):
    """One inference request of a compiled model."""

    def __init__(self, openvino: Any, compiled: Any) -> None:
        self._openvino = openvino
        self._compiled = compiled
        self._request = compiled.create_infer_request()

    def set_input(self, feed: Feed) -> None:
        _set_inputs(self._openvino, self._request, feed)

    def run(self) -> None:
        self._request.infer()

    def views(self) -> Sequence[np.ndarray]:
        count = len(self._compiled.outputs)
        return [self._request.get_output_tensor(i).data for i in range(count)]

    def describe(self) -> Mapping[str, Value]:
        return {
            "version": self._openvino.get_version(),
            "threads": int(self._compiled.get_property("INFERENCE_NUM_THREADS")),
            "precision": str(self._compiled.get_property("INFERENCE_PRECISION_HINT")),
        }

    def close(self) -> None:
        self._request = None


BACKENDS.add(OpenVino("openvino", "OpenVINO on the CPU, fp32, ONNX", "openvino", "onnx", (SCOPE,)))
