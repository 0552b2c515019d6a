"""The protocols of a backend: a light spec for planning, and a session inside a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cspbench.core.bounds import Count, Positive
from cspbench.core.options import Axis, Options, Value
from cspbench.core.registry import Registry
from cspbench.machine.devices.spec import HOST

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.backends.common.device_clock import DeviceSamples
    from cspbench.models.inputs import TensorInput

#: The work that a latency spans (docs/backends.md). Every backend of cspbench has this axis, so it
#: is part of a case's id.
SCOPE = Axis(
    "scope",
    "inference",
    "choice",
    ("inference", "end_to_end", "pipeline"),
    "inference: input in place; end_to_end: host memory to host memory; "
    "pipeline: from an image, for detectors to boxes",
)


#: What becomes of memory that an inference frees, for backends that take theirs from malloc.
ALLOCATOR = Axis(
    "allocator",
    "system",
    "choice",
    ("system", "retained"),
    "system: as users get it; retained: large blocks stay with the process, which saves the page "
    "faults of getting them anew",
)
#: Keeps them in glibc (mallopt(3)): no block is mapped by itself, and the heap is never trimmed.
RETAINED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def allocator_environment(options: Options) -> Mapping[str, str]:
    """Variables that a worker of a backend with these options needs before it starts."""
    return RETAINED if options.get(ALLOCATOR.name) == "retained" else {}


def unsupported_option(options: Options) -> str | None:
    """Why this system cannot do what an option asks of the worker; None if it can."""
    import platform

    if allocator_environment(options) and platform.libc_ver()[0] != "glibc":
        return "allocator=retained needs glibc, whose malloc it sets"
    return None


class Session(Protocol):
    """A loaded model inside one worker process; the clock surrounds ``run``."""

    def set_input(self, feed: Feed) -> None:
        """Put the input of one inference where ``run`` reads it; not timed.

        An array, or a tuple of arrays where the model has several inputs, in their order. A network
        for images reads (batch, 3, height, width), float32.
        """

    def run(self) -> None:
        """One inference; returns when its result is complete."""

    def outputs(self) -> Sequence[np.ndarray]:
        """Outputs of the last ``run``, float32, in the model's order."""

    def describe(self) -> Mapping[str, Value]:
        """Facts of the loaded model: version, engine, threads."""

    def close(self) -> None:
        """Free the model."""


class HostSession(Session, Protocol):
    """A session of a backend with the axis ``scope``; cspbench's sessions inherit from it."""

    def views(self) -> Sequence[np.ndarray]:
        """Outputs of the last ``run`` in host memory, float32; valid until the next one."""

    def outputs(self) -> Sequence[np.ndarray]:
        return [view.copy() for view in self.views()]

    def infer(self, feed: Feed) -> Sequence[np.ndarray]:
        """Scope ``end_to_end``: from an input in host memory to outputs in host memory."""
        self.set_input(feed)
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
    """Optional for sessions whose model lies in a device's memory: an account of that memory."""

    def device_used_bytes(self) -> int:
        """Bytes of this process's models, inputs and activations on the device now."""

    def device_peak_bytes(self) -> int:
        """The peak of these bytes since ``reset_device_peak``, or since the process began."""

    def reset_device_peak(self) -> None:
        """Begin a new peak at the bytes that are used now."""


@runtime_checkable
class ReservesMemory(Protocol):
    """Optional besides `DeviceMemory`: what an allocator holds that belongs to no tensor."""

    def device_reserved(self) -> Mapping[str, int]:
        """Bytes by fields of ``MemoryUse``; the last call to a session."""


@dataclass(frozen=True)
class Workload:
    """What overlapped inferences run: ``inputs`` in turn, for about ``seconds``."""

    artifact: Path
    options: Options
    threads: int
    inputs: Sequence[Feed]
    seconds: float


@dataclass(frozen=True)
class LayerTime:
    """Time of one entry of a backend's own profiler.

    ``members`` are the nodes of the artifact that the entry contains (ONNX node names, names of
    the exported graph's nodes); empty if the backend does not report them.
    """

    name: str
    op: str
    ns: int
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerProfile:
    """Mean times of ``runs`` inferences, by entry in the order of execution.

    ``total_ns`` is the mean of the whole inferences by cspbench's clock, with the profiler on. Its
    part that no entry covers is time that the backend spends between layers, and before and after
    all of them. ``between_ns`` is that from entry to entry alone, where the profiler tells it.
    """

    entries: tuple[LayerTime, ...]
    total_ns: int
    runs: int
    method: str
    between_ns: int = 0


class LayerSession(Protocol):
    """A loaded model with the backend's own profiler at work."""

    def run(self, feed: Feed) -> int:
        """One inference; returns its time in ns, which holds what the profiler itself costs."""

    def begin(self) -> None:
        """Forget the inferences so far: they warmed up."""

    def profile(self) -> LayerProfile:
        """Of the inferences since `begin`; there were some. It ends the session."""


@runtime_checkable
class Rehearses(Protocol):
    """Optional for layer sessions: a replay warms the memory that a layer writes."""

    def rehearse(self, feed: Feed) -> None:
        """One inference that the profile leaves out."""


@runtime_checkable
class LayerProfiler(Protocol):
    """Optional for backends with a profiler of their own."""

    def load_profiled(self, artifact: Path, options: Options, threads: int) -> LayerSession:
        """Load the artifact with the profiler on.

        Raises:
            Unsupported: single layers cannot be timed with these options.
        """


@dataclass(frozen=True)
class SingleLayer:
    """One layer of a network that a backend can run alone.

    Layers with the same ``key`` take the same time. ``nodes`` are those of the artifact. ``load``
    makes it ready, with the backend's profiler on, for inputs of the ``shape``. With
    ``small_weights``, which take less memory than what the layer reads and writes, a replay may run
    it once more before it is timed; large ones must be found as cold as a network's last inference
    left them.
    """

    key: str
    nodes: tuple[str, ...]
    shape: tuple[int, ...]
    load: Callable[[], LayerSession]
    small_weights: bool = False


@runtime_checkable
class SingleLayers(Protocol):
    """Optional for backends that run single layers of a network in a way of their own.

    Of ONNX files every layer profiler can do it.
    """

    def single_layers(
        self, artifact: Path, options: Options, threads: int
    ) -> Iterable[SingleLayer]:
        """The layers of an artifact, in its order."""


#: Among a session's device times: they hold gaps in which the device waited for the host.
GAPS_INCLUDED = "gaps_included"


@runtime_checkable
class DeviceTimes(Protocol):
    """Optional for sessions on an accelerator: times besides those of the host's clock."""

    def device_times(self, count: int) -> Mapping[str, int]:
        """Medians in ns by name of the time, or GAPS_INCLUDED: 1.

        They are over the last ``count`` runs, or at most so many more.
        """


@runtime_checkable
class StagesInputs(Protocol):
    """Optional for sessions on an accelerator: inputs wait on the device.

    Then nothing but inferences is between two timed ones, and the device does not idle.
    """

    def stage(self, feeds: Sequence[Feed]) -> None:
        """Copy inputs to the device, once."""

    def choose(self, number: int) -> None:
        """Let the next ``run`` read this one of them; not timed."""


@runtime_checkable
class SamplesDevice(Protocol):
    """Optional for sessions on an accelerator: the device's own time of single inferences."""

    def device_samples(self, count: int, seconds: float) -> DeviceSamples:
        """Time at most so many more inferences for about so long."""

    def medians(self, samples: DeviceSamples) -> Mapping[str, int]:
        """Their medians in ns, by name of the time."""

    def parts(self, feeds: Sequence[Feed]) -> Mapping[str, int]:
        """Medians in ns of the parts of scope ``end_to_end``, by name."""


@runtime_checkable
class Extends(Protocol):
    """Optional for sessions with `DeviceTimes`: work of the device's own behind each inference."""

    def extend(self, share: float) -> None:
        """Let later inferences take longer on the device by a share of their time."""

    def switch_extension(self, on: bool) -> None:
        """Let them take no longer, or again as long as `extend` was asked for."""


@dataclass(frozen=True)
class Kernels:
    """What a device did in one inference, by its tracer (CUPTI).

    ``count`` kernels took ``busy_ns``; copies and settings of memory on the device took
    ``copies_ns``. ``runs`` is how many inferences these are medians of.
    """

    count: Count
    busy_ns: Count
    copies_ns: Count = 0
    runs: Count = 0


@runtime_checkable
class TracesKernels(Protocol):
    """Optional for sessions on an accelerator with a tracer."""

    def kernels(self) -> Kernels | None:
        """Trace a few more inferences; None if the tracer saw nothing."""


@dataclass(frozen=True)
class BackendSpec:
    """The fields of a spec, which a backend's file fills in (see :class:`Backend`)."""

    name: str
    summary: str
    library: str
    artifact: str
    axes: tuple[Axis, ...]
    device: str = HOST


@dataclass(frozen=True)
class Throughput:
    """``inferences`` ran in ``ns``, up to ``in_flight`` of them at a time."""

    inferences: Positive
    ns: Positive
    in_flight: Count = 1
    method: str = ""


@runtime_checkable
class Pipelines(Protocol):
    """Optional for backends that can overlap inferences; others run them back to back."""

    def throughput(self, work: Workload) -> Throughput:
        """Load the artifact for throughput, and run the work."""


@runtime_checkable
class RefusesInputs(Protocol):
    """Optional for backends that cannot read every type of input; a plan asks."""

    def refuses_inputs(self, inputs: Sequence[TensorInput]) -> str | None:
        """Why the backend cannot read these inputs of a model; None if it can."""


@runtime_checkable
class ChoosesDevice(Protocol):
    """Optional for backends whose options choose the device."""

    def device_with(self, options: Options) -> str:
        """Name of the device on which inferences run."""


@runtime_checkable
class Warms(Protocol):
    """Optional for backends whose imports and start take memory that is not the model's."""

    def warm(self, options: Options) -> None:
        """Import and start now everything that these options need."""


@runtime_checkable
class Compiles(Protocol):
    """Optional for backends that compile into a persistent cache."""

    def compiles(self, options: Options) -> bool:
        """True if a separate launch must fill the cache before any launch is timed."""

    def compiled_from_cache(self) -> bool:
        """True if this process read its compiled program from the cache."""


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
            Unavailable: this machine lacks something, which only loading can detect.
        """


def device_of(backend: Backend, options: Options) -> str:
    """Name of the device on which a backend runs with these options."""
    if isinstance(backend, ChoosesDevice):
        return backend.device_with(options)
    return backend.device


BACKENDS: Registry[Backend] = Registry("backend", ("cspbench.backends",), "cspbench.backends")


def libraries() -> list[str]:
    """Modules of the registered backends, and distributions that registered one.

    Their versions are facts of a machine; ``machine/facts.py`` may not import the backends.
    """
    modules = {backend.library.partition(".")[0] for backend in BACKENDS}
    return sorted(modules | set(BACKENDS.distributions()))
