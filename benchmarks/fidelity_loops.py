"""The loops that fidelity.py lets take turns on one loaded artifact; each returns times in ns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cspbench.artifacts.tensors import POOL_SIZE
from cspbench.core.case import Case
from cspbench.jobs import load
from cspbench.jobs.burst import BurstRequest, burst
from cspbench.jobs.load import LoadRequest

#: About what a turn of a loop lasts.
LOOP_TURN_S = 0.01

Loop = Callable[[int], Sequence[float]]


def our_loop(session: Any, pool: list[np.ndarray]) -> Loop:
    """What a worker runs, for a given number of inferences: a burst."""
    one_thread = LoadRequest(Case.parse("peleenet@64/opencv-cpu/b1/t1"), Path())

    def feed(i: int) -> None:
        session.set_input(pool[i % POOL_SIZE])

    kept = load.Kept(one_thread, session, feed, session.run)

    def loop(count: int) -> Sequence[float]:
        load._kept = kept
        return burst(BurstRequest(count), lambda _phase: None).latencies_ns

    return loop


def bare_loop(name: str, session: Any, pool: list[np.ndarray]) -> Loop:
    """The loop that a user would write by hand around the library's own call."""
    now = time.perf_counter_ns
    if name == "opencv-cpu":
        net, names = session._net, session._names

        def loop(count: int) -> list[float]:
            times: list[float] = []
            for i in range(count):
                net.setInput(pool[i % POOL_SIZE])
                start = now()
                net.forward(names)
                times.append(now() - start)
            return times

    elif name == "onnxruntime":
        run, key = session._session.run, session._input_name

        def loop(count: int) -> list[float]:
            times: list[float] = []
            for i in range(count):
                feed = {key: pool[i % POOL_SIZE]}
                start = now()
                run(None, feed)
                times.append(now() - start)
            return times

    elif name == "openvino":
        request, tensor = session._request, session._openvino.Tensor

        def loop(count: int) -> list[float]:
            times: list[float] = []
            for i in range(count):
                request.set_input_tensor(tensor(pool[i % POOL_SIZE], shared_memory=True))
                start = now()
                request.infer()
                times.append(now() - start)
            return times

    else:
        import torch

        call, on_device = session._call, name == "torch-cuda"

        def loop(count: int) -> list[float]:
            times: list[float] = []
            for i in range(count):
                array = torch.from_numpy(pool[i % POOL_SIZE]).clone()
                if on_device:
                    array = array.cuda()
                    torch.cuda.synchronize()
                with torch.inference_mode():
                    start = now()
                    call(array)
                    if on_device:
                        torch.cuda.synchronize()
                    times.append(now() - start)
            return times

    return loop


def tool_loop(name: str, session: Any, pool: list[np.ndarray]) -> Loop | None:
    """What the vendor's tool runs: one input, the same call again and again; None without one."""
    if name.startswith("torch"):
        import torch
        from torch.utils.benchmark import Timer

        array = torch.from_numpy(pool[0]).to("cuda" if name == "torch-cuda" else "cpu")
        setting = {"call": session._call, "array": array, "torch": torch}
        timer = Timer("with torch.inference_mode(): call(array)", globals=setting)

        def timer_loop(count: int) -> list[float]:
            # Inferences a block are the Timer's own choice: as many as its clock asks for.
            measured = timer.blocked_autorange(min_run_time=LOOP_TURN_S * (count > 1))
            return [seconds * 1e9 for seconds in measured.times]

        return timer_loop
    if name == "onnxruntime":
        feed = {session._input_name: pool[0]}
        call = lambda: session._session.run([], feed)  # noqa: E731
    elif name == "openvino":
        call = session._request.infer
    else:
        return None
    now = time.perf_counter_ns

    def loop(count: int) -> list[float]:
        times: list[float] = []
        for _ in range(count):
            start = now()
            call()
            times.append(now() - start)
        return times

    return loop
