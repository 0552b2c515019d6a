"""A board without torch, pandas and matplotlib: what it needs works there, and it measures."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.fleet.machines import ROOT, machines

pytestmark = pytest.mark.slow
#: What a board does without; and what came with it.
LEFT_OUT = ("torch", "torchvision", "torchgen", "functorch", "pandas", "matplotlib", "mpl_toolkits",
            "triton", "sympy")  # fmt: skip


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """The interpreter of an environment that has every package of this one but the large ones."""
    folder = tmp_path_factory.mktemp("lean")
    venv.create(folder, with_pip=False, symlinks=True)
    [target] = folder.glob("lib/python3*/site-packages")
    places = [Path(place) for place in sys.path if place.endswith("site-packages")]
    for entry in (entry for place in places for entry in place.iterdir()):
        name = entry.name.partition("-")[0].partition(".")[0].lower()
        if name not in LEFT_OUT and not (target / entry.name).exists() and entry.suffix != ".pth":
            (target / entry.name).symlink_to(entry)
    assert site.ENABLE_USER_SITE is not None
    return str(folder / "bin" / "python")


@pytest.fixture(scope="module")
def environment(lean):
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1"}


@pytest.fixture
def cspbench(lean, environment, tmp_path):
    def run(*words):
        return subprocess.run([lean, "-m", "cspbench", *words], cwd=tmp_path, env=environment,
                              capture_output=True, text=True, timeout=120, check=False)  # fmt: skip

    return run


def test_the_environment_lacks_them(lean, environment):
    for name in ("torch", "pandas", "matplotlib"):
        command = [lean, "-c", f"import {name}"]
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("list", "backends"), "opencv-cpu"),
        (("list", "backends", "--format", "json"), '"name": "opencv-cpu"'),
        (("list", "sensors"), "thermal"),
        (("list", "models"), "csppeleenet"),
        (("list", "suites"), "quick"),
        (("doctor",), "warning"),
        (("doctor", "--format", "json"), '"check"'),
        (("agent", "--help"), "Measure on this machine"),
        (("fleet", "--help"), "List the boards"),
        (("plan", "quick"), "cases"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_commands_of_a_board_work(cspbench, words, text):
    result = cspbench(*words)
    assert result.returncode == 0, result.stderr
    assert text in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("words", "package"),
    [
        (("list", "backends", "--format", "csv"), "pandas"),
        (("analyze", "csppeleenet@224"), "torch"),
    ],
    ids=" ".join,
)
def test_what_needs_one_of_them_says_so(cspbench, words, package):
    result = cspbench(*words)
    assert result.returncode == 2, result.stderr
    assert f"needs {package}" in result.stderr
    assert f"pip install {package}" in result.stderr
    assert "Traceback" not in result.stderr


def test_it_measures_what_the_controller_exported(lean, connect, exported, tmp_path):
    """No table of Dask about packages that a board does not have, on either side."""
    (tmp_path / "one.yaml").write_text(
        "name: one\nmatrix: {model: [yolov3-tiny-prn@96], backend: [opencv-cpu]}\n"
        "measure: {rounds: 1, memory: false, warmup: 0.01, max_seconds: 0.05, sensors: none}\n"
    )
    with machines(tmp_path) as fleet:
        fleet.scheduler()
        home = tmp_path / "lean"
        (home / "lock").mkdir(parents=True)
        fleet.start(
            "lean", lean, "-m", "cspbench", "agent", fleet.address, "--name", "lean",
            PYTHONPATH=str(ROOT), CSPBENCH_LOCK_DIR=str(home / "lock"),
            CSPBENCH_CACHE=str(home / "cache"),
        )  # fmt: skip
        connect(fleet.address, boards=1).close()
        words = ("run", "one.yaml", "--scheduler", fleet.address, "--format", "json")
        result = fleet.cspbench(*words)
        assert result.returncode == 0, result.stderr
        [case] = json.loads(result.stdout.splitlines()[-1])["cases"]
        assert case["status"] == "ok", case
        for text in (result.stderr, fleet.log("lean"), fleet.log("scheduler")):
            assert "ersion mismatch" not in text
            assert "Mismatched versions" not in text
        listed = fleet.cspbench("fleet", fleet.address, "--format", "json")
        [row] = json.loads(listed.stdout)
        assert not [name for name in row["versions"] if name.startswith(("torch ", "pandas "))]
