"""``examples/offline.py``: what a machine without a package index lacks. Downloads nothing."""

import argparse
import importlib.util
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples/offline.py"
MACHINE = {"python": "3.12.3", "machine": "aarch64", "glibc": "2.18", "has": {"numpy": "1.26.4"}}


@pytest.fixture(scope="module")
def offline():
    spec = importlib.util.spec_from_file_location("offline", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_requirements_are_those_of_the_project_without_torch(offline):
    text = (ROOT / "pyproject.toml").read_text()
    names = {Requirement(item).name for item in offline.requirements(text, ["onnx"])}
    assert {"pydantic", "fvcore", "ruamel.yaml", "onnxruntime"} <= names
    assert not names & {"torch", "cspbench", "openvino", "pytest"}
    assert "openvino" in {Requirement(i).name for i in offline.requirements(text, ["openvino"])}
    with pytest.raises(SystemExit, match="no nonsense"):
        offline.requirements(text, ["nonsense"])


@pytest.mark.parametrize(
    ("item", "expected"),
    [("numpy>=1.26.0", True), ("NumPy", True), ("numpy>=2", False), ("pandas", False)],
)
def test_what_the_machine_has_is_not_fetched(offline, item, expected):
    assert offline.satisfied(Requirement(item), MACHINE["has"]) is expected


def test_wheels_of_its_c_library_and_older_fit(offline):
    tags = offline.platforms(MACHINE)
    assert tags[:2] == ["manylinux_2_18_aarch64", "manylinux_2_17_aarch64"]
    assert "manylinux2014_aarch64" in tags
    assert "manylinux_2_19_aarch64" not in tags


def test_what_a_wheel_needs_there(offline, tmp_path):
    wheel = tmp_path / "thing-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("thing-1.dist-info/METADATA",
                      "Name: thing\nRequires-Dist: numpy\n"
                      "Requires-Dist: tomli; python_version < '3.11'\n"
                      "Requires-Dist: colorama; sys_platform == 'win32'\n"
                      "Requires-Dist: pytest; extra == 'test'\n"
                      "Requires-Dist: neon; platform_machine == 'aarch64'\n\ntext")  # fmt: skip
    assert [item.name for item in offline.needs(wheel, MACHINE)] == ["numpy", "neon"]


def test_this_machine_lacks_nothing_or_says_what(offline, tmp_path):
    out = tmp_path / "machine.json"
    offline.missing(argparse.Namespace(extra=[], out=out))
    found = json.loads(out.read_text())
    assert found["lacks"] == []
    assert found["has"]["torch"]
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")


def test_a_run_is_packed_also_where_it_failed(tmp_path):
    (tmp_path / "wheels").mkdir()
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "run", str(tmp_path / "none.yaml")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr  # there is no such suite
    with tarfile.open(tmp_path / "offline-results.tar.gz") as file:
        assert "offline-results/doctor.txt" in file.getnames()
