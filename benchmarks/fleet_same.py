"""Does a fleet of one give the latencies of a local run? A duet of the agent's worker and ours.

Two worker processes of one case stay alive and take bursts of about 5 ms in turn
(``cspbench.gating.duet``): one is a child of the agent, started inside of the Dask task in which
the agent would launch it, the other is a child of this process. In the bursts of the local one the
agent is stopped (SIGSTOP), as if there were none; what it puts off meanwhile, heartbeats above all,
it does in the bursts of its own worker. So whatever the agent costs falls on its side.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from multiprocessing import connection, reduction
from pathlib import Path
from statistics import mean
from typing import Any

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.gating.decide import student_bound
from cspbench.gating.duet import Side, measure_blocks
from cspbench.gating.measure import load_request
from cspbench.gating.prepare import prepare_cases
from cspbench.machine.lock import timing_lock
from cspbench.measure.ratios import typical_estimate
from cspbench.runner.arms import ArmLostError, ArmSpec, Burst, Loaded, WorkerArm
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.plan import plan_suite
from cspbench.runner.process import Outcome
from cspbench.suite.suite import Measure, Suite


def hold_arm(path: str, spec: ArmSpec) -> None:
    """Start an arm, load and warm it up, hand its pipes over, and keep it (runs in a Dask task).

    From then on the agent does with its worker what it does in a launch: it waits.
    """
    arm = WorkerArm(spec)
    with closing(arm), connection.Client(path) as wire:
        arm.start()
        wire.send(arm.load())
        worker = arm._worker
        for end in (worker._process.stdin.fileno(), worker._answers):
            reduction.send_handle(wire, end, 0)  # to the process at the other end
        wire.recv()


class Pipes:
    """The pipes of another process's worker: asks like WorkerProcess, without its supervision."""

    def __init__(self, jobs: int, answers: int) -> None:
        self._jobs, self._answers = os.fdopen(jobs, "wb", 0), os.fdopen(answers, "rb")
        os.set_blocking(answers, True)

    def ask(self, job: dict[str, Any], _: float) -> Outcome:
        """Send a job, wait for its answer."""
        self._jobs.write(json.dumps(job).encode() + b"\n")
        for line in self._answers:
            message = json.loads(line)
            if message.pop("event") == "answer":
                return Outcome(Status(message.pop("status")), message.pop("reason", ""), message)
        raise SystemExit("the agent's worker ended")

    def close(self) -> None:
        """Let go of both."""
        self._jobs.close()
        self._answers.close()


class FarArm(WorkerArm):
    """An arm whose process is the agent's."""

    def __init__(self, spec: ArmSpec, submit: Callable[..., Any], folder: Path) -> None:
        super().__init__(spec)
        self._submit, self._folder = submit, folder

    def start(self) -> None:
        """Let the agent begin a fresh process."""
        path = str(self._folder / f"arm-{time.monotonic_ns()}")
        with connection.Listener(path, family="AF_UNIX") as listener:
            self._task = self._submit(hold_arm, path, self._spec, pure=False)
            self._wire = listener.accept()

    def load(self) -> Loaded:
        """Take over the pipes of the loaded and warm worker."""
        loaded: Loaded = self._wire.recv()
        self._expected_ns = loaded.inference_ns
        self._worker = Pipes(*(reduction.recv_handle(self._wire) for _ in range(2)))
        return loaded

    def close(self) -> None:
        """End the process and the agent's task."""
        self._worker.close()
        self._wire.send("end")
        self._wire.close()
        self._task.result(timeout=30)


class LocalArm(WorkerArm):
    """An arm of this process; the agent is stopped while it runs."""

    def __init__(self, spec: ArmSpec, agent: int) -> None:
        super().__init__(spec)
        self._agent = agent

    def burst(self, count: int) -> Burst:
        """Run so many inferences as if there were no agent."""
        os.kill(self._agent, signal.SIGSTOP)
        try:
            return super().burst(count)
        finally:
            os.kill(self._agent, signal.SIGCONT)


def same(case_text: str, rounds: int, address: str, agent: int) -> None:
    """Measure so many blocks; print each, then the ratio with its interval.

    Args:
        case_text: id of the case.
        rounds: blocks of thirty pairs of bursts.
        address: of a scheduler with one agent.
        agent: its process id.
    """
    import psutil
    from distributed import Client

    measure = Measure()
    suite = Suite("fleet-of-one", (Case.parse(case_text),), measure)
    (prepared,) = prepare_cases(plan_suite(suite), LocalExecutor())
    if prepared.status is not None:
        raise SystemExit(f"{case_text}: {prepared.status}: {prepared.reason}")
    request = load_request(prepared, measure)
    watched, estimates = psutil.Process(agent), []
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(address, set_as_default=False) as client,
        timing_lock("benchmarks/fleet.py"),
    ):
        client.wait_for_workers(1, timeout=60)

        def make(side: Side) -> Any:
            spec = ArmSpec("head" if side == "head" else "base", request)
            if side == "base":
                return LocalArm(spec, agent)
            return FarArm(spec, client.submit, Path(folder))

        started, spent = time.monotonic(), sum(watched.cpu_times()[:2])
        for _, block in itertools.islice(measure_blocks({"it": make}), rounds):
            if isinstance(block, ArmLostError):
                raise block
            base, head = (block.inference_ns(side) for side in ("base", "head"))
            estimates.append(typical_estimate(base, head))
            print(f"{len(estimates)}/{rounds} {100 * math.expm1(estimates[-1]):+.2f} %", flush=True)
        spent = sum(watched.cpu_times()[:2]) - spent
    share = 100 * spent / (time.monotonic() - started)
    print(interval(estimates))
    print(f"The agent took {share:.1f} % of a core meanwhile.")


def interval(log_ratios: Sequence[float]) -> str:
    """Mean ratio of blocks with its 95 % t interval, and whether it lies within 1 %."""
    center = mean(log_ratios)
    half = student_bound(log_ratios, 0.975) if len(log_ratios) > 1 else math.inf
    low, high = (100 * math.expm1(center + side * half) for side in (-1, 1))
    verdict = "within 1 %" if low >= -1 and high <= 1 else "not shown to be within 1 %"
    return (
        f"fleet of one against local: {100 * math.expm1(center):+.2f} % "
        f"({low:+.2f} to {high:+.2f} %, {len(log_ratios)} blocks): {verdict}"
    )
