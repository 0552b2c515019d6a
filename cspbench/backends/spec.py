"""What a backend is: a light spec that plans, and a session that runs inside a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from cspbench.artifacts.cache import ArtifactKind
from cspbench.axes import Axis, Options, Value
from cspbench.registry import Registry

if TYPE_CHECKING:
    import numpy as np


Device = Literal["cpu", "cuda"]


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


@runtime_checkable
class Warms(Protocol):
    """What a backend offers whose ``load`` imports much: that is not the model's memory."""

    def warm(self) -> None:
        """Import it now."""


@runtime_checkable
class Compiles(Protocol):
    """What a backend that compiles into a cache that stays offers besides."""

    def compiles(self, options: Options) -> bool:
        """True if a launch of its own must fill the cache before any launch is timed."""


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


@dataclass(frozen=True)
class Tolerance:
    """Agreement with torch: bound of max abs(error) / max abs(output)."""

    fp32: float = 1e-4
    tf32: float = 1e-2
    fp16: float = 1e-2
    bf16: float = 5e-2


BACKENDS: Registry[Backend] = Registry("backend", ("cspbench.backends",), "cspbench.backends")
