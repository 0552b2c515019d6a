import os
import shutil
import subprocess
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples/model-repository"
EXTRA = """
[convolutional]
batch_normalize=1
filters=256
size=1
stride=1
pad=0
activation=mish

[avgpool]
"""


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory):
    """One cache for the session, to export each artifact once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run_git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=t", "-c", "user.email=t@t"]
    fixed = {**os.environ, "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
             "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}  # fmt: skip
    done = subprocess.run(
        [*command, *arguments], check=True, capture_output=True, text=True, env=fixed
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path_factory):
    """The example repository at a small input with two commits: as it is, then a slower model.

    Its place, names and dates are fixed, so commits, and what is cached by them and by the folder,
    are the same in every test.
    """
    folder = tmp_path_factory.getbasetemp() / "repository"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder)
    suite = folder / "suites/gate.yaml"
    suite.write_text(suite.read_text().replace("input: 128", "input: 64"))
    run_git(folder, "init", "-q", "-b", "main")
    run_git(folder, "add", ".")
    run_git(folder, "commit", "-q", "-m", "the model")
    model = folder / "models/smallcsp.cfg"
    model.write_text(model.read_text().replace("\n[avgpool]\n", EXTRA))
    run_git(folder, "commit", "-q", "-am", "an extra 1x1 convolution")
    return folder


@pytest.fixture
def git(repository):
    return lambda *arguments: run_git(repository, *arguments)


@pytest.fixture
def suite(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return repository / "suites/gate.yaml"
