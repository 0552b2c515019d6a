"""The documented commands, and the sockets on which their processes then listen."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys

import psutil
import pytest

from tests.fleet.machines import (
    ROOT,
    documented,
    eventually,
    free_port,
    machines,
    own_address,
    tls_settings,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def words(tmp_path):
    """``dask`` and ``cspbench`` as commands of the environment of the tests."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, module in (("dask", "dask"), ("cspbench", "cspbench")):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        path.chmod(0o755)
    paths = os.pathsep.join([str(folder), os.environ["PATH"]])
    python = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {"PATH": paths, "PYTHONPATH": python}


def listeners(fleet):
    """(address, port) of every socket on which a process that the fleet started listens."""
    started = [psutil.Process(process.pid) for process in fleet.processes.values()]
    members = [*started, *(child for one in started for child in one.children(recursive=True))]
    return {place for member in members for place in listening(member)}


def listening(process):
    """(address, port) of the sockets on which one process listens."""
    # Its name before psutil 6.
    connections = getattr(process, "net_connections", None) or process.connections
    return {
        connection.laddr[:2]
        for connection in connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }


def test_on_one_machine_nothing_listens_beyond_loopback(words, connect, tmp_path):
    port = str(free_port())
    with machines(tmp_path, environment=words) as fleet:
        commands = documented("one machine").replace("8786", port)
        fleet.start("all", "sh", "-ec", f"{commands}\nwait")
        before = listening(psutil.Process())
        client = connect(f"tcp://127.0.0.1:{port}", boards=3)
        assert listening(psutil.Process()) == before  # a controller listens to nothing
        assert [board.name for board in client.boards()] == ["one", "three", "two"]
        found = listeners(fleet)
    assert ("127.0.0.1", int(port)) in found
    assert len(found) >= 5  # the scheduler's two, and one of each agent
    assert {address for address, _ in found} == {"127.0.0.1"}, found


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_between_machines_only_tls_listens_and_only_on_the_named_address(
    words,
    certificates,
    tmp_path,
):
    own, port = own_address(), str(free_port())
    tls = tls_settings(certificates, "fleet")
    with machines(tmp_path, environment=tls | words) as fleet:
        for name in ("scheduler", "agent"):
            command = documented(name).replace("192.0.2.10", own).replace("8786", port)
            fleet.start(name, "sh", "-ec", command)
        eventually(lambda: "works for" in fleet.log("agent"))
        found = listeners(fleet)
        assert (own, int(port)) in found
        assert {address for address, _ in found} == {own, "127.0.0.1"}, found
        beyond = [place for place in found if place[0] == own]
        assert len(beyond) == 2, found  # the scheduler's and the agent's
        for place in beyond:
            assert refuses(place), f"{place} answers without a certificate"


def refuses(place):
    """True if the socket closes the connection of a client without a certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection(place, 10) as plain, context.wrap_socket(plain) as secure:
            secure.settimeout(10)
            return secure.recv(1) == b""
    except ssl.SSLError as error:
        return "certificate required" in str(error).lower()
    except ConnectionError:
        return True
