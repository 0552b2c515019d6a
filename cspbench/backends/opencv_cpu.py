"""OpenCV's dnn module on the CPU: the paper's "CPU through OpenCV".

Timed: ``Net.forward`` of all outputs, with what the net does to the blob first. ``Net.setInput``,
which copies the blob, is not timed. OpenCV 5 has two engines: ``new`` (its default) and
``classic`` (that of OpenCV 4); the engine that ran is recorded, because OpenCV does not report it.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cspbench.artifacts.tensors import arrays_of
from cspbench.backends.common.profiling import Profiled, RecordingSession
from cspbench.backends.spec import (
    ALLOCATOR,
    BACKENDS,
    SCOPE,
    BackendSpec,
    HostSession,
    LayerSession,
    LayerTime,
)
from cspbench.core.options import Axis, Options, Value, resolve
from cspbench.errors import Unsupported
from cspbench.models.sources.onnx import stated_inputs

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.models.inputs import StatedInput, TensorInput


ENGINE = Axis("engine", "auto", "choice", ("auto", "classic", "new"), "OpenCV 5's two dnn engines")


class OpenCvCpu(BackendSpec):
    """Spec of the backend."""

    def available(self) -> str | None:
        """OpenCV must be installed."""
        if importlib.util.find_spec("cv2") is None:
            return "OpenCV is not installed (pip install opencv-python-headless)"
        return None

    def refuses_inputs(self, inputs: Sequence[TensorInput]) -> str | None:
        """All inputs must be float32."""
        return refuse_inputs(inputs)

    def load(self, artifact: Path, options: Options, threads: int) -> OpenCvSession:
        """Read the ONNX file with the engine asked for; ``auto`` is new, else classic."""
        import cv2

        cv2.setNumThreads(threads)
        choice = str(resolve(self.axes, options)["engine"])
        return OpenCvSession(cv2, _read(cv2, artifact, choice), threads, _input_names(artifact))

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Times by ``Net.getPerfProfile``; an entry that was fused into another one reads 0."""
        import cv2

        cv2.setNumThreads(threads)
        choice = str(resolve(self.axes, options)["engine"])
        return ProfiledNet(cv2, _read(cv2, artifact, choice), _input_names(artifact))


class ProfiledNet(RecordingSession):
    """A net whose layers are timed by ``Net.getPerfProfile``, which every inference fills in."""

    def __init__(self, cv2: Any, read: _Read, inputs: Sequence[str]) -> None:
        super().__init__()
        self._net, self._inputs = read.net, inputs
        self.method = f"OpenCV getPerfProfile, {read.engine} engine"
        self._outputs = self._net.getUnconnectedOutLayersNames()
        self._names = self._net.getLayerNames()
        self._kinds = _layer_types(cv2, self._net)
        self._tick_ns = 1e9 / cv2.getTickFrequency()

    def once(self, feed: Feed) -> Profiled:
        """One inference."""
        _set_inputs(self._net, self._inputs, feed)
        start = time.perf_counter_ns()
        self._net.forward(self._outputs)
        total = time.perf_counter_ns() - start
        ticks = self._net.getPerfProfile()[1].ravel()
        if len(ticks) != len(self._names):
            raise Unsupported(
                f"getPerfProfile has {len(ticks)} times for {len(self._names)} layers"
            )
        names = [name.removeprefix("onnx_node!") for name in self._names]
        return total, [
            LayerTime(name, self._kinds.get(full, ""), int(tick * self._tick_ns), (name,))
            for full, name, tick in zip(self._names, names, ticks, strict=True)
        ]


def _input_names(artifact: Path) -> list[str]:
    """Names of the inputs, which a net does not tell.

    Raises:
        Unsupported: an input has a type that OpenCV's matrices or its importer do not have.
    """
    stated = stated_inputs(artifact)
    refused = refuse_inputs(stated)
    if refused:
        raise Unsupported(refused)
    return [one.name for one in stated]


def refuse_inputs(inputs: Sequence[TensorInput | StatedInput]) -> str | None:
    """Why inputs cannot be read: OpenCV's matrices and its importer lack the other types."""
    return next(
        (f"OpenCV reads inputs of float32; {one.name!r} is {one.dtype}"
         for one in inputs if one.dtype != "float32"),
        None,
    )  # fmt: skip


def _set_inputs(net: Any, names: Sequence[str], feed: Feed) -> None:
    arrays = arrays_of(feed)
    if len(arrays) == 1:
        net.setInput(arrays[0])
        return
    for name, array in zip(names, arrays, strict=True):
        net.setInput(array, name)


def _layer_types(cv2: Any, net: Any) -> dict[str, str]:
    """Type of every layer by its name; the engines number their layers from 0 or from 1."""
    kinds = {}
    for number in range(len(net.getLayerNames()) + 1):
        try:
            layer = net.getLayer(number)
        except cv2.error:  # one past the end, or an engine without types
            continue
        kinds[layer.name] = layer.type
    return kinds


class _Read(NamedTuple):
    """A net, the engine that read it, and why ``auto``'s first choice did not."""

    net: Any
    engine: str
    fallback: str = ""


def _read(cv2: Any, artifact: Path, choice: str) -> _Read:
    """Read the artifact with the engine asked for; only ``auto`` may get another one."""
    flags = {"new": "ENGINE_NEW", "classic": "ENGINE_CLASSIC"}
    there = [engine for engine, flag in flags.items() if hasattr(cv2.dnn, flag)]
    if not there:
        if choice == "new":
            raise Unsupported(f"OpenCV {cv2.__version__} has only the classic engine")
        try:
            return _Read(cv2.dnn.readNetFromONNX(str(artifact)), "classic")
        except cv2.error as error:
            raise Unsupported(f"OpenCV cannot read the model: {error.err or error}") from error
    if choice not in ("auto", *there):
        raise Unsupported(f"OpenCV {cv2.__version__} has no {choice} engine")
    reasons = []
    for engine in there if choice == "auto" else (choice,):
        try:
            net = cv2.dnn.readNetFromONNX(str(artifact), getattr(cv2.dnn, flags[engine]))
        except cv2.error as error:
            reasons.append(f"the {engine} engine cannot read the model: {error.err or error}")
            continue
        if not net.empty():
            return _Read(net, engine, "; ".join(reasons))
        reasons.append(f"the {engine} engine read an empty net")
    raise Unsupported("; ".join(reasons))


class OpenCvSession(HostSession):
    """A net with its output names."""

    def __init__(self, cv2: Any, read: _Read, threads: int, inputs: Sequence[str] = ()) -> None:
        self._cv2 = cv2
        self._inputs = inputs
        self._net, self._engine, self._fallback = read
        self._threads = threads
        self._names = self._net.getUnconnectedOutLayersNames()
        self._outputs: Sequence[Any] = ()

    def set_input(self, feed: Feed) -> None:
        _set_inputs(self._net, self._inputs, feed)

    def run(self) -> None:
        self._outputs = self._net.forward(self._names)

    def views(self) -> Sequence[np.ndarray]:
        return self._outputs

    def pre_process(self, images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """By ``blobFromImages``: resize, scale, BGR to RGB, layout."""
        blob: np.ndarray = self._cv2.dnn.blobFromImages(
            list(images), 1 / 255, size[::-1], swapRB=True
        )
        return blob

    def post_process(self, heads: np.ndarray) -> Sequence[int]:
        """Decoding in numpy, NMS by ``NMSBoxesBatched``."""
        from cspbench.backends.common.pipeline import MAX_OVERLAP, MIN_SCORE, decode

        boxes, scores, classes, numbers = decode(heads)
        kept = self._cv2.dnn.NMSBoxesBatched(boxes, scores, classes, MIN_SCORE, MAX_OVERLAP)
        return [int(number) for number in numbers[kept]]

    def describe(self) -> Mapping[str, Value]:
        return {
            "version": self._cv2.__version__,
            "engine": self._engine,
            "threads": self._cv2.getNumThreads(),
            "requested_threads": self._threads,
            **({"fallback": self._fallback} if self._fallback else {}),
        }

    def close(self) -> None:
        self._net = None


BACKENDS.add(
    OpenCvCpu(
        "opencv-cpu", "OpenCV dnn on the CPU, ONNX", "cv2", "onnx", (ALLOCATOR, ENGINE, SCOPE)
    )
)
