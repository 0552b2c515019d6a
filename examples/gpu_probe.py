"""First contact with a CUDA device: what cspbench's numbers mean there, one JSON line a fact.

    python examples/gpu_probe.py

Each line holds the numbers that must agree with one another: the device's own time held back
against the sum of its kernels and against triton.testing.do_bench, the time of an input's transfer
against a fraction of the latency, the energy counter's period, and the peaks of two inferences.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import time
from statistics import median
from typing import Any

os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # as workers and NVML count devices

import torch

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import prepare
from cspbench.artifacts.tensors import input_pool
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import ModelId
from cspbench.machine.sensors.nvml import Nvml

MODEL = "peleenet@224"
FP16 = {"layout": "channels_last", "precision": "fp16"}
CASES = [
    (batch, options)
    for batch in (1, 32)
    for options in (
        {}, {"mode": "fused", **FP16}, {"mode": "cudagraph"}, {"mode": "cudagraph", **FP16},
    )
]  # fmt: skip
#: How long the energy counter is watched.
WATCH_SECONDS = 2.0


def say(fact: str, **values: Any) -> None:
    """Print one fact."""
    print(json.dumps({"fact": fact, **values}), flush=True)


def one(batch: int, options: dict[str, Any]) -> None:
    """A case: every time and size that must agree."""
    identity = ModelId.parse(MODEL)
    spec = ArtifactSpec(identity, batch, "pt2", 0)
    prepare(spec)
    assert identity.input is not None
    pool = input_pool((batch, 3, *identity.input), 0)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    session: Any = BACKENDS.get("torch-cuda").load(spec.path, options, 1)
    session.stage(pool)
    session.choose(0)
    start = time.perf_counter_ns()
    session.run()
    first = time.perf_counter_ns() - start
    peak_first = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    latencies = []
    for number in range(100):
        session.choose(number % len(pool))
        start = time.perf_counter_ns()
        session.run()
        latencies.append(time.perf_counter_ns() - start)
    peak = torch.cuda.max_memory_allocated()
    samples = session.device_samples(200, 0.5)
    kernels = session.kernels()
    facts = {name: ns / 1e3 for name, ns in session.medians(samples).items()}
    if kernels is not None:
        facts |= {"kernels": kernels.count, "kernels_us": kernels.busy_ns / 1e3}
    with contextlib.suppress(Exception):  # Triton is not everywhere
        import triton.testing  # noqa: PLC0415

        call = session._forward
        facts["do_bench_us"] = 1e3 * triton.testing.do_bench(call, return_mode="median")
    latency_us = median(latencies[20:]) / 1e3
    say(
        f"{MODEL} b{batch} {options}", first_ms=first / 1e6, latency_us=latency_us,
        held=samples.held, peak_first=peak_first, peak=peak, **facts, **session.device_reserved(),
    )  # fmt: skip
    session.close()
    del session
    gc.collect()


def counter() -> None:
    """How often the energy counter is renewed under load, and what a reading costs."""
    reader: Any = Nvml().open()
    start = time.perf_counter()
    for _ in range(20):
        reading = reader.read()
    whole_ms = (time.perf_counter() - start) / 20 * 1e3
    start = time.perf_counter()
    for _ in range(20):
        reader.counters()
    counter_ms = (time.perf_counter() - start) / 20 * 1e3
    a = torch.rand(8192, 8192, device="cuda", dtype=torch.float16)
    changes: list[float] = []
    last, end = None, time.monotonic() + WATCH_SECONDS
    while time.monotonic() < end:
        a @ a
        torch.cuda.synchronize()
        value = reader.counters().get("gpu_energy_j")
        if value != last:
            changes.append(time.monotonic())
            last = value
    gaps = [after - before for before, after in itertools.pairwise(changes)]
    say(
        "nvml", read_ms=whole_ms, counter_ms=counter_ms,
        renewed_ms=1e3 * median(gaps) if gaps else None, gauges=dict(reading.gauges),
        counters=dict(reading.counters),
    )  # fmt: skip
    reader.close()


def events() -> None:
    """The resolution of events, and the cost of a synchronisation."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    gaps = []
    for _ in range(200):
        begin.record()
        end.record()
        torch.cuda.synchronize()
        gaps.append(begin.elapsed_time(end) * 1e6)
    start = time.perf_counter_ns()
    for _ in range(1000):
        torch.cuda.synchronize()
    cost = (time.perf_counter_ns() - start) / 1e6
    say("events", gap_ns=median(gaps), distinct=len(set(gaps)), synchronise_us=cost)


def main() -> None:
    """Print all facts; one that fails says why, and the others go on."""
    say("torch", version=torch.__version__, cuda=torch.version.cuda)
    parts = [events, counter, *(lambda batch=batch, options=options: one(batch, options)
                                for batch, options in CASES)]  # fmt: skip
    for part in parts:
        try:
            part()
        except Exception as error:  # a probe is there to find out
            say(
                "failed",
                part=getattr(part, "__name__", ""),
                error=f"{type(error).__name__}: {error}",
            )


if __name__ == "__main__":
    main()
