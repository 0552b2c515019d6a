"""A torch program on a CUDA device, timed by CUDA events beside the host's clock.

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
from cspbench.backends._torch import in_form
from cspbench.backends.spec import HostSession

if TYPE_CHECKING:
    import numpy as np

    from cspbench.artifacts.tensors import Feed
    from cspbench.core.options import Value

#: Runs before a CUDA graph is captured, on a side stream as torch's documentation asks.
_WARM_RUNS = 3
#: Copies that are timed for ``transfer_ns``.
_TRANSFERS = 20


def set_precision(precision: str) -> None:
    """Use TF32 only for precision ``tf32``."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


class TorchCudaSession(HostSession):
    """A program on one CUDA device; ``run`` ends with a synchronisation.

    ``captured`` runs through a CUDA graph. ``flush_l2`` overwrites the device's L2 cache before
    every run (not timed).
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
    ) -> None:
        self._device = torch.device("cuda", torch.cuda.current_device())
        self._call, self._facts = call, facts
        self._dtype, self._layout = dtype, layout
        self._captured = captured
        self._graph: torch.cuda.CUDAGraph | None = None
        self._properties = torch.cuda.get_device_properties(self._device)
        size = 2 * int(getattr(self._properties, "L2_cache_size", 0)) if flush_l2 else 0
        self._flush = torch.empty(size, dtype=torch.uint8, device=self._device)
        self._begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._pending = False
        self._device_ns: list[int] = []
        self._enqueue_ns: list[int] = []
        self._transfer_ns: list[int] = []
        self._inputs: tuple[torch.Tensor, ...] = ()
        self._result: Any = None
        self._submitted: deque[torch.cuda.Event] = deque()

    def set_input(self, feed: Feed) -> None:
        """Copy to the device; a captured graph reads always the same memory."""
        self._harvest()
        torch.cuda.synchronize(self._device)
        start = time.perf_counter_ns()
        there = [torch.from_numpy(array).to(self._device) for array in arrays_of(feed)]
        torch.cuda.synchronize(self._device)
        if len(self._transfer_ns) < _TRANSFERS:
            self._transfer_ns.append(time.perf_counter_ns() - start)
        if self._graph is not None:
            self._copy_in(there)
        else:
            self._inputs = tuple(
                in_form(tensor, self._dtype, self._layout).clone() for tensor in there
            )
            if self._captured:
                self._capture()
        if self._flush.numel():
            self._flush.zero_()
        torch.cuda.synchronize(self._device)

    def _copy_in(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put other values into the memory of the inputs; type and layout stay."""
        for place, tensor in zip(self._inputs, tensors, strict=True):
            place.copy_(tensor)

    def _capture(self) -> None:
        side = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self._device))
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(_WARM_RUNS):
                self._call(*self._inputs)
        torch.cuda.current_stream(self._device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(graph):
            self._result = self._call(*self._inputs)
        self._graph = graph

    def _forward(self) -> None:
        if self._graph is not None:
            self._graph.replay()
        else:
            with torch.inference_mode():
                self._result = self._call(*self._inputs)

    def run(self) -> None:
        start = time.perf_counter_ns()
        self._begin.record()
        self._forward()
        self._end.record()
        enqueued = time.perf_counter_ns()
        torch.cuda.synchronize(self._device)
        self._enqueue_ns.append(enqueued - start)
        self._pending = True

    def infer(self, feed: Feed) -> Sequence[np.ndarray]:
        """Copy in from pageable memory, run, copy out; ``set_input`` came once before."""
        self._copy_in([torch.from_numpy(array) for array in arrays_of(feed)])
        self._forward()
        return self.views()

    def to_device(self, feed: Feed) -> tuple[torch.Tensor, ...]:
        """The inputs of an inference on the device in the program's type and layout."""
        return tuple(
            in_form(torch.from_numpy(array).to(self._device), self._dtype, self._layout)
            for array in arrays_of(feed)
        )

    def submit(self, there: tuple[torch.Tensor, ...]) -> None:
        """Queue an inference of inputs on the device; waits while IN_FLIGHT are queued."""
        if self._graph is not None:
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
        torch.cuda.synchronize(self._device)

    def _harvest(self) -> None:
        """Take the last run's event time, outside of what the host times."""
        if self._pending:
            self._device_ns.append(int(self._begin.elapsed_time(self._end) * 1e6))
            self._pending = False

    def device_times(self, count: int) -> dict[str, int]:
        """Medians over the last ``count`` runs, in ns.

        Returns:
            ``device_ns`` by CUDA events; ``enqueue_ns`` until the host had submitted everything;
            ``transfer_ns`` of an input from host memory, outside of both.
        """
        self._harvest()
        times = {
            "device_ns": self._device_ns[-count:],
            "enqueue_ns": self._enqueue_ns[-count:],
            "transfer_ns": self._transfer_ns,
        }
        return {name: int(median(values)) for name, values in times.items() if values}

    def views(self) -> Sequence[np.ndarray]:
        return [tensor.float().cpu().numpy() for tensor in as_list(self._result)]

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
        """Bytes of tensors, by the caching allocator."""
        return int(torch.cuda.memory_allocated(self._device))

    def device_peak_bytes(self) -> int:
        return int(torch.cuda.max_memory_allocated(self._device))

    def reset_device_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)

    def close(self) -> None:
        self._result = self._graph = None
        torch.cuda.empty_cache()
