"""A fleet of three boards with the fake backend, and a network that is exported once."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import ModelId
from cspbench.fleet.client import Hub
from cspbench.jobs.prepare import PrepareRequest
from cspbench.runner.executor import LocalExecutor
from tests.fake_backend import install
from tests.fleet.machines import eventually, machines

MODEL = "yolov3-tiny-prn@96"
SUITE = """
name: tiny
matrix:
  model: [yolov3-tiny-prn@96]
  backend: [fake]
  ms: [1, 2]
measure: {rounds: 3, memory: false, warmup: 0.01, max_seconds: 0.05, timeout_seconds: 60,
          sensors: none}
"""


@pytest.fixture(scope="session")
def _folders(tmp_path_factory):
    """Where the controller keeps artifacts and locks, and where the fake backend is installed."""
    fakes = install(tmp_path_factory.mktemp("fake"))
    return tmp_path_factory.mktemp("cache"), tmp_path_factory.mktemp("lock"), fakes


@pytest.fixture(scope="module", autouse=True)
def _home(_folders):
    """The controller's cache, and the fake backend, for the tests of one file: others on the same
    process must see nothing of it."""
    cache, lock, fakes = _folders
    list(BACKENDS)  # discovered before the fake is there, as in whatever ran before
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
    """The artifacts that OpenCV and the fake backend eat, exported in one go, once."""
    model = ModelId.parse(MODEL)
    specs = [ArtifactSpec(model, 1, kind, 0) for kind in ("pt2", "onnx")]
    if not all(spec.exists for spec in specs):
        items = [{"batch": 1, "kind": spec.kind, "key": spec.key} for spec in specs]
        job = PrepareRequest(MODEL, 0, items)
        (outcome,) = LocalExecutor().series([job], 300)
        assert all(spec.exists for spec in specs), outcome
    return {spec.kind: spec for spec in specs}


@pytest.fixture
def suite(tmp_path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def fleet(exported, tmp_path_factory):
    """A scheduler and the boards a1 and a2, both of the label a, and b1 of the label b."""
    with machines(tmp_path_factory.mktemp("fleet")) as found:
        found.scheduler()
        for name in ("a1", "a2", "b1"):
            found.agent(name, "--label", name[0])
        hub = eventually(lambda: _hub(found.address))
        eventually(lambda: len(hub.boards()) == 3)
        hub.close()
        yield found


def _hub(address):
    from cspbench.errors import InputError

    try:
        return Hub(address, connect_seconds=2)
    except InputError:
        return None


@pytest.fixture
def connect():
    """Connect to a scheduler as soon as it answers; leave it after the test."""
    hubs = []

    def connected(address, boards=0):
        hubs.append(eventually(lambda: _hub(address)))
        eventually(lambda: len(hubs[-1].boards()) >= boards)
        return hubs[-1]

    yield connected
    for hub in hubs:
        hub.close()
