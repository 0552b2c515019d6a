"""A board without torch, pandas and matplotlib: what it needs works there, and it measures."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import venv
import zipfile

import pytest
from packaging.requirements import Requirement

from tests.fleet.machines import ROOT, machines

pytestmark = pytest.mark.slow


def board_requirements():
    """The dependencies of the distribution ``cspbench-board``, and of its extra ``onnx``."""
    text = (ROOT / "board/pyproject.toml").read_text()
    lists = re.findall(r"^(?:dependencies|onnx) = \[(.*?)\]", text, re.DOTALL | re.MULTILINE)
    assert len(lists) == 2
    return [name for one in lists for name in re.findall(r'"([^"]+)"', one)]


def with_all_they_need(requirements):
    """The installed distributions of the requirements, and of what these require, by name."""
    found, left = {}, [Requirement(text) for text in requirements]
    while left:
        requirement = left.pop()
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found[name] = importlib.metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found[name].version, prereleases=True), requirement
        left += [Requirement(text) for text in found[name].requires or ()]
    return found


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """The interpreter of an environment that has what ``pip install ./board[onnx]`` installs."""
    folder = tmp_path_factory.mktemp("lean")
    venv.create(folder, with_pip=False, symlinks=True)
    [target] = folder.glob("lib/python3*/site-packages")
    for distribution in with_all_they_need(board_requirements()).values():
        for top in {path.parts[0] for path in distribution.files or ()} - {"..", "__pycache__"}:
            if not (target / top).exists():
                (target / top).symlink_to(distribution.locate_file(top))
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
    for name in ("torch", "pandas", "matplotlib", "onnx"):
        command = [lean, "-c", f"import {name}"]
        assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def test_both_distributions_ask_for_the_same_versions():
    text = (ROOT / "pyproject.toml").read_text()
    own = map(Requirement, re.findall(r'"([a-z][a-z.-]+(?:>=[^"]+))"', text))
    of_all = {requirement.name: requirement.specifier for requirement in own}
    for text in board_requirements():
        requirement = Requirement(text)
        assert of_all[requirement.name] == requirement.specifier, text


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """What ``pip install ./board`` builds; its files by name."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-c", "import hatchling.build as b, sys; b.build_wheel(sys.argv[1])",
               str(out)]  # fmt: skip
    subprocess.run(command, cwd=ROOT / "board", check=True, capture_output=True)
    [path] = out.glob("cspbench_board-*.whl")
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def test_its_wheel_holds_the_whole_package_and_the_suites(wheel):
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "cspbench").rglob("*.py")}
    assert modules <= set(wheel)
    assert "cspbench/suites/quick.yaml" in wheel
    assert "cspbench/LICENSE" in wheel
    assert not [name for name in wheel if "__pycache__" in name or name.endswith(".pyc")]


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
        words = ("run", "one.yaml", "--no-report", "--scheduler", fleet.address, "--format", "json")
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
