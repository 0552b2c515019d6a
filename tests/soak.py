"""Kill workers and controllers at random moments, for long, and look for lost launches.

``python -m tests.soak --kills 2000`` (resumable: the state lies in ``--folder``; several with a
folder of their own can go on side by side). ``--backend opencv-cpu`` measures a real network.

A launch is *reported* when the controller printed its line; it is *lost* if its line is not in
``launches.jsonl`` afterwards, or if a line that was there before has changed.

Controllers are forked from this process, which has imported cspbench already: that spares each the
seconds of its start, so that the kills fall on its work. Workers are started as always.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import re
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cspbench.jobs.worker import die_with_parent
from tests import fake_backend

SUITES = {
    "fake": """
name: soak
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  ms: [1, 2, 3]
measure: {rounds: 200, warmup: 0.02, max_seconds: 0.02, memory: false}
""",
    "opencv-cpu": """
name: soak
matrix:
  model: [yolov3-tiny-prn]
  input: [96, 128]
  backend: [opencv-cpu]
  threads: [1, 2]
measure: {rounds: 200, warmup: 0.02, max_seconds: 0.02, memory: false}
""",
}
#: A run is left behind once it holds this many launches, and a new one begun.
LAUNCHES_A_RUN = 200
#: Share of the kills that hit a worker; the controller goes on and tells how its launch ended.
WORKERS_SHARE = 0.7
#: Wide enough that no line of the controller is folded, and it has no end of a line in it.
_REPORTED = re.compile(r"^\[\d+/\d+, \d+ s left\] (\S+): .*\n", re.MULTILINE)


@dataclass
class Tally:
    """What has been found so far."""

    kills_of_controllers: int = 0
    kills_of_workers: int = 0
    reported: int = 0
    found: int = 0
    lost: int = 0
    left_behind: int = 0
    files_left: int = 0

    @property
    def kills(self) -> int:
        """Both kinds."""
        return self.kills_of_controllers + self.kills_of_workers


class Soak:
    """A folder with a suite, a backend of another distribution, runs, and the tally."""

    def __init__(self, folder: Path, backend: str = "fake") -> None:
        self.folder = folder
        self.state = folder / "tally.json"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tmp", "done", "results"):
            (folder / name).mkdir(exist_ok=True)
        if not self.state.exists():
            fake_backend.install(folder)
            (folder / "suite.yaml").write_text(SUITES[backend])
            # A whole run first: it exports the models, and its report must be written.
            warm = [
                "suite.yaml",
                "--rounds",
                "1",
                "--results",
                "warm",
                "--only",
                f"*/{backend}/*/t1",
            ]
            os.waitpid(self._start(warm), 0)
            self._save(Tally())
        self.tally = Tally(**json.loads(self.state.read_text()))

    def run(self, kills: int, seed: int = 0) -> Tally:
        """Go on until so many kills were made in all."""
        chance = random.Random(f"{seed}/{self.tally.kills}")
        while self.tally.kills < kills:
            self._one(chance)
            self._save(self.tally)
        self.tally.files_left = self._files_left()
        self._save(self.tally)
        return self.tally

    def _one(self, chance: random.Random) -> None:
        """Start or resume a run, kill workers and then the controller, compare."""
        run = self._run()
        before = self._lines()
        controller = self._start(["--resume", run.name] if run else ["suite.yaml"])
        time.sleep(chance.uniform(0.0, 3.0))
        while chance.random() < WORKERS_SHARE:
            self.tally.kills_of_workers += self._kill_worker(controller)
            # Mostly in mid-launch; now and then there is time for launches that end well.
            time.sleep(chance.uniform(0.0, chance.choice((1.5, 1.5, 6.0))))
        ended, _ = os.waitpid(controller, os.WNOHANG)  # it had nothing left to measure
        if not ended:
            os.kill(controller, signal.SIGKILL)
            os.waitpid(controller, 0)
            self.tally.kills_of_controllers += 1
        reported = _REPORTED.findall((self.folder / "told.txt").read_text())
        after = self._lines()
        new = [_case(line) for line in after[len(before) :]]
        self.tally.reported += len(reported)
        self.tally.found += len(new)
        changed = sum(a != b for a, b in zip(before, after, strict=False))
        missing = max(0, len(before) - len(after))
        self.tally.lost += missing + changed + _not_found(reported, new)
        self.tally.left_behind += _survivors(controller)
        if ended or len(after) >= LAUNCHES_A_RUN:
            self._run().rename(self.folder / "done" / f"{self.tally.kills}")

    def _start(self, arguments: list[str]) -> int:
        """Fork a controller; what it tells goes into ``told.txt``, a line when it is written."""
        told = self.folder / "told.txt"
        told.write_text("")
        pid = os.fork()
        if pid:
            return pid
        with contextlib.suppress(BaseException):
            die_with_parent()
            os.chdir(self.folder)
            os.environ |= {
                "PYTHONPATH": os.pathsep.join([str(self.folder), *sys.path]),
                "CSPBENCH_CACHE": str(self.folder / "cache"),
                "CSPBENCH_LOCK_DIR": str(self.folder),
                "TMPDIR": str(self.folder / "tmp"),
            }
            tempfile.tempdir = None
            sys.path.insert(0, str(self.folder))
            os.dup2(os.open(told, os.O_WRONLY | os.O_APPEND), 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            # Whoever forked may have looked for backends before this one was installed.
            sys.modules.pop("cspbench_fake_backend", None)
            importlib.import_module("cspbench_fake_backend")
            from cspbench.cli.main import main

            main(["run", "--verbose", "--no-report", *arguments])
        os._exit(0)

    def _kill_worker(self, controller: int) -> bool:
        with contextlib.suppress(psutil.Error):
            for worker in psutil.Process(controller).children():
                worker.kill()
                return True
        return False

    def _run(self) -> Path | None:
        """The run that is to be gone on with."""
        return next((self.folder / "results").glob("*"), None)

    def _lines(self) -> list[bytes]:
        """Whole lines of the run; a torn last one is nobody's."""
        file = (self._run() or self.folder) / "launches.jsonl"
        return file.read_bytes().split(b"\n")[:-1] if file.is_file() else []

    def _files_left(self) -> int:
        """Temporary files that no later session took away; torch has a cache of its own there."""
        found = [*(self.folder / "tmp").iterdir(), *self.folder.glob("done/*/*.new")]
        return sum(not path.name.startswith("torchinductor") for path in found)

    def _save(self, tally: Tally) -> None:
        temporary = self.state.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(tally)))
        temporary.replace(self.state)


def _case(line: bytes) -> str:
    """The case of a stored line; the empty text if it is damaged."""
    from cspbench.store.lines import decode_line

    try:
        return str(decode_line(line)["case"])
    except ValueError:
        return ""


def _not_found(reported: list[str], stored: list[str]) -> int:
    """How many of the reported launches are not among the stored ones, in their order."""
    left = iter(stored)
    return sum(case not in left for case in reported)


def _survivors(controller: int) -> int:
    """Workers of a dead controller that are still there after five seconds."""

    def workers() -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if "cspbench.jobs.worker" in line and str(controller) in line:
                found.append(process)
        return found

    end = time.monotonic() + 5
    while workers() and time.monotonic() < end:
        time.sleep(0.1)
    return len(workers())


def _import_all() -> None:
    """Load what a controller loads until its first launch, before any is forked."""
    import cspbench.cli.main
    import cspbench.cli.progress
    import cspbench.cli.run
    import cspbench.machine.lock
    import cspbench.runner.executor
    import cspbench.runner.measure
    import cspbench.runner.run
    import cspbench.suite.load  # noqa: F401


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", choices=SUITES, default="fake")
    parser.add_argument("--folder", type=Path, help="default: cspbench-soak-BACKEND in $TMPDIR")
    arguments = parser.parse_args()
    name = f"cspbench-soak-{arguments.backend}"
    folder = arguments.folder or Path(tempfile.gettempdir()) / name
    _import_all()
    tally = Soak(folder.resolve(), arguments.backend).run(arguments.kills, arguments.seed)
    print(json.dumps(asdict(tally)))
    sys.exit(1 if tally.lost or tally.left_behind or tally.files_left else 0)


if __name__ == "__main__":
    main()
