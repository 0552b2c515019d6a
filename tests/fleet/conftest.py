"""A fleet of three boards with the fake backend, and a network that is exported once."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import ModelId
from cspbench.fleet.client import FleetClient
from cspbench.jobs.prepare import PrepareRequest
from cspbench.runner.executor import LocalExecutor
from tests.fake_backend import install
from tests.fleet.machines import documented, eventually, machines

MODEL = "yolov3-tiny-prn@96"
SUITE = """
name: tiny
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  ms: [1, 2]
measure: {rounds: 3, target_ratio: 99%, memory: false, warmup: 0.01, max_seconds: 0.05,
          timeout_seconds: 60, sensors: none}
"""


@pytest.fixture(scope="session")
def _folders(tmp_path_factory):
    """Folders of the controller's artifacts and locks and of the installed fake backend."""
    fakes = install(tmp_path_factory.mktemp("fake"))
    return tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("lock"), fakes


@pytest.fixture(scope="module", autouse=True)
def _home(_folders):
    """The controller's cache and the fake backend, for the tests of one file only."""
    cache, lock, fakes = _folders
    list(BACKENDS)  # discover the others before the fake is registered
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(cache))
        patch.setenv("CSPBENCH_LOCK_DIR", str(lock))
        paths = [str(fakes), *filter(None, [os.environ.get("PYTHONPATH")])]
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        patch.syspath_prepend(str(fakes))
        importlib.import_module("cspbench_fake_backend")  # registers itself
        yield
        del BACKENDS._entries["fake"], sys.modules["cspbench_fake_backend"]


@pytest.fixture(scope="module")
def exported(_home):
    """The artifacts that OpenCV and the fake backend load, exported together once."""
    model = ModelId.parse(MODEL)
    specs = [ArtifactSpec(model, 1, kind, 0) for kind in ("pt2", "onnx")]
    if not all(spec.ready for spec in specs):
        items = [spec.item for spec in specs]
        job = PrepareRequest(MODEL, 0, items)
        (outcome,) = LocalExecutor().series([job], 300)
        assert all(spec.ready for spec in specs), outcome
    return {spec.kind: spec for spec in specs}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority and a certificate, made by the commands of the documentation."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["sh", "-ec", documented("tls")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def suite(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def fleet(exported, tmp_path_factory):
    """A scheduler and the boards a1 and a2, both of the label a, and b1 of the label b."""
    with machines(tmp_path_factory.mktemp("fleet")) as fleet:
        fleet.scheduler()
        for name in ("a1", "a2", "b1"):
            fleet.agent(name, "--label", name[0])
        client = eventually(lambda: _client(fleet.address))
        eventually(lambda: len(client.boards()) == 3)
        client.close()
        yield fleet


def _client(address):
    from cspbench.errors import InputError

    try:
        return FleetClient(address, connect_seconds=2)
    except InputError:
        return None


@pytest.fixture
def connect():
    """Connect to a scheduler as soon as it answers; leave it after the test."""
    clients = []

    def connected(address, boards=0):
        clients.append(eventually(lambda: _client(address)))
        eventually(lambda: len(clients[-1].boards()) >= boards)
        return clients[-1]

    yield connected
    for client in clients:
        client.close()
