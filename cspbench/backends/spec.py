"""What a backend is: a light spec that plans, and a session that runs inside a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from cspbench.artifacts.cache import ArtifactKind
from cspbench.core.bounds import Count, Positive
from cspbench.core.options import Axis, Options, Value
from cspbench.core.registry import Registry

if TYPE_CHECKING:
    import numpy as np


Device = Literal["cpu", "cuda"]

#: What a latency spans (docs/backends.md). Every backend of ours has it among its axes, so that it
#: is part of a case's id.
SCOPE = Axis(
    "scope",
    "inference",
    "choice",
    ("inference", "end_to_end", "pipeline"),
    "inference: input in place; end_to_end: host memory to host memory; "
    "pipeline: from an image, for detectors to boxes",
)


class Session(Protocol):
    """A loaded model inside one worker process; ``run`` is what the clock surrounds."""

    def set_input(self, array: np.ndarray) -> None:
        """Put one input (batch, 3, height, width; float32) where ``run`` reads it; not timed."""

    def run(self) -> None:
        """One inference; returns when its result is complete."""

    def outputs(self) -> Sequence[np.ndarray]:
        """Outputs of the last ``run``, float32, in the model's order."""

    def describe(self) -> Mapping[str, Value]:
        """Facts of what ran: version, engine, threads."""

    def close(self) -> None:
        """Free the model."""


class HostSession(Session, Protocol):
    """What a session offers where its backend has the axis ``scope``: ours inherit from it."""

    def views(self) -> Sequence[np.ndarray]:
        """Outputs of the last ``run`` in host memory, float32; valid until the next one."""

    def outputs(self) -> Sequence[np.ndarray]:
        return [view.copy() for view in self.views()]

    def infer(self, array: np.ndarray) -> Sequence[np.ndarray]:
        """Scope ``end_to_end``: from an input in host memory to outputs in host memory."""
        self.set_input(array)
        self.run()
        return self.views()

    def pre_process(self, images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Scope ``pipeline``: uint8 images (batch, height, width, BGR) to an input of ``size``."""
        from cspbench.backends._pipeline import pre_process

        return pre_process(images, size)

    def post_process(self, heads: np.ndarray) -> Sequence[int]:
        """Scope ``pipeline``: the candidates of one image that decoding and NMS keep."""
        from cspbench.backends._pipeline import decode, suppress

        return suppress(*decode(heads))


@runtime_checkable
class DeviceMemory(Protocol):
    """What a session on an accelerator may offer besides."""

    def device_peak_bytes(self) -> int:
        """Peak of the memory that this process took on the device."""


@dataclass(frozen=True)
class LayerTime:
    """Time of one entry of a backend's own profiler.

    ``members`` are the nodes of the artifact that it is known to hold (ONNX node names, names of
    the exported graph's nodes); empty if the backend does not tell.
    """

    name: str
    op: str
    ns: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerProfile:
    """What a profiler told: median time of every entry, in the order of execution.

    ``total_ns`` is the median of the whole inference by our clock, with the profiler at work; what
    the entries leave of it is time that the backend spends between layers.
    """

    entries: tuple[LayerTime, ...]
    total_ns: int
    runs: int
    method: str


@runtime_checkable
class LayerProfiler(Protocol):
    """What a backend with a profiler of its own offers besides."""

    def profile_layers(
        self,
        artifact: Path,
        options: Options,
        threads: int,
        inputs: Sequence[np.ndarray],
        seconds: float,
    ) -> LayerProfile:
        """Load the artifact with the profiler on, and run it for about ``seconds``.

        Raises:
            Unsupported: layers cannot be told apart with these options.
        """


@runtime_checkable
class DeviceTimes(Protocol):
    """What a session on an accelerator may tell beside the host's clock."""

    def device_times(self, count: int) -> Mapping[str, int]:
        """Medians over the last ``count`` runs in ns, by what they are of."""


@dataclass(frozen=True)
class BackendSpec:
    """The fields of a spec: what a backend's file fills in (see :class:`Backend`)."""

    name: str
    summary: str
    library: str
    artifact: ArtifactKind
    axes: tuple[Axis, ...]
    device: Device = "cpu"


@dataclass(frozen=True)
class Throughput:
    """So many inferences in so many ns, up to ``in_flight`` of them at a time."""

    inferences: Positive
    ns: Positive
    in_flight: Count = 1
    method: str = ""


@runtime_checkable
class Pipelines(Protocol):
    """What a backend offers besides that can overlap inferences; others run back to back."""

    def throughput(
        self,
        artifact: Path,
        options: Options,
        threads: int,
        inputs: Sequence[np.ndarray],
        seconds: float,
    ) -> Throughput:
        """Load the artifact for throughput, and run it for about ``seconds``."""


@runtime_checkable
class ChoosesDevice(Protocol):
    """What a backend offers besides whose options choose where it runs."""

    def device_with(self, options: Options) -> Device:
        """The device on which inferences run."""


@runtime_checkable
class Warms(Protocol):
    """What a backend offers that imports or starts much: that is not the model's memory."""

    def warm(self, options: Options) -> None:
        """Do it now, as these options need it."""


@runtime_checkable
class Compiles(Protocol):
    """What a backend that compiles into a cache that stays offers besides."""

    def compiles(self, options: Options) -> bool:
        """True if a launch of its own must fill the cache before any launch is timed."""

    def compiled_from_cache(self) -> bool:
        """True if what this process compiled was in the cache already."""


class Backend(Protocol):
    """A way to run a model on this machine. Methods but ``load`` import nothing heavy."""

    @property
    def name(self) -> str: ...

    @property
    def summary(self) -> str: ...

    @property
    def library(self) -> str:
        """Module that ``load`` imports; its own memory is not the model's."""

    @property
    def artifact(self) -> ArtifactKind: ...

    @property
    def device(self) -> Device: ...

    @property
    def axes(self) -> tuple[Axis, ...]: ...

    def available(self) -> str | None:
        """None if this machine can run it, else the reason in one phrase."""

    def load(self, artifact: Path, options: Options, threads: int) -> Session:
        """Load the artifact (in the worker).

        Raises:
            Unsupported: this backend cannot run this model or setting.
            Unavailable: this machine lacks something that only loading shows.
        """


def device_of(backend: Backend, options: Options) -> Device:
    """Where a backend runs with these options."""
    if isinstance(backend, ChoosesDevice):
        return backend.device_with(options)
    return backend.device


@dataclass(frozen=True)
class Tolerance:
    """Agreement with torch: bound of max abs(error) / max abs(output)."""

    fp32: float = 1e-4
    tf32: float = 1e-2
    fp16: float = 1e-2
    bf16: float = 5e-2


BACKENDS: Registry[Backend] = Registry("backend", ("cspbench.backends",), "cspbench.backends")
