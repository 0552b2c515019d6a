"""A stored run of a plain and a partial network with layer times, at batch 1 and 8."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cspbench.attribution import ladder, pair
from cspbench.views.frames import Run
from tests.report.runs import analysis, profile_launch, time_launch, write_run

PLAIN, PARTIAL = "peleenet@224", "csppeleenet@224"
SETTING = "opencv-cpu/b{batch}/t1"
#: ms by model and batch: the partial network is slower at batch 1 and faster at batch 8.
LATENCIES = {(PLAIN, 1): 10.0, (PARTIAL, 1): 12.0, (PLAIN, 8): 80.0, (PARTIAL, 8): 60.0}
#: ms of the four convolutions in a profile, by model and batch.
PROFILES = {
    (PLAIN, 1): (1, 4, 2, 2), (PARTIAL, 1): (2, 4, 3, 2),
    (PLAIN, 8): (8, 32, 20, 18), (PARTIAL, 8): (8, 22, 16, 12),
}  # fmt: skip
CEILINGS = {
    "cpu/t1": {
        "gflops": {"fp32": 80.0}, "bandwidth_gbs": {"triad": 4.0},
        "cache_bandwidth_gbs": {"L2": 20.0}, "overhead_us": 1.0,
    }
}  # fmt: skip


def case(model: str, batch: int = 1) -> str:
    """The case id of a model at a batch."""
    return f"{model}/{SETTING.format(batch=batch)}"


def profiled(id_: str, times_ms: tuple[int, ...]) -> dict[str, object]:
    """A layers launch with these times of the four convolutions; a quarter more in all."""
    launch = profile_launch(id_)
    found = launch["layers"]
    rows = zip(found["entries"], times_ms, strict=True)
    entries = [[name, op, ms * 1_000_000, members] for (name, op, _, members), ms in rows]
    return launch | {"layers": found | {"entries": entries, "total_ns": sum(times_ms) * 1_250_000}}


def pair_run(
    folder: Path, *, layers: bool = True, ceilings: bool = True, flags: Sequence[str] = ()
) -> Run:
    """The run; without layer launches or ceilings where told. ``flags`` are of every launch."""
    cases = {}
    for (model, batch), latency in LATENCIES.items():
        id_ = case(model, batch)
        cases[id_] = [
            time_launch(id_, number, [latency * (1 + (number - 1) / 100)] * 20, flags=list(flags))
            for number in range(3)
        ]
        if layers:
            cases[id_].append(profiled(id_, PROFILES[model, batch]))
    # Chains of four 1x1 convolutions with so many million MACs: 8 MFLOPs take 0.1 ms at best.
    million = 1_000_000
    analyses = {
        PLAIN: analysis(PLAIN, [million, 4 * million, 2 * million, 2 * million]),
        PARTIAL: analysis(PARTIAL, [million, 3 * million, 2 * million, million]),
    }
    return write_run(folder, cases, analyses=analyses, ceilings=CEILINGS if ceilings else {})


def keep_invented_ceilings():
    """Ceilings of this processor in the cache: to measure them takes a gigabyte and half a minute.

    Returns:
        their file.
    """
    from cspbench.store.ceilings import Ceilings, keep_ceilings

    return keep_ceilings("cpu", Ceilings(
        gflops={"fp32": 50.0}, bandwidth_gbs={"triad": 5.0}, cache_bandwidth_gbs={},
        overhead_us=2.0, working_set_bytes=1, threads=1,
    ))  # fmt: skip


def measure_briefly(monkeypatch):
    """Measured pairs and ladders take the rounds that are asked for and no more, of short bursts.

    Sharp numbers are not the promise of a test, and a busy machine would be measured three times as
    often for them.
    """
    plan_runnable = pair.plan_runnable

    def brief(suite):
        return plan_runnable(replace(suite, measure=replace(suite.measure, target_ratio=0.99)))

    monkeypatch.setattr(pair, "plan_runnable", brief)
    monkeypatch.setattr(ladder, "plan_runnable", brief)
    monkeypatch.setattr(pair, "MAX_SECONDS", 0.3)
