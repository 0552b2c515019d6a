"""Does cspbench measure what a bare loop measures? Bias of the harness, per backend.

    python benchmarks/fidelity.py [--rounds 30] [--out fidelity.json] [MODEL/BACKEND ...]

In one process, on one loaded artifact, bursts of three loops take turns in shuffled order: our
sampling loop, a loop written out by hand around the vendor's own call, and our loop with the
sensors of this machine being read by another thread. Each round gives one ratio of medians; shown
are the median ratio and its 95 % interval (Student on the logs). Also the harness's own time an
inference, beside a do-nothing session, and the loops that vendors' tools run: repeated
``InferenceSession.run`` (onnxruntime_perf_test), ``infer_request.infer`` (benchmark_app, sync
API) and ``torch.utils.benchmark.Timer``.

Times mean something only on a quiet machine: run nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.tensors import POOL_SIZE, input_pool
from cspbench.backends.spec import BACKENDS
from cspbench.ids import parse_case_id
from cspbench.measure.clock import MonotonicClock
from cspbench.measure.sampling import sample, timed
from cspbench.measure.statistics import between_launches
from cspbench.sensors.watch import Watch, chosen

#: Nets of about 1, 10 and 100 ms on one core of a current server processor.
MODELS = ("yolov3-tiny-prn@96", "peleenet@160", "cspresnext50@256")
BACKEND_NAMES = ("opencv-cpu", "onnxruntime", "openvino", "torch-cpu")
#: A burst lasts about this long, and has at least this many inferences.
BURST_SECONDS, BURST_MIN = 0.25, 5
LIMIT_BIAS, LIMIT_VENDOR, LIMIT_HARNESS_US = 0.005, 0.03, 2.0


def ours(session: Any, pool: list[np.ndarray], count: int) -> list[int]:
    """Our loop: what a worker runs, for a given number of inferences."""
    clock = MonotonicClock()
    return [timed(session.run, lambda i: session.set_input(pool[i % POOL_SIZE]), clock, i)
            for i in range(count)]  # fmt: skip


def bare_loop(name: str, session: Any, pool: list[np.ndarray]) -> Callable[[int], list[int]]:
    """The loop that somebody would write by hand around the library's own call."""
    now = time.perf_counter_ns
    if name == "opencv-cpu":
        net, names = session._net, session._names

        def loop(count: int) -> list[int]:
            times = []
            for i in range(count):
                net.setInput(pool[i % POOL_SIZE])
                start = now()
                net.forward(names)
                times.append(now() - start)
            return times

    elif name == "onnxruntime":
        run, key = session._session.run, session._input_name

        def loop(count: int) -> list[int]:
            times = []
            for i in range(count):
                feed = {key: pool[i % POOL_SIZE]}
                start = now()
                run(None, feed)
                times.append(now() - start)
            return times

    elif name == "openvino":
        request, tensor = session._request, session._openvino.Tensor

        def loop(count: int) -> list[int]:
            times = []
            for i in range(count):
                request.set_input_tensor(tensor(pool[i % POOL_SIZE], shared_memory=True))
                start = now()
                request.infer()
                times.append(now() - start)
            return times

    else:
        import torch

        call = session._call

        def loop(count: int) -> list[int]:
            times = []
            for i in range(count):
                array = torch.from_numpy(pool[i % POOL_SIZE]).clone()
                with torch.inference_mode():
                    start = now()
                    call(array)
                    times.append(now() - start)
            return times

    return loop


def vendor_loop(name: str, session: Any, pool: list[np.ndarray]) -> Callable[[int], float] | None:
    """Median ns as the vendor's tool takes it: one input, the same call again and again."""
    now = time.perf_counter_ns
    if name == "onnxruntime":
        feed = {session._input_name: pool[0]}
        call = lambda: session._session.run(None, feed)  # noqa: E731
    elif name == "openvino":
        call = session._request.infer
    elif name == "torch-cpu":
        import torch
        from torch.utils.benchmark import Timer

        array = torch.from_numpy(pool[0])
        setting = {"call": session._call, "array": array, "torch": torch}
        timer = Timer("with torch.inference_mode(): call(array)", globals=setting)
        return lambda count: timer.timeit(count).median * 1e9
    else:
        return None

    def loop(count: int) -> float:
        times = []
        for _ in range(count):
            start = now()
            call()
            times.append(now() - start)
        return median(times)

    return loop


def ratio(numerator: list[float], denominator: list[float]) -> dict[str, float]:
    """Median of the rounds' ratios less 1, with its 95 % interval."""
    found = between_launches([a / b for a, b in zip(numerator, denominator, strict=True)])
    return {"bias": found.estimate - 1, "low": found.low - 1, "high": found.high - 1}


def judge(found: dict[str, float], limit: float) -> str:
    """``ok`` and ``OVER`` only if the whole interval says so; else ``unsure``: more rounds."""
    if found["low"] > limit or found["high"] < -limit:
        return "OVER"
    return "ok" if -limit <= found["low"] and found["high"] <= limit else "unsure"


def compare(case_id: str, rounds: int) -> dict[str, Any]:
    """Interleave the loops on one loaded case."""
    from cspbench.artifacts.export import prepare

    case = parse_case_id(case_id)
    backend = BACKENDS.get(case.backend.name)
    reason = backend.available()
    if reason:
        return {"case": case_id, "unavailable": reason}
    spec = ArtifactSpec(case.model, case.batch, backend.artifact, 0)
    prepare(spec)
    session = backend.load(spec.path, dict(case.backend.options), case.threads)
    pool = input_pool((case.batch, 3, *case.model.input), 0)
    bare = bare_loop(case.backend.name, session, pool)
    vendor = vendor_loop(case.backend.name, session, pool)
    ours(session, pool, 5)
    count = max(BURST_MIN, int(BURST_SECONDS * 1e9 / median(bare(5))))
    with Watch(chosen("auto")) as watch:

        def watched(number: int) -> float:
            watch.start()
            times = ours(session, pool, number)
            watch.stop()
            return median(times)

        loops: dict[str, Callable[[int], float]] = {
            "ours": lambda number: median(ours(session, pool, number)),
            "bare": lambda number: median(bare(number)),
            "watched": watched,
        }
        if vendor is not None:
            loops["vendor"] = vendor
        found: dict[str, list[float]] = {name: [] for name in loops}
        order = list(loops)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                found[name].append(loops[name](count))
    answer = {
        "case": case_id,
        "burst": count,
        "rounds": rounds,
        "latency_ms": median(found["bare"]) / 1e6,
        "ours_against_bare": ratio(found["ours"], found["bare"]),
        "sensors_on_against_off": ratio(found["watched"], found["ours"]),
    }
    if vendor is not None:
        answer["ours_against_vendor"] = ratio(found["ours"], found["vendor"])
    session.close()
    return answer


def harness_us() -> dict[str, float]:
    """What the harness itself takes an inference, in µs.

    ``inside`` stands between the two readings of the clock, beyond the clock: it is in every
    latency. ``around`` is the whole loop's time an inference.
    """
    clock = MonotonicClock()

    def nothing() -> None: ...

    def feed(i: int) -> None: ...

    empty = [-(clock.now_ns() - clock.now_ns()) for _ in range(200_000)]
    inside = [timed(nothing, feed, clock, i) for i in range(200_000)]
    start = time.perf_counter()
    samples = sample(nothing, feed, clock, -1.0, 2.0)
    around = (time.perf_counter() - start) / len(samples.latencies_ns) * 1e6
    return {"inside": (median(inside) - median(empty)) / 1e3, "around": around}


def main() -> int:
    """Run and print; 1 if a limit is surely passed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", help="case ids; default: three models, all backends")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    cases = arguments.cases or [f"{m}/{b}/b1/t1" for m in MODELS for b in BACKEND_NAMES]
    harness = harness_us()
    print(
        f"harness: {harness['inside']:.3f} us inside the clock, {harness['around']:.2f} us around"
    )
    rows, bad = [], harness["inside"] > LIMIT_HARNESS_US
    limits = {"ours_against_bare": LIMIT_BIAS, "sensors_on_against_off": LIMIT_BIAS,
              "ours_against_vendor": LIMIT_VENDOR}  # fmt: skip
    for case in cases:
        row = compare(case, arguments.rounds)
        rows.append(row)
        print(case, row.get("unavailable", f"{row.get('latency_ms', 0):.2f} ms"))
        for name, limit in limits.items():
            if name in row:
                found = row[name]
                verdict = judge(found, limit)
                bad |= verdict == "OVER"
                interval = f"[{found['low']:+.3%}, {found['high']:+.3%}]"
                print(f"  {name:24} {found['bias']:+8.3%}  {interval}  {verdict} ({limit:.1%})")
        sys.stdout.flush()
    if arguments.out:
        arguments.out.write_text(json.dumps({"harness_us": harness, "cases": rows}, indent=1))
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
