"""A real scheduler and real agents on this machine, each agent with a timing lock of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Dask notices lost workers within seconds here, not minutes.
QUICK = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s",
    "OMP_NUM_THREADS": "1",
}


def documented(name: str) -> str:
    """A block of commands of docs/fleet.md, as it is printed there."""
    text = (ROOT / "docs" / "fleet.md").read_text()
    block = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert block, f"docs/fleet.md has the commands {name!r}"
    return block[1]


def tls_settings(folder: Path, owner: str) -> dict[str, str]:
    """Dask's own settings, as environment variables, with the certificate of an owner."""
    variables = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(folder / "ca.pem")}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        variables[f"DASK_DISTRIBUTED__COMM__TLS__{role}__CERT"] = str(folder / f"{owner}.pem")
        variables[f"DASK_DISTRIBUTED__COMM__TLS__{role}__KEY"] = str(folder / f"{owner}.key")
    return variables


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: Callable[[], object], seconds: float = 90.0) -> object:
    """The first true answer; the machine of the tests may be slow."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if result := what():
                return result
        time.sleep(0.1)
    raise AssertionError(f"nothing within {seconds:g} s")


class Machines:
    """Starts processes, and ends them all.

    Args:
        folder: logs, locks and caches of the boards.
        environment: on top of this process's.
        wrap: words before every command, by name of the process (``ip netns exec ...``).
    """

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str] | None = None,
        wrap: Callable[[str], list[str]] = lambda name: [],
        scheme: str = "tcp",
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.address = f"{scheme}://{host}:{self.port}"
        self._host, self._scheme = host, scheme
        self._environment = {**os.environ, **QUICK, **(environment or {})}
        self._wrap = wrap
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a process; its output goes to a log of its name."""
        log = (self.folder / f"{name}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*self._wrap(name), *command], cwd=ROOT, stdout=log, stderr=log,
                env={**self._environment, **environment}, start_new_session=True,
            )  # fmt: skip
        self.processes[name] = process
        return process

    def scheduler(self) -> subprocess.Popen[bytes]:
        """A scheduler at the address, now or again."""
        return self.start(
            "scheduler", sys.executable, "-m", "distributed.cli.dask_scheduler", "--host",
            f"{self._scheme}://{self._host}:{self.port}", "--no-dashboard",
            "--dashboard-address", "127.0.0.1:0",
        )  # fmt: skip

    def agent(self, name: str, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """An agent for the scheduler, with a timing lock and a cache of its own."""
        home = self.folder / name
        (home / "lock").mkdir(parents=True, exist_ok=True)
        own = {"CSPBENCH_LOCK_DIR": str(home / "lock"), "CSPBENCH_CACHE": str(home / "cache")}
        return self.start(
            name, sys.executable, "-m", "cspbench", "agent", self.address, "--name", name,
            *options, **{**own, **environment},
        )  # fmt: skip

    def cspbench(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line to its end."""
        return subprocess.run(
            [sys.executable, "-m", "cspbench", *words], cwd=self.folder,
            env={**self._environment, **environment},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str, how: int = signal.SIGKILL) -> None:
        """Send a signal to a process of ours."""
        process = self.processes[name]
        process.send_signal(how)
        if how in (signal.SIGKILL, signal.SIGTERM):
            process.wait(60)

    def close(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)


@contextlib.contextmanager
def machines(folder: Path, **options: object) -> Iterator[Machines]:
    fleet = Machines(folder, **options)  # type: ignore[arg-type]
    try:
        yield fleet
    finally:
        fleet.close()


def own_address():
    """The address of this machine that others reach; without one the test is skipped."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address beside loopback")
        return probe.getsockname()[0]
