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

from cspbench.suite.load import load_suite

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


def parts_of(offline, monkeypatch, *parts):
    monkeypatch.setattr(offline, "PARTS", tuple(offline.Part(*part) for part in parts))
    monkeypatch.setattr(offline, "GRACE_SECONDS", 2)


ENDS = (
    "import time, signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    "print('begun', flush=True)\n"
)
STOPS = ENDS + "try:\n time.sleep(60)\nexcept KeyboardInterrupt:\n print('kept')\n"
STAYS = ENDS + "signal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)\n"


def test_a_first_contact_keeps_what_each_part_did_in_its_time(offline, tmp_path, monkeypatch):
    parts_of(
        offline, monkeypatch,
        ("short", ("-c", "import sys; open('{}/made', 'w'); sys.exit(3)"), 20),
        ("stops", ("-c", STOPS), 3),
        ("stays", ("-c", STAYS), 3),
        ("last", ("-c", "print('done')"), 20),
    )  # fmt: skip
    (tmp_path / "wheels").mkdir()
    offline.device(argparse.Namespace(wheels=tmp_path / "wheels"))
    with tarfile.open(tmp_path / "offline-results.tar.gz") as file:
        names = set(file.getnames())
        ends = json.load(file.extractfile("offline-results/parts.json"))
        texts = {name: file.extractfile(f"offline-results/{name}.txt").read().decode()
                 for name in ends}  # fmt: skip
    assert "offline-results/made" in names
    assert ends["short"].startswith("ended with 3")
    assert ends["stops"] == "stopped after 3 s, and it ended by itself"
    assert texts["stops"].split() == ["begun", "kept"]
    assert ends["stays"] == "killed after 5 s"
    assert texts["last"] == "done\n"


def test_a_first_contact_takes_ten_minutes_at_most_and_names_what_is_there(offline):
    assert sum(part.seconds + offline.GRACE_SECONDS for part in offline.PARTS) <= 600
    named = [word for part in offline.PARTS for word in part.words]
    for word in named:
        if word.startswith(("suites/", "examples/", "tests/")):
            assert (ROOT / word).exists(), word
    case = "peleenet@224/torch-cuda/b1/t1"
    assert case in named
    assert case in [str(one) for one in load_suite(ROOT / "suites/gpu-first.yaml").cases]


def test_a_pack_holds_the_clone_beside_the_wheels(offline, tmp_path):
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps({**MACHINE, "lacks": []}))
    offline.fetch(argparse.Namespace(machine=machine, wheels=tmp_path / "pack/wheels", pack=True))
    assert (tmp_path / "pack/cspbench/cspbench/__init__.py").exists()
    assert (tmp_path / "pack/cspbench/suites/gpu-first.yaml").exists()
