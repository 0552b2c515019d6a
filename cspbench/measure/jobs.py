"""The jobs that a worker does, each in a process of its own.

A job is a JSON object that names the case and its artifact; a function does it and returns the
answer. Only the backend that is measured is imported, and that late.
"""

from __future__ import annotations

import gc
import importlib
import json
import traceback
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cspbench.core.statuses import Status
from cspbench.errors import Unavailable, Unsupported

if TYPE_CHECKING:
    from cspbench.core.case import ModelId

Answer = dict[str, Any]
#: Tells the controller which phase began; it owns the time-outs.
PhaseReport = Callable[[str], None]


def time_job(job: Answer, phase: PhaseReport) -> Answer:
    """Load, check agreement with torch, warm up, sample, all of it in the scope of the case.

    The first inference and the check are those of a plain inference, whatever the scope.

    Returns:
        the fields of a launch record that a worker can know (see docs/metrics.md).
    """
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, DeviceTimes, device_of, precision_of
    from cspbench.core.case import Case
    from cspbench.machine.devices.spec import DEVICES
    from cspbench.machine.sensors.proc import between, read_cpu_times
    from cspbench.measure import sampling
    from cspbench.measure.agreement import check_agreement
    from cspbench.measure.clock import MonotonicClock
    from cspbench.measure.scope import INFERENCE, scope_of, timed_parts
    from cspbench.measure.threads import wrong_threads

    case = Case.parse(job["case"])
    clock = MonotonicClock()
    phase("load")
    pool = input_pool(case.input_shape, job["seed"])
    start = clock.now_ns()
    backend = BACKENDS.get(case.backend.name)
    options = dict(case.backend.options)
    session = backend.load(Path(job["artifact"]), options, case.threads)
    load_ns = clock.now_ns() - start

    phase("warm-up")
    first_ns = sampling.timed(session.run, lambda _: session.set_input(pool[0]), clock, 0)
    precision = precision_of(backend, options)
    agreement = check_agreement(session.outputs(), Path(job["reference"]), precision)
    feed, infer = timed_parts(session, case, pool)
    warm = sampling.warm_up(infer, feed, clock, job["warmup_seconds"])
    phase("sample")
    gc.collect()
    gc.disable()
    before = read_cpu_times()
    begin = clock.now_ns()
    samples = sampling.sample(infer, feed, clock, job["target_ci"], job["max_seconds"])
    sample_seconds = (clock.now_ns() - begin) / 1e9
    interference = between(before, read_cpu_times())
    gc.enable()
    facts = dict(session.describe())
    if DEVICES.get(device_of(backend, options)).on_host:
        problem = wrong_threads(case.threads, facts.get("threads"), interference)
        if problem:
            return {"status": Status.FAILED.value, "reason": problem, "backend": facts}
    phase("close")
    answer: Answer = {
        "status": Status.OK.value,
        "load_ns": load_ns,
        "first_ns": first_ns,
        "latencies_ns": samples.latencies_ns,
        "sample_seconds": sample_seconds,
        "scope": scope_of(options),
        "stop": samples.stop,
        "relative_half_width": samples.relative_half_width,
        "warmup": asdict(warm),
        "agreement": agreement,
        "backend": facts,
        "interference": asdict(interference) if interference else None,
    }
    drift = sampling.drift_of(samples.latencies_ns)
    if drift is not None:
        answer["drift"] = asdict(drift)
    spoilt = {
        "not_steady": not warm.steady or (drift is not None and drift.slow),
        "contended": interference is not None and interference.contended(),
        "fallback_engine": "fallback" in facts,
    }
    answer["flags"] = [flag for flag, holds in spoilt.items() if holds]
    if isinstance(session, DeviceTimes) and scope_of(options) == INFERENCE:
        answer["device"] = dict(session.device_times(len(samples.latencies_ns)))
    session.close()
    return answer


def memory_job(job: Answer, phase: PhaseReport) -> Answer:
    """Measure peak memory of loading and running one case.

    Returns:
        ``memory``: bytes by what they are for, with the ``method``.
    """
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, Warms
    from cspbench.core.case import Case
    from cspbench.measure import memory

    reason = memory.unavailable()
    if reason:
        raise Unavailable(reason)
    case = Case.parse(job["case"])
    phase("load")
    backend = BACKENDS.get(case.backend.name)
    importlib.import_module(backend.library)
    if isinstance(backend, Warms):
        backend.warm(dict(case.backend.options))
    pool = input_pool(case.input_shape, job["seed"], 2)
    found = memory.measure(
        lambda: backend.load(Path(job["artifact"]), dict(case.backend.options), case.threads), pool
    )
    answer = {**found, "method": memory.METHOD}
    return {"status": Status.OK.value, "memory": answer, "flags": []}


def ceilings_job(job: Answer, phase: PhaseReport) -> Answer:
    """Measure what a device can do at best."""
    phase("sample")
    from cspbench.measure.ceilings import measure

    return {"status": Status.OK.value, "ceilings": measure(job["device"], job["threads"])}


def layers_job(job: Answer, phase: PhaseReport) -> Answer:
    """Profile the layers of one case with the backend's own profiler.

    Returns:
        ``layers``: the profiler's entries, the median of the whole inference, and the nodes of
        the artifact in their order, so that entries can be joined to an Analysis.
    """
    from cspbench.artifacts.spec import ARTIFACTS
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, LayerProfiler
    from cspbench.core.case import Case
    from cspbench.measure.layers import to_answer

    case = Case.parse(job["case"])
    backend = BACKENDS.get(case.backend.name)
    if not isinstance(backend, LayerProfiler):
        raise Unsupported(f"{backend.name} has no layer profiler")
    artifact, options = Path(job["artifact"]), dict(case.backend.options)
    pool = input_pool(case.input_shape, job["seed"])
    phase("sample")
    found = backend.profile_layers(artifact, options, case.threads, pool, job["max_seconds"])
    phase("close")
    read_nodes = ARTIFACTS.get(backend.artifact).nodes
    nodes = read_nodes(artifact) if read_nodes is not None else []
    return {"status": Status.OK.value, "layers": to_answer(found, nodes), "flags": []}


def throughput_job(job: Answer, phase: PhaseReport) -> Answer:
    """Run one case with as many inferences under way as its backend can overlap.

    Returns:
        ``throughput``: inferences, ns, how many were under way and how.
    """
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends._throughput import back_to_back
    from cspbench.backends.spec import BACKENDS, Pipelines
    from cspbench.core.case import Case
    from cspbench.measure.scope import INFERENCE, scope_of

    case = Case.parse(job["case"])
    backend = BACKENDS.get(case.backend.name)
    artifact, options = Path(job["artifact"]), dict(case.backend.options)
    if scope_of(options) != INFERENCE:
        raise Unsupported("throughput is that of scope inference")
    pool = input_pool(case.input_shape, job["seed"])
    phase("sample")
    given = (artifact, options, case.threads, pool, job["max_seconds"])
    if isinstance(backend, Pipelines):
        found = backend.throughput(*given)
    else:
        found = back_to_back(backend, *given)
    return {"status": Status.OK.value, "throughput": asdict(found), "flags": []}


def compile_job(job: Answer, phase: PhaseReport) -> Answer:
    """Load and run one case once, so that its backend's cache is filled.

    Returns:
        ``compile_seconds``: loading, compiling and the first inference; ``compile_cached``, true
        if an earlier process had compiled the same.
    """
    from cspbench.artifacts.tensors import input_pool
    from cspbench.backends.spec import BACKENDS, Compiles
    from cspbench.core.case import Case
    from cspbench.measure.clock import MonotonicClock

    case = Case.parse(job["case"])
    clock = MonotonicClock()
    backend = BACKENDS.get(case.backend.name)
    importlib.import_module(backend.library)
    pool = input_pool(case.input_shape, job["seed"], 1)
    phase("compile")
    start = clock.now_ns()
    session = backend.load(Path(job["artifact"]), dict(case.backend.options), case.threads)
    session.set_input(pool[0])
    session.run()
    seconds = (clock.now_ns() - start) / 1e9
    session.close()
    cached = isinstance(backend, Compiles) and backend.compiled_from_cache()
    return {
        "status": Status.OK.value, "compile_seconds": seconds, "compile_cached": cached,
        "flags": [],
    }  # fmt: skip


def prepare_job(job: Answer, phase: PhaseReport) -> Answer:
    """Analyse one model, and export the artifacts that are asked for.

    Returns:
        ``analysis`` (or ``analysis_problem``: a model that cannot be analysed can be measured all
        the same), and ``unsupported``: reasons by artifact key.
    """
    from cspbench.core.case import ModelId

    model = ModelId.parse(job["model"])
    phase("analyze")
    answer = _analysis(job["model"])
    phase("export")
    answer["unsupported"] = _export(model, job["artifacts"], job["seed"])
    return {"status": Status.OK.value, **answer}


def _analysis(model: str) -> Answer:
    from cspbench.analysis.api import analyze_id

    try:
        return {"analysis": json.loads(analyze_id(model).to_json())}
    except Exception as error:  # whatever a model does, it can be timed without being counted
        traceback.print_exc()
        return {"analysis_problem": f"{type(error).__name__}: {error}"[:500]}


def _export(model: ModelId, items: list[Answer], seed: int) -> dict[str, str]:
    """Write the artifacts; return why those that are missing cannot be had."""
    if not items:
        return {}
    from cspbench.artifacts.cache import ArtifactSpec
    from cspbench.artifacts.export import maker

    make = maker(model, seed)
    reasons = {}
    for item in items:
        spec = ArtifactSpec(model, item["batch"], item["kind"], seed)
        if spec.key != item["key"]:
            raise RuntimeError("the definitions of the models changed while they were measured")
        try:
            make(spec)
        except Unsupported as reason:
            reasons[spec.key] = str(reason)
    return reasons


JOBS: dict[str, Callable[[Answer, PhaseReport], Answer]] = {
    "time": time_job,
    "memory": memory_job,
    "layers": layers_job,
    "throughput": throughput_job,
    "compile": compile_job,
    "prepare": prepare_job,
    "ceilings": ceilings_job,
}
