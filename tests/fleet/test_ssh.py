"""Boards over SSH: a server on loopback with keys of the test, and ``distributed.SSHCluster``."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.conftest import SYSTEM_PATH
from tests.fleet.conftest import SUITE
from tests.fleet.machines import ROOT, Machines, eventually, free_port

pytestmark = [pytest.mark.ssh, pytest.mark.slow]
SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
PidFile {folder}/pid
AuthorizedKeysFile {folder}/user.pub
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserEnvironment no
AcceptEnv *
UsePAM no
"""
CLUSTER = """
class: distributed.SSHCluster
arguments:
  hosts: [127.0.0.1, 127.0.0.1]
  connect_options: {{port: {port}, username: {user}, client_keys: [{folder}/user],
                    known_hosts: null}}
  scheduler_options: {{host: 127.0.0.1, dashboard_address: "127.0.0.1:0"}}
  worker_options: {{nthreads: 1, host: 127.0.0.1, preload: [cspbench.fleet.agent],
                   dashboard_address: "127.0.0.1:0", death_timeout: "60"}}
  remote_python: {python}
workers: 1
"""


@pytest.fixture
def ssh(tmp_path):
    """The port of a server, and the folder of its keys."""
    server = shutil.which("sshd", path=SYSTEM_PATH)
    assert server is not None
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where sshd separates privileges
    folder, port = tmp_path / "ssh", free_port()
    folder.mkdir()
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
                       check=True)  # fmt: skip
    (folder / "config").write_text(SERVER.format(port=port, folder=folder))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([server, "-D", "-e", "-f", str(folder / "config")],
                                   stderr=log, stdout=log, start_new_session=True)  # fmt: skip
    try:
        eventually(lambda: b"listening" in (folder / "log").read_bytes().lower(), 20)
        yield port, folder
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


def test_a_suite_is_measured_over_ssh_and_no_process_stays(ssh, exported, tmp_path):
    port, folder = ssh
    mark = tmp_path / "python"
    lines = [f"export {name}={value}" for name, value in {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ["PYTHONPATH"]]),
        "CSPBENCH_CACHE": str(tmp_path / "board"), "CSPBENCH_LOCK_DIR": str(tmp_path),
        "CSPBENCH_LABELS": "far", "CSPBENCH_BOARD": "one", "OMP_NUM_THREADS": "1",
    }.items()]  # fmt: skip
    mark.write_text("\n".join(["#!/bin/sh", *lines, f'exec {sys.executable} "$@"', ""]))
    mark.chmod(0o755)
    (tmp_path / "tiny.yaml").write_text(SUITE.replace("rounds: 3", "rounds: 1"))
    (tmp_path / "ssh.yaml").write_text(
        CLUSTER.format(port=port, folder=folder, python=mark, user=getpass.getuser())
    )
    machine = Machines(tmp_path)
    words = ("run", "tiny.yaml", "--no-report", "--cluster", "ssh.yaml", "--set", "devices=far")
    result = machine.cspbench(*words, "--format", "json")
    assert result.returncode == 0, result.stderr
    cases = json.loads(result.stdout.splitlines()[-1])["cases"]
    assert [case["status"] for case in cases] == ["ok", "ok"]
    for word in ("Traceback", "CRITICAL", "Closed comm"):
        assert word not in result.stderr, result.stderr
    eventually(lambda: not living(str(mark)), 20)


def living(mark):
    """Command lines of Dask's processes that the test's interpreter started."""
    import psutil

    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if "distributed.cli.dask_spec" in words and "127.0.0.1" in words:
            with contextlib.suppress(psutil.Error):
                if process.environ().get("CSPBENCH_LOCK_DIR", "") in mark:
                    found.append(words)
    return found
