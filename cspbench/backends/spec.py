"""What a backend is: a light spec that plans, and a session that runs inside a worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cspbench.core.bounds import Count, Positive
from cspbench.core.options import Axis, Options, Value
from cspbench.core.registry import Registry
from cspbench.machine.devices.spec import HOST

if TYPE_CHECKING:
    import numpy as np

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
        from cspbench.backends.common.pipeline import pre_process

        return pre_process(images, size)

    def post_process(self, heads: np.ndarray) -> Sequence[int]:
        """Scope ``pipeline``: the candidates of one image that decoding and NMS keep."""
        from cspbench.backends.common.pipeline import decode, suppress

        return suppress(*decode(heads))


@runtime_checkable
class DeviceMemory(Protocol):
    """What a session may offer whose model lies in memory of its own: an account of it."""

    def device_used_bytes(self) -> int:
        """Bytes that this process's models, inputs and activations take there now."""

    def device_peak_bytes(self) -> int:
        """Most of them at a time since ``reset_device_peak``, or since the process began."""

    def reset_device_peak(self) -> None:
        """Begin a new peak at what is used now."""


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
    artifact: str
    axes: tuple[Axis, ...]
    device: str = HOST


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

    def device_with(self, options: Options) -> str:
        """Name of the device on which inferences run."""


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
    def artifact(self) -> str:
        """Name of the artifact kind that ``load`` reads."""

    @property
    def device(self) -> str:
        """Name of the device on which inferences run."""

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


def device_of(backend: Backend, options: Options) -> str:
    """Name of the device on which a backend runs with these options."""
    if isinstance(backend, ChoosesDevice):
        return backend.device_with(options)
    return backend.device


def precision_of(backend: Backend, options: Options) -> str:
    """In which precision a backend computes with these options; fp32 where it has no choice."""
    defaults = {axis.name: axis.default for axis in backend.axes}
    return str(options.get("precision", defaults.get("precision", "fp32")))


@dataclass(frozen=True)
class Precision:
    """Arithmetic that backends offer, by its name on their axis ``precision``.

    ``tolerance`` is its agreement with the reference: the bound of max abs(error) /
    max abs(output), for the ``reason`` given. ``element_bytes`` is the size of a weight or
    activation in memory.
    """

    name: str
    tolerance: float
    element_bytes: float
    reason: str


#: A backend's file, here or in another package, registers a precision that is not yet there.
PRECISIONS: Registry[Precision] = Registry(
    "precision", ("cspbench.backends",), "cspbench.precisions", "cspbench.backends"
)
for _precision in (
    Precision("fp32", 1e-4, 4, "24 bits of mantissa; engines sum in another order"),
    Precision("tf32", 1e-2, 4, "11 bits of mantissa"),
    Precision("fp16", 1e-2, 2, "11 bits of mantissa"),
    Precision("bf16", 5e-2, 2, "8 bits of mantissa"),
):
    PRECISIONS.add(_precision)


def unknown_precision(backend: Backend, options: Options) -> str | None:
    """Why agreement cannot be judged with these options; None if it can."""
    precision = precision_of(backend, options)
    if precision in PRECISIONS:
        return None
    return (
        f"{backend.name} computes in {precision}, and nothing says how far that may be from the "
        f"reference: its file must register the precision (known: {', '.join(PRECISIONS.names())})"
    )


BACKENDS: Registry[Backend] = Registry("backend", ("cspbench.backends",), "cspbench.backends")


def libraries() -> list[str]:
    """What the registered backends run on: modules, and distributions that brought a backend.

    Their versions are facts of a machine (``machine/facts.py``), which may not ask the backends.
    """
    modules = {backend.library.partition(".")[0] for backend in BACKENDS}
    return sorted(modules | set(BACKENDS.distributions()))
