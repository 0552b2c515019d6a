"""What cspbench's sessions ask of ``torch.cuda``, in one place.

This module imports torch; only a worker's ``load`` imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

#: Runs before a CUDA graph is captured, on a side stream as torch's documentation asks.
_WARM_RUNS = 3


class CudaRuntime:
    """What a session asks of ``torch.cuda``; its twin in the tests has a device of known speed."""

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())

    def event(self) -> Any:
        return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def stall(self, cycles: int) -> None:
        torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]

    def synchronise(self) -> None:
        torch.cuda.synchronize(self.device)

    def pinned(self, like: torch.Tensor) -> torch.Tensor:
        """Page-locked memory of the host, to which and from which copies need not wait."""
        return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)

    def properties(self) -> Any:
        return torch.cuda.get_device_properties(self.device)

    def capture(self, work: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """Capture work in a CUDA graph after it ran on a side stream; how to replay, its result."""
        side = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_RUNS):
                work()
        torch.cuda.current_stream(self.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()
        return graph.replay, result

    def use_own_stream(self) -> None:
        """Let this process submit everything to a stream that is not the default one."""
        torch.cuda.set_stream(torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]

    def free_bytes(self) -> int:
        """What the driver has left on the device, with what torch's allocator keeps in reserve."""
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(free) + torch.cuda.memory_reserved(self.device)

    def used_bytes(self) -> int:
        return int(torch.cuda.memory_allocated(self.device))

    def peak_bytes(self) -> int:
        return int(torch.cuda.max_memory_allocated(self.device))

    def reserved_bytes(self) -> int:
        return int(torch.cuda.memory_reserved(self.device))

    def segments(self) -> Sequence[Mapping[str, Any]]:
        """The caching allocator's segments of memory."""
        segments: Sequence[Mapping[str, Any]] = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
        return segments

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)

    def drop_workspaces(self) -> None:
        """Free cuBLAS's workspaces, where torch can."""
        drop = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)
        if drop is not None:
            drop()

    def empty_cache(self) -> None:
        torch.cuda.empty_cache()
