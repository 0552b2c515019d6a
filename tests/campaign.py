"""Kill workers and controllers at random moments, for long, and look for lost launches.

``python -m tests.campaign --kills 2000`` (resumable: the state lies in ``--folder``). A launch is
*reported* when the controller printed its line; it is *lost* if it is not in ``launches.jsonl``
afterwards, or if a line that was there before has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests import fake_backend

SUITE = """
name: campaign
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  ms: [1, 2, 3]
measure: {rounds: 200, warmup: 0.02, max_seconds: 0.02, target_ci: 50%, memory: false}
"""
#: A run is left behind once it holds this many launches, and a new one begun.
LAUNCHES_A_RUN = 200


@dataclass
class Tally:
    """What has been found so far."""

    kills_of_controllers: int = 0
    kills_of_workers: int = 0
    reported: int = 0
    found: int = 0
    lost: int = 0
    left_behind: int = 0

    @property
    def kills(self) -> int:
        """Both kinds."""
        return self.kills_of_controllers + self.kills_of_workers


class Campaign:
    """A folder with a suite, a backend of another distribution, runs, and the tally."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "tally.json"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.state.exists():
            fake_backend.install(folder)
            (folder / "suite.yaml").write_text(SUITE)
            self._start(["suite.yaml", "--rounds", "1", "--out", "warm"]).communicate()
            self._save(Tally())
        self.tally = Tally(**json.loads(self.state.read_text()))

    def run(self, kills: int, seed: int = 0) -> Tally:
        """Go on until so many kills were made in all."""
        chance = random.Random(f"{seed}/{self.tally.kills}")
        while self.tally.kills < kills:
            self._one(chance)
            self._save(self.tally)
        return self.tally

    def _one(self, chance: random.Random) -> None:
        """Start or resume a run, kill somebody, compare what was reported with what is there."""
        before = self._lines()
        fresh = len(before) >= LAUNCHES_A_RUN or not self._runs()
        before = [] if fresh else before
        controller = self._start(["suite.yaml"] if fresh else ["--resume", self._runs()[-1].name])
        reported: list[str] = []
        reader = threading.Thread(target=_read, args=(controller, reported))
        reader.start()
        time.sleep(chance.uniform(0.5, 4.0))
        victim_is_worker = chance.random() < 0.3 and self._kill_worker(controller)
        if victim_is_worker:
            time.sleep(chance.uniform(0.2, 1.0))  # let the controller tell of it
        _kill(controller.pid)
        controller.wait()
        reader.join()
        self.tally.kills_of_workers += victim_is_worker
        self.tally.kills_of_controllers += 1
        after = self._lines()
        self.tally.reported += len(reported)
        self.tally.found += len(after) - len(before)
        missing = max(0, len(before) + len(reported) - len(after))
        changed = sum(a != b for a, b in zip(before, after, strict=False))
        self.tally.lost += missing + changed
        self.tally.left_behind += _survivors(controller.pid)

    def _start(self, arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "cspbench", "run", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "CSPBENCH_CACHE": str(self.folder / "cache"),
                "CSPBENCH_LOCK_DIR": str(self.folder),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _kill_worker(self, controller: subprocess.Popen[str]) -> bool:
        try:
            workers = psutil.Process(controller.pid).children()
        except psutil.NoSuchProcess:
            return False
        return any(_kill(worker.pid) for worker in workers)

    def _runs(self) -> list[Path]:
        return sorted((self.folder / "results").glob("*"))

    def _lines(self) -> list[bytes]:
        """Whole lines of the newest run; a torn last one is nobody's."""
        runs = self._runs()
        file = runs[-1] / "launches.jsonl" if runs else Path()
        return file.read_bytes().split(b"\n")[:-1] if file.is_file() else []

    def _save(self, tally: Tally) -> None:
        temporary = self.state.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(tally)))
        temporary.replace(self.state)


def _read(controller: subprocess.Popen[str], reported: list[str]) -> None:
    """Collect the lines that tell of a launch: ``[3/600, 41 s left] id: 1.02 ms``."""
    assert controller.stderr is not None
    # A line without its end was not printed to the end: nobody was told.
    reported.extend(line for line in controller.stderr if line[0] == "[" and line[-1] == "\n")


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _survivors(controller: int) -> int:
    """Workers of a dead controller that are still there after five seconds."""

    def workers() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "cspbench.measure.worker" in line and str(controller) in line:
                found.append(process)
        return found

    end = time.monotonic() + 5
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    return len(workers())


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()) / "cspbench-campaign"
    )
    arguments = parser.parse_args()
    tally = Campaign(arguments.folder).run(arguments.kills, arguments.seed)
    print(json.dumps(asdict(tally)))
    sys.exit(1 if tally.lost or tally.left_behind else 0)


if __name__ == "__main__":
    main()
