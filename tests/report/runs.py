"""Synthetic runs, written as the controller and its workers write them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cspbench.store.lines import encode_line
from cspbench.store.rundir import LAUNCHES_FILE, RunDirectory
from cspbench.views.frames import Run, load

ENVIRONMENT: dict[str, Any] = {
    "cpu": "Test CPU", "cpu_flags": ["avx2"], "cores_logical": 4, "cores_usable": 4,
    "cpu_quota": None, "governor": "performance", "memory_bytes": 8 * 2**30, "os": "Test OS 1",
    "kernel": "6.0", "machine": "x86_64", "virtualised": False, "host": "box", "python": "3.11.7",
    "libraries": {"torch": "2.9.0"}, "git_commit": "a" * 40, "board": None, "l4t": None,
    "nvidia_driver": None,
}  # fmt: skip


def time_launch(
    case: str, number: int, latencies_ms: Sequence[float], **changes: Any
) -> dict[str, Any]:
    """A good launch of job ``time``; ``changes`` replace fields."""
    return {
        "case": case, "job": "time", "number": number, "session": "s1",
        "ended": "2026-01-02T03:04:05.678+00:00", "seconds": 2.5, "status": "ok", "reason": "",
        "load_ns": 12_000_000, "first_ns": 9_000_000,
        "latencies_ns": [round(value * 1e6) for value in latencies_ms],
        "stop": "target_ci", "relative_half_width": 0.01,
        "warmup": {"count": 10, "window_medians_ns": [1, 1], "steady": True},
        "agreement": {"max_relative_error": 1e-6, "tolerance": 1e-4},
        "backend": {"version": "5.0.0", "engine": "new", "threads": 1},
        "interference": {"seconds": 0.5, "foreign_cpu_s": 0.0, "steal_s": 0.0,
                         "load_1m_before": 0.5, "load_1m_after": 0.5},
        "flags": [], **changes,
    }  # fmt: skip


def bad_launch(case: str, status: str, reason: str, **changes: Any) -> dict[str, Any]:
    """A launch that measured nothing."""
    return {
        "case": case, "job": "time", "number": 0, "session": "s1",
        "ended": "2026-01-02T03:04:05.678+00:00", "seconds": 1.0, "status": status,
        "reason": reason, **changes,
    }  # fmt: skip


def samples_around(median_ms: float, count: int, seed: object) -> list[float]:
    """Positive samples with a few per cent of noise, the same for the same seed."""
    noise = random.Random(str(seed))
    return [median_ms * noise.lognormvariate(0, 0.03) for _ in range(count)]


def analysis(model: str, conv_macs: Sequence[int], in_stage: int = 2) -> dict[str, Any]:
    """An analysis of a chain of 1x1 convolutions with the given MACs, as run.json holds it."""
    from cspbench.analysis.layer import Layer
    from cspbench.analysis.metric import Facts
    from cspbench.analysis.record import analysis_of

    layers = []
    for index, macs in enumerate(conv_macs):
        # One input channel at macs pixels, one output channel: macs multiply-accumulates.
        stage = f"stages.{index // in_stage}"
        layers.append(
            Layer(
                index=index, name=f"{stage}.conv{index}", op="conv2d", kind="conv",
                stage=stage, input_shapes=((1, 1, 1, macs),),
                output_shapes=((1, 1, 1, macs),), weight_shape=(1, 1, 1, 1), kernel=(1, 1),
                stride=(1, 1), dilation=(1, 1), input_elements=macs, output_elements=macs,
                weight_elements=1, input_bytes=4 * macs, output_bytes=4 * macs, weight_bytes=4,
                params=1, params_conv=1, live_bytes=8 * macs, inputs=(index,), outputs=(index + 1,),
            )
        )  # fmt: skip
    facts = Facts(params=len(conv_macs), peak_live_bytes=8 * max(conv_macs), peak_layer=0)
    stored: dict[str, Any] = json.loads(
        analysis_of(model, "torch", ((1, 1, 1, conv_macs[0]),), layers, facts).to_json()
    )
    return stored


def write_run(
    folder: Path,
    cases: Mapping[str, Sequence[dict[str, Any]] | tuple[str, str]],
    name: str = "demo",
    analyses: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    suite: Mapping[str, Any] | None = None,
    rounds: int = 3,
    ceilings: Mapping[str, Any] | None = None,
    reference: str | None = None,
) -> Run:
    """Write a run under ``folder`` and load it.

    ``cases`` maps a case id to its launches, or to a (status, reason) pair for one that cannot run
    here.
    """
    skipped = {case: found for case, found in cases.items() if isinstance(found, tuple)}
    meta = {
        "created": "2026-01-02T03:00:00+00:00",
        "cspbench": "0.1.0",
        "suite": {
            "name": "demo", "description": "a suite for tests", "path": "suites/demo.yaml",
            "digest": "", "notes": [],
            "measure": {"rounds": rounds, "warmup_seconds": 1.0, "target_ci": 0.02,
                        "max_seconds": 1.0, "timeout_seconds": 60.0, "seed": 0},
            **(suite or {}),
        },
        "schedule": "rounds",
        "cases": [
            {
                "id": case,
                "key": "k",
                "status": skipped[case][0] if case in skipped else None,
                "reason": skipped[case][1] if case in skipped else "",
            }
            for case in cases
        ],
        "environment": {**ENVIRONMENT, **(environment or {})},
        "analyses": dict(analyses or {}),
        "ceilings": dict(ceilings or {}),
        "reference": reference,
    }  # fmt: skip
    directory = RunDirectory.create(folder, name, meta)
    lines = [
        encode_line(dict(launch))
        for case, launches in cases.items()
        if case not in skipped
        for launch in launches
    ]
    (directory.path / LAUNCHES_FILE).write_bytes(b"".join(lines))
    return load(directory.path)


def good(case: str, median_ms: float, launches: int = 3, count: int = 30) -> list[dict[str, Any]]:
    """Good launches of a case whose medians lie within about one per cent of ``median_ms``."""
    return [
        time_launch(case, i, samples_around(median_ms * (1 + 0.01 * (i - 1)), count, (case, i)))
        for i in range(launches)
    ]


def profile_launch(case: str) -> dict[str, Any]:
    """A launch of job ``layers`` over the four convolutions of ``analysis``: 10 ms, 2 between."""
    names = [f"/stages.{i // 2}/conv{i}/Conv" for i in range(4)]
    found = {
        "entries": [
            [name, "Conv", ms * 1_000_000, [name]]
            for name, ms in zip(names, (1, 4, 2, 1), strict=True)
        ],
        "nodes": [[name, "Conv", [], []] for name in names],
        "total_ns": 10_000_000, "runs": 5, "method": "test",
    }  # fmt: skip
    return apart(case, "layers", layers=found)


def apart(case: str, job: str, **found: Any) -> dict[str, Any]:
    """A launch of another job than ``time``."""
    launch = {**time_launch(case, 9, [1.0]), "job": job, **found}
    del launch["latencies_ns"]
    return launch


def full_run(folder: Path) -> Run:
    """A small run with something of everything that a run can hold."""
    setting = "opencv-cpu/b1/t1"
    plain, split = f"peleenet@224/{setting}", f"csppeleenet@224/{setting}"
    times = {plain: 12.0, split: 10.0, f"csppeleenet[gamma=0.25]@224/{setting}": 14.0,
             f"csppeleenet-ref+prn@320/{setting}": 20.0}  # fmt: skip
    energy = {"energy_per_inference_j": 0.1, "power_w": 10.0, "idle_power_w": 4.0,
              "energy_method": "test"}  # fmt: skip
    more = {"energy": energy, "device": {"device_ns": 8e6}, "sensors": {"proc": {"load_1m": {}}},
            "drift": {"relative": 0.01, "z": 1.0, "slow": False}, "board": None}  # fmt: skip
    cases: dict[str, Any] = {
        case: [launch | more for launch in good(case, latency, count=6)]
        for case, latency in times.items()
    }
    memory = {"peak_memory_bytes": 3 * 2**20, "loaded_bytes": 2**20, "retained_bytes": 2**19,
              "transient_bytes": 2**18, "method": "test"}  # fmt: skip
    rate = {"inferences": 300, "ns": 10**9, "in_flight": 2, "method": "test"}
    cases[plain] += [
        profile_launch(plain), apart(plain, "memory", memory=memory),
        apart(plain, "throughput", throughput=rate), apart(plain, "compile", compile_seconds=3.0),
    ]  # fmt: skip
    cases[split].append(profile_launch(split))
    crashed = f"csppeleenet@320/{setting}"
    cases[crashed] = [bad_launch(crashed, "crashed", "ended by SIGSEGV", log="boom", number=n)
                      for n in range(2)]  # fmt: skip
    cases["peleenet@224/torch-cuda/b1/t1"] = ("unavailable", "no NVIDIA driver is loaded")
    analyses = {
        "peleenet@224": analysis("peleenet@224", [100, 400, 200, 100]),
        "csppeleenet@224": analysis("csppeleenet@224", [100, 200, 200, 100]),
        "csppeleenet[gamma=0.25]@224": analysis("csppeleenet[gamma=0.25]@224", [100, 300]),
    }
    rates = {"gflops": {"fp32": 80.0, "bf16": 90.0}, "bandwidth_gbs": {"triad": 4.0},
             "cache_bandwidth_gbs": {"L2": 20.0}, "overhead_us": 1.0}  # fmt: skip
    suite = {"overrides": ["threads=1"], "notes": ["2 excluded"]}
    return write_run(
        folder, cases, analyses=analyses, ceilings={"cpu/t1": rates}, suite=suite,
        environment={"virtualised": None},
    )  # fmt: skip


def together_run(folder: Path) -> Run:
    """A plain and a partial network that were profiled in the same three blocks."""
    plain, split = (f"{name}@224/opencv-cpu/b1/t1" for name in ("peleenet", "csppeleenet"))
    cases = {
        case: [
            time_launch(
                case, block, [ms * (1 + 0.01 * block)] * 8, layers=profile_launch(case)["layers"],
                turns={"block": str(block), "counts": [2] * 4},
            )
            for block in range(3)
        ]
        for case, ms in ((plain, 12.0), (split, 10.0))
    }  # fmt: skip
    analyses = {
        "peleenet@224": analysis("peleenet@224", [100, 400, 200, 100]),
        "csppeleenet@224": analysis("csppeleenet@224", [100, 200, 200, 100]),
    }
    rates = {"gflops": {"fp32": 80.0}, "bandwidth_gbs": {"triad": 4.0},
             "cache_bandwidth_gbs": {"L2": 20.0}, "overhead_us": 1.0}  # fmt: skip
    return write_run(folder, cases, analyses=analyses, ceilings={"cpu/t1": rates})


def demo_run(folder: Path) -> Run:
    """Two backends, a plain and a partial network with variants, a skipped and a failed case."""
    opencv, torch = "opencv-cpu/b1/t1", "torch-cpu/b1/t1"
    cases: dict[str, Any] = {}
    times = {"peleenet": 12.0, "csppeleenet": 10.0, "csppeleenet[gamma=0.25]": 14.0}
    for model, latency in times.items():
        cases[f"{model}@224/{opencv}"] = good(f"{model}@224/{opencv}", latency)
        cases[f"{model}@224/{torch}"] = good(f"{model}@224/{torch}", 2 * latency)
    cases[f"peleenet@224/{opencv}"].append(profile_launch(f"peleenet@224/{opencv}"))
    detector = f"csppeleenet-ref+prn@320/{opencv}"
    cases[detector] = [
        {**launch, "flags": ["contended"]} for launch in good(detector, 20.0, count=10)
    ]
    cases["peleenet@224/torch-cuda/b1/t1"] = ("unavailable", "no NVIDIA driver is loaded")
    crashed = f"csppeleenet@320/{opencv}"
    cases[crashed] = [
        bad_launch(crashed, "crashed", "the worker was ended by SIGSEGV", log="boom", number=number)
        for number in range(2)
    ]
    analyses = {
        "peleenet@224": analysis("peleenet@224", [100, 400, 200, 100]),
        "csppeleenet@224": analysis("csppeleenet@224", [100, 200, 200, 100]),
        "csppeleenet[gamma=0.25]@224": analysis("csppeleenet[gamma=0.25]@224", [100, 300, 200]),
    }
    ceilings = {
        "cpu/t1": {
            "gflops": {"fp32": 80.0},
            "bandwidth_gbs": {"triad": 4.0},
            "cache_bandwidth_gbs": {"L2": 20.0},
            "overhead_us": 1.0,
        }
    }
    return write_run(folder, cases, analyses=analyses, ceilings=ceilings)
