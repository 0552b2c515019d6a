"""The real command line: the installed ``cspbench``, run in a directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import fake_backend

SCRIPT = Path(sys.executable).with_name("cspbench")
#: Far beyond what anything here takes: only to end a test that hangs.
HANG_SECONDS = 900


def _as_from_a_terminal() -> None:
    """Take Ctrl-C as a user's shell would have it: a job in the background hands on "ignore"."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass
class CommandLine:
    """Runs ``cspbench`` in ``folder`` with a cache and a timing lock of the tests' own."""

    folder: Path
    environment: dict[str, str]
    script = str(SCRIPT)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command and return the process."""
        return subprocess.Popen(
            [str(SCRIPT), *arguments],
            cwd=self.folder, env={**self.environment, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=_as_from_a_terminal,  # noqa: PLW1509 - it starts no thread
        )  # fmt: skip

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=HANG_SECONDS)
        finally:
            process.kill()
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run_json(self, *arguments: str, code: int = 0, **environment: str) -> dict[str, Any]:
        """``cspbench run ... --format json``: the object of the last line."""
        result = self("run", *arguments, "--format", "json", **environment)
        assert result.returncode == code, result.stderr
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return found

    def write(self, name: str, text: str) -> str:
        """Write a suite into the folder; returns its name."""
        (self.folder / name).write_text(text)
        return name


@pytest.fixture(scope="session")
def shared_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One cache of artifacts for all tests of this package, and the backend ``fake``."""
    folder = tmp_path_factory.mktemp("cspbench")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CSPBENCH_")}
    return {
        **environment,
        "CSPBENCH_CACHE": str(folder / "cache"),
        "CSPBENCH_LOCK_DIR": str(folder),
        "PYTHONPATH": str(fake_backend.install(tmp_path_factory.mktemp("site"))),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "200",
    }


@pytest.fixture
def cspbench(tmp_path: Path, shared_environment: dict[str, str]) -> CommandLine:
    """The command line in an empty directory."""
    return CommandLine(tmp_path, shared_environment)


@pytest.fixture
def call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Run the command line inside this process, which starts faster: (code, stdout, stderr)."""
    from cspbench.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory, shared_environment: dict[str, str]) -> Any:
    """The installed suite ``quick``, really run once: (command line, its result).

    To save time only one of its cases with torch, which takes long to start, and without memory
    launches: ``test_run.py`` measures memory in a run of one case.
    """
    command = CommandLine(tmp_path_factory.mktemp("quick"), shared_environment)
    settings = ("--set", "measure.memory=false", "--only", "*opencv-cpu*", "--only", "yolov3*")
    return command, command("run", "quick", *settings, "--format", "json")


def workers() -> list[psutil.Process]:
    """All workers alive below this process or orphaned by its children."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if "cspbench.jobs.worker" in command and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition: Any) -> None:
    """Wait for something that will happen; a hang fails the test."""
    for _ in range(HANG_SECONDS * 20):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("waited in vain")
