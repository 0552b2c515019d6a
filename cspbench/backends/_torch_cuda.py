"""A torch program on a CUDA device, timed by the host's clock and by the device's own.

This module imports torch; only a worker's ``load`` imports it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from cspbench.artifacts.tensors import arrays_of, as_list
from cspbench.backends._cuda_runtime import CudaRuntime
from cspbench.backends._torch import in_form
from cspbench.backends.common.device_clock import CYCLES_PER_NS, DeviceClock, DeviceSamples
from cspbench.backends.common.throughput import run_for
from cspbench.backends.spec import GAPS_INCLUDED, HostSession, Kernels, Throughput, Workload
from cspbench.errors import Unsupported

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.core.options import Value

#: Transfers that are timed for ``transfer_ns`` and for the parts of ``end_to_end``.
_TRANSFERS = 20
#: Inferences that are traced for their number of kernels.
_TRACES = 5
#: Inferences by which extra work of the device is sized.
_EXTENSION_SAMPLES = 50
#: How long the device's own times of one burst are looked at, and those of a launch that is alone.
BURST_SECONDS, LAUNCH_SECONDS = 0.02, 0.5


def set_precision(precision: str) -> None:
    """Use TF32 only for precision ``tf32``."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


class TorchCudaSession(HostSession):
    """A program on one CUDA device; ``run`` ends with a synchronisation.

    ``captured`` runs through a CUDA graph, captured in the first run. ``flush_l2`` overwrites the
    device's L2 cache before every run (not timed). ``foreign_bytes`` of the device's memory are the
    program's and not torch's allocator's.
    """

    #: Inferences that may have been submitted and not waited for, when throughput is measured.
    IN_FLIGHT = 4

    def __init__(
        self,
        call: Callable[..., Any],
        facts: Mapping[str, Value],
        dtype: torch.dtype,
        layout: torch.memory_format,
        *,
        captured: bool = False,
        flush_l2: bool = False,
        runtime: CudaRuntime | None = None,
        foreign_bytes: int = 0,
    ) -> None:
        self._runtime = runtime or CudaRuntime()
        self.program, self._facts, self._foreign_bytes = call, facts, foreign_bytes
        self._dtype, self._layout = dtype, layout
        self._captured = captured
        self._replay: Callable[[], None] | None = None
        self._properties = self._runtime.properties()
        size = 2 * int(getattr(self._properties, "L2_cache_size", 0)) if flush_l2 else 0
        if flush_l2 and not size:
            raise Unsupported("flush_l2: the driver does not tell how large the L2 cache is")
        self._flush = torch.empty(size, dtype=torch.uint8, device=self._runtime.device)
        self._clock: DeviceClock | None = None
        self._staged: list[tuple[torch.Tensor, ...]] = []
        self._transfer_ns: list[int] = []
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._host_inputs: list[torch.Tensor] = []
        self._landed: list[torch.Tensor] = []
        self._host_outputs: list[torch.Tensor] = []
        self._result: Any = None
        self._submitted: deque[torch.cuda.Event] = deque()
        self._extra_cycles = 0
        self._asked_cycles = 0

    # Inputs ---------------------------------------------------------------------------------------

    def set_input(self, feed: Feed) -> None:
        """Copy to the device; a captured graph reads always the same memory."""
        self._put(self.to_device(feed))

    def to_device(self, feed: Feed) -> tuple[torch.Tensor, ...]:
        """The inputs of an inference on the device in the program's type and layout."""
        device = self._runtime.device
        return tuple(
            in_form(torch.from_numpy(array).to(device), self._dtype, self._layout)
            for array in arrays_of(feed)
        )

    def stage(self, feeds: Sequence[Feed]) -> None:
        """Copy inputs to the device, where ``choose`` takes them from."""
        self._staged = [self.to_device(feed) for feed in feeds]
        arrays = [torch.from_numpy(array) for array in arrays_of(feeds[0])]
        pinned = [self._runtime.pinned(array) for array in arrays]
        there = [torch.empty_like(array, device=self._runtime.device) for array in arrays]
        for _ in range(_TRANSFERS):
            self._runtime.synchronise()
            start = time.perf_counter_ns()
            for place, array in zip(there, pinned, strict=True):
                place.copy_(array, non_blocking=True)
            self._runtime.synchronise()
            self._transfer_ns.append(time.perf_counter_ns() - start)

    def choose(self, number: int) -> None:
        """Let the next run read a staged input; nothing is copied but for a captured graph."""
        self._put(self._staged[number])

    def _put(self, there: tuple[torch.Tensor, ...]) -> None:
        if self._replay is not None:
            self._copy_in(there)
        elif self._captured:  # captured in the first run: its memory must be no staged input's
            self._inputs = tuple(tensor.clone() for tensor in there)
        else:
            self._inputs = there
        if self._flush.numel():
            self._flush.zero_()
        self._runtime.synchronise()

    def _copy_in(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put other values into the memory of the inputs; type and layout stay."""
        for place, tensor in zip(self._inputs, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)

    # Inferences -----------------------------------------------------------------------------------

    def _work(self) -> Any:
        return self.program(*self._inputs)

    def _forward(self) -> None:
        with torch.inference_mode():
            if self._captured and self._replay is None:
                self._replay, self._result = self._runtime.capture(self._work)
            if self._replay is not None:
                self._replay()
            else:
                self._result = self._work()
        if self._extra_cycles:
            self._runtime.stall(self._extra_cycles)

    def run(self) -> None:
        self._forward()
        self._runtime.synchronise()

    def infer(self, feed: Feed) -> Sequence[np.ndarray]:
        """Copy in through page-locked memory, run, copy out; ``set_input`` came once before."""
        self._fill(feed)
        self._from_host()
        self._forward()
        return self.views()

    def _fill(self, feed: Feed) -> None:
        """Put an input into page-locked memory."""
        arrays = [torch.from_numpy(array) for array in arrays_of(feed)]
        if not self._host_inputs:
            if self._replay is None:  # staged inputs are others' as well
                self._inputs = tuple(tensor.clone() for tensor in self._inputs)
            device = self._runtime.device
            self._host_inputs = [self._runtime.pinned(array) for array in arrays]
            self._landed = [torch.empty_like(array, device=device) for array in arrays]
        for host, array in zip(self._host_inputs, arrays, strict=True):
            host.copy_(array)

    def _from_host(self) -> None:
        """Submit the copies of an input: its type is changed on the device, not by the host."""
        for host, landed in zip(self._host_inputs, self._landed, strict=True):
            landed.copy_(host, non_blocking=True)
        self._copy_in(self._landed)

    def views(self) -> Sequence[np.ndarray]:
        """Outputs in page-locked memory, float32, until the next inference."""
        self._to_host()
        self._runtime.synchronise()
        return [host.numpy() for host in self._host_outputs]

    def _to_host(self) -> None:
        """Submit the copies of the outputs."""
        results = [tensor.float() for tensor in as_list(self._result)]
        if [tensor.shape for tensor in results] != [host.shape for host in self._host_outputs]:
            self._host_outputs = [self._runtime.pinned(tensor) for tensor in results]
        for host, tensor in zip(self._host_outputs, results, strict=True):
            host.copy_(tensor, non_blocking=True)

    # Overlapped inferences ------------------------------------------------------------------------

    def submit(self, there: tuple[torch.Tensor, ...]) -> None:
        """Queue an inference of inputs on the device; waits while IN_FLIGHT are queued."""
        if self._replay is not None:
            self._copy_in(there)
        else:
            self._inputs = there
        self._forward()
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        self._submitted.append(done)
        if len(self._submitted) >= self.IN_FLIGHT:
            self._submitted.popleft().synchronize()

    def finish(self) -> None:
        """Wait for all submitted inferences."""
        self._submitted.clear()
        self._runtime.synchronise()

    # The device's own times -----------------------------------------------------------------------

    def device_samples(self, count: int, seconds: float = LAUNCH_SECONDS) -> DeviceSamples:
        """Time some more inferences by the device's events."""
        self._clock = self._clock or DeviceClock(self._runtime)
        return self._clock.sample(self._prepare, self._forward, count, seconds)

    def _prepare(self, number: int) -> None:
        if self._staged:
            self.choose(number % len(self._staged))
        elif self._flush.numel():
            self._flush.zero_()

    def device_times(self, count: int) -> dict[str, int]:
        """Medians in ns over some more inferences, at most ``count``.

        Returns:
            ``device_ns`` without and ``span_ns`` with the gaps of submitting, by CUDA events;
            ``enqueue_ns`` until the host had submitted everything; ``transfer_ns`` of an input from
            page-locked memory of the host, outside of all of them.
        """
        return self.medians(self.device_samples(count, BURST_SECONDS))

    def medians(self, samples: DeviceSamples) -> dict[str, int]:
        """The medians of samples, by name."""
        times = {
            "device_ns": samples.device_ns,
            "span_ns": samples.span_ns,
            "enqueue_ns": samples.enqueue_ns,
            "transfer_ns": self._transfer_ns,
        }
        medians = {name: int(median(values)) for name, values in times.items() if values}
        return medians | ({} if samples.held else {GAPS_INCLUDED: 1})

    def extend(self, share: float) -> None:
        """Let a kernel that spins follow each inference.

        Two lengths show what a cycle takes, and what starting the kernel does.
        """
        plain = self._device_ns(0)
        few = round(CYCLES_PER_NS * share * plain)
        many = few + round(CYCLES_PER_NS * plain)
        shorter, longer = self._device_ns(few), self._device_ns(many)
        cycle_ns = max(longer - shorter, 1) / (many - few)
        self._asked_cycles = max(1, few + round(((1 + share) * plain - shorter) / cycle_ns))
        self.switch_extension(True)

    def switch_extension(self, on: bool) -> None:
        """Turn that kernel off and on."""
        self._extra_cycles = self._asked_cycles if on else 0

    def _device_ns(self, extra_cycles: int) -> float:
        self._extra_cycles = extra_cycles
        return median(self.device_samples(_EXTENSION_SAMPLES).device_ns)

    def parts(self, feeds: Sequence[Feed]) -> dict[str, int]:
        """Medians in ns of the parts of scope ``end_to_end``, over some more inferences.

        Returns:
            ``input_ns`` from page-locked memory to the device, ``span_ns`` of the inference with
            the gaps of submitting, and ``output_ns`` back to the host, by CUDA events;
            ``enqueue_ns`` of the host.
        """
        events = [self._runtime.event() for _ in range(4)]
        names = ("input_ns", "span_ns", "output_ns")
        seen: dict[str, list[int]] = {name: [] for name in (*names, "enqueue_ns")}
        for number in range(_TRANSFERS):
            self._fill(feeds[number % len(feeds)])
            self._runtime.synchronise()
            events[0].record()
            self._from_host()
            events[1].record()
            start = time.perf_counter_ns()
            self._forward()
            seen["enqueue_ns"].append(time.perf_counter_ns() - start)
            events[2].record()
            self._to_host()
            events[3].record()
            self._runtime.synchronise()
            for name, begin, end in zip(names, events[:-1], events[1:], strict=True):
                seen[name].append(round(begin.elapsed_time(end) * 1e6))
        return {name: int(median(values)) for name, values in seen.items()}

    def kernels(self) -> Kernels | None:
        """Trace a few inferences."""
        from cspbench.backends._torch_trace import device_records, trace
        from cspbench.backends.common.kernels import summed_up

        runs = []
        for number in range(_TRACES):
            self._prepare(number)
            runs.append(device_records(trace(self._forward)))
        return summed_up(runs)

    # Facts ----------------------------------------------------------------------------------------

    def describe(self) -> Mapping[str, Value]:
        return {
            "version": torch.__version__,
            "cuda": str(torch.version.cuda),
            "cudnn": str(torch.backends.cudnn.version()),  # type: ignore[no-untyped-call]
            "device": self._properties.name,
            "device_uuid": str(self._properties.uuid),
            "threads": torch.get_num_threads(),
            **self._facts,
        }

    def device_used_bytes(self) -> int:
        """Bytes of tensors, by the caching allocator, and what is not its own."""
        return self._foreign_bytes + self._runtime.used_bytes()

    def device_peak_bytes(self) -> int:
        return self._foreign_bytes + self._runtime.peak_bytes()

    def reset_device_peak(self) -> None:
        self._runtime.reset_peak()

    def device_reserved(self) -> dict[str, int]:
        """What the caching allocator holds beyond tensors.

        Returns:
            ``device_reserved_bytes`` taken from the driver, ``device_pool_bytes`` of these in
            private pools of CUDA graphs without a tensor that lives between replays, where the
            activations lie, and ``device_workspace_bytes`` of cuBLAS, which are freed by asking.
        """
        reserved = self._runtime.reserved_bytes()
        pools = sum(
            int(segment["total_size"]) - int(segment["allocated_size"])
            for segment in self._runtime.segments()
            if tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0)
        )
        before = self._runtime.used_bytes()
        self._runtime.drop_workspaces()
        return {
            "device_reserved_bytes": reserved,
            "device_pool_bytes": pools,
            "device_workspace_bytes": max(0, before - self._runtime.used_bytes()),
        }

    def close(self) -> None:
        self._result = self._replay = None
        self._staged = []
        self._runtime.empty_cache()


def submitted(session: TorchCudaSession, work: Workload) -> Throughput:
    """Run work on one stream: inferences are submitted without waiting for each."""
    session.set_input(work.inputs[0])
    session.run()
    there = [session.to_device(feed) for feed in work.inputs]
    throughput = run_for(
        session.submit, there, work.seconds, in_flight=session.IN_FLIGHT,
        method="one CUDA stream", finish=session.finish,
    )  # fmt: skip
    session.close()
    return throughput
