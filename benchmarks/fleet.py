"""What a fleet costs: simulated boards against a real scheduler, and a fleet of one against none.

``simulate`` runs the whole path but the launches themselves: a real Dask scheduler, boards that are
Dask workers of one process, and a controller that writes a real run directory. A board answers a
block of cases of the fake backend with invented latencies, ``--seconds`` a launch later. It prints
processor time and memory of controller and scheduler, at a quarter, half and all of the boards, so
that growth shows.

``same`` lets a worker of an agent and a local one take bursts in turn (``fleet_same.py``), and
prints the ratio of the latencies with its 95 % interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

MODEL = "yolov3-tiny-prn@96"
#: Cases a board: axes of the fake backend.
CASES_A_BOARD = 5
#: Rounds and inferences a burst of an invented launch: as a real one of some milliseconds has.
ROUNDS, BURST = 80, 5
#: A launch on a real board takes about so long; what saturates is counted for it.
REAL_LAUNCH_SECONDS = 10.0


# -- simulated boards ----------------------------------------------------------------------------


class Invented:
    """An executor whose blocks take a while and return invented results."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._random = random.Random(0)

    def block(self, request: Any, _: float) -> Iterator[tuple[int, Any]]:
        """An outcome for each arm, and for the reference's second arm."""
        from cspbench.runner.block_request import CHECK

        arms = [*range(len(request.arms)), *([] if request.reference is None else [CHECK])]
        time.sleep(self._seconds * len(arms))
        for arm in arms:
            yield arm, self._outcome(request.name)

    def _outcome(self, block: str) -> Any:
        from cspbench.core.statuses import Status
        from cspbench.runner.process import Outcome

        base = 10_000_000
        answer = {
            "load_ns": base, "first_ns": base, "stop": "max_seconds", "relative_half_width": 0.01,
            "latencies_ns": [base + self._random.randrange(10**5) for _ in range(ROUNDS * BURST)],
            "warmup": {"count": 9, "window_medians_ns": [base] * 5, "steady": True},
            "agreement": {"max_relative_error": 0.0, "tolerance": 1e-4},
            "backend": {"version": "1"}, "interference": None,
            "turns": {"block": block, "counts": [BURST] * ROUNDS, "lost_ns": [0] * ROUNDS,
                      "minor_faults": 0, "system_ns": 0},
        }  # fmt: skip
        return Outcome(Status.OK, answer=answer, seconds=self._seconds)

    def series(self, jobs: Sequence[dict[str, Any]], _: float) -> Iterator[Any]:
        """Models are prepared without building them: their cost is not the fleet's."""
        from cspbench.core.statuses import Status
        from cspbench.runner.process import Outcome

        for _ in jobs:
            yield Outcome(Status.OK, answer={"analysis": {"totals": {}}})


def serve_boards(address: str, number: int, seconds: float) -> None:
    """Be so many boards, until killed."""
    from cspbench.fleet.agent import work
    from cspbench.fleet.artifacts import Store, suffixes
    from cspbench.fleet.board import Board, Settings

    suffixes()  # finds the kinds of artifacts before many threads do, which one agent has not
    store = Store()
    announcement = json.loads(Board(Settings("x")).announce())

    class Simulated(Board):
        def announce(self) -> str:
            return json.dumps({**announcement, "name": self.settings.name, "session": self.session})

    async def all_boards() -> None:
        boards = [
            Simulated(Settings(f"board-{i:04}", cool_seconds=0.0), Invented(seconds), store,
                      lock=lambda *_, **__: nullcontext())
            for i in range(number)
        ]  # fmt: skip
        for start in range(0, number, 25):  # not all at once: a real fleet does not either
            group = [asyncio.ensure_future(work(address, b)) for b in boards[start : start + 25]]
            keep.extend(group)
            await asyncio.sleep(0.5)
        await asyncio.gather(*keep)

    keep: list[Any] = []
    asyncio.run(all_boards())


# -- the controller of the simulation ------------------------------------------------------------


def control(address: str, boards: int, launches: int, out: Path, scheduler: int) -> None:
    """Run a suite on all boards; print what it cost, as JSON."""
    import psutil

    from cspbench.core.case import Case, Ref
    from cspbench.fleet.client import FleetClient
    from cspbench.fleet.controller import execute_fleet, new_fleet_run
    from cspbench.fleet.devices import plan_fleet
    from cspbench.store.rundir import read_run
    from cspbench.suite.suite import Measure, Suite

    cases = tuple(
        Case(Ref("yolov3-tiny-prn"), (96, 96), Ref.of("fake", {"ms": ms} if ms > 1 else {}))
        for ms in range(1, CASES_A_BOARD + 1)
    )
    rounds = max(1, launches // (boards * (CASES_A_BOARD + 1)))  # and the reference again
    measure = Measure(rounds=rounds, target_ratio=0.99, memory=False, sensors="none")
    client = FleetClient(address, connect_seconds=60)
    while len(client.boards()) < boards:
        time.sleep(0.2)
    fleet = plan_fleet(Suite("simulated", cases, measure, devices=("each",)), client.boards())
    for planned in fleet.plan.cases[:CASES_A_BOARD]:
        planned.artifact.path.parent.mkdir(parents=True, exist_ok=True)
        planned.artifact.path.write_bytes(b"artifact")
        planned.artifact.reference.write_bytes(b"reference")
    path = new_fleet_run(fleet, out).path
    before_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    watched = psutil.Process(scheduler)
    spent = sum(watched.cpu_times()[:2])
    cpu, wall = time.process_time(), time.monotonic()
    execute_fleet(fleet, path, client, Invented(0.0))
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    spent = sum(watched.cpu_times()[:2]) - spent
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    stored = read_run(path).launches
    client.close()
    good = sum(launch.good for launch in stored)
    result = {
        "boards": boards, "launches": len(stored), "good": good, "wall_seconds": wall,
        "controller_cpu_ms": 1000 * cpu / len(stored), "controller_peak_mib": peak_mib,
        "controller_start_mib": before_mib, "scheduler_cpu_ms": 1000 * spent / len(stored),
        "scheduler_mib": watched.memory_info().rss / 2**20,
    }  # fmt: skip
    print(json.dumps(result), flush=True)


@contextmanager
def process(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
    started = subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=log, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def free_address() -> str:
    """The address of a free port of loopback."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def scheduler_words(address: str) -> list[str]:
    """What starts a scheduler."""
    web = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    return ["-m", "distributed.cli.dask_scheduler", "--host", address, *web]


def simulate_once(boards: int, launches: int, seconds: float, out: Path) -> dict[str, Any]:
    """One simulation in processes of its own; with the scheduler's share."""
    import psutil

    address, me = free_address(), str(Path(__file__).resolve())
    with process(*scheduler_words(address)) as scheduler:
        time.sleep(3)
        with process(me, "boards", address, str(boards), str(seconds)):
            words = ["control", address, str(boards), str(launches), str(out), str(scheduler.pid)]
            control = [sys.executable, me, *words]
            watched = psutil.Process(scheduler.pid)
            done = subprocess.run(control, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr)
            result = dict(json.loads(done.stdout.splitlines()[-1]))
            # Boards that only send heartbeats cost the scheduler this:
            idle = watched.cpu_times()
            time.sleep(10)
            rest = watched.cpu_times()
            spent = rest.user + rest.system - idle.user - idle.system
            result["idle_scheduler_share"] = spent / 10
    return result


def simulate(boards: int, launches: int, seconds: float) -> None:
    """A quarter, half and all of the boards; the same launches a board."""
    from tests.fake_backend import install

    columns = ("boards", "launches", "good", "wall_seconds", "controller_cpu_ms",
               "controller_peak_mib", "scheduler_cpu_ms", "scheduler_mib",
               "idle_scheduler_share")  # fmt: skip
    print("| " + " | ".join(columns) + " |\n|" + " ---: |" * len(columns), flush=True)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        fakes = Path(folder) / "fakes"
        fakes.mkdir()
        os.environ["PYTHONPATH"] = os.pathsep.join([str(install(fakes)), str(ROOT)])
        os.environ["CSPBENCH_CACHE"] = str(Path(folder) / "cache")
        for share in (4, 2, 1):
            result = simulate_once(
                boards // share, launches // share, seconds, Path(folder) / "out"
            )
            cells = [f"{result[c]:.3g}" if isinstance(result[c], float) else f"{result[c]}"
                     for c in columns]  # fmt: skip
            print("| " + " | ".join(cells) + " |", flush=True)
    for who in ("controller", "scheduler"):
        rate = 1000 / result[f"{who}_cpu_ms"]
        print(f"The {who} is busy at about {rate:.0f} launches a second, which is "
              f"{rate * REAL_LAUNCH_SECONDS:.0f} boards with launches of "
              f"{REAL_LAUNCH_SECONDS:.0f} s.")  # fmt: skip


# -- a fleet of one ------------------------------------------------------------------------------


def same(case: str, rounds: int) -> None:
    """A scheduler and an agent on this machine; their worker and one of ours in turns."""
    from benchmarks.fleet_same import same as measure

    address = free_address()
    with process(*scheduler_words(address)), process("-m", "cspbench", "agent", address) as agent:
        measure(case, rounds, address, agent.pid)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    public = commands.add_parser("simulate", help="simulated boards against a real scheduler")
    public.add_argument("--boards", type=int, default=200)
    public.add_argument("--launches", type=int, default=5000)
    public.add_argument("--seconds", type=float, default=1.0, help="length of a launch")
    public = commands.add_parser("same", help="a fleet of one against local launches")
    public.add_argument("--case", default="peleenet@64/opencv-cpu/b1/t1")
    public.add_argument("--rounds", type=int, default=100, help="blocks of the duet")
    inner = commands.add_parser("boards")
    inner.add_argument("address")
    inner.add_argument("number", type=int)
    inner.add_argument("seconds", type=float)
    inner = commands.add_parser("control")
    inner.add_argument("address")
    inner.add_argument("boards", type=int)
    inner.add_argument("launches", type=int)
    inner.add_argument("out", type=Path)
    inner.add_argument("scheduler", type=int)
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    if command == "simulate":
        simulate(**arguments)
    elif command == "same":
        same(**arguments)
    elif command == "boards":
        serve_boards(**arguments)
    else:
        control(**arguments)


if __name__ == "__main__":
    main()
