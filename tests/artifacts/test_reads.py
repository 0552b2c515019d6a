"""An artifact is what its definition says now: what was read while it was built is looked at."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cspbench.artifacts import cache, export
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.reads import Reads, recording
from cspbench.artifacts.reference import read_reference
from cspbench.core.case import ModelId
from cspbench.models.build import as_model_id
from cspbench.models.code import allowing_code
from cspbench.models.identity import source_files

NET = """
import json
from pathlib import Path
from torch import nn
import {helper}

HERE = Path(__file__).parent

def network():
    scale = json.loads((HERE / "scale.json").read_text())
    net = nn.Conv2d(3, {helper}.FILTERS, 1, bias=False)
    nn.init.constant_(net.weight, scale)
    return net
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith(("_cspbench_model_", "help_"))]:
        del sys.modules[name]


def write(folder, helper, filters=4, scale=1.0):
    folder.mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET.format(helper=helper))
    (folder / f"{helper}.py").write_text(f"FILTERS = {filters}\n")
    (folder / "scale.json").write_text(str(scale))


def spec(name="a/net.py:network@8"):
    """A new one, as every command makes it."""
    return ArtifactSpec(as_model_id(name), 1, "onnx", 0)


def made(name="a/net.py:network@8"):
    """Make it unless it is ready, as a run does, and return its outputs."""
    with allowing_code():
        one = spec(name)
        export.prepare(one)
    assert spec(name).ready
    return read_reference(spec(name).reference).outputs[0][0]


def test_what_is_read_is_noted_beside_the_model(tmp_path):
    write(tmp_path / "a", "help_noted")
    made()
    reads = Reads.read(spec().reads)
    assert {"net.py", "help_noted.py", "scale.json"} <= reads.files
    assert "torch" in {name.lower() for name in reads.libraries}
    assert not any("site-packages" in name for name in reads.files)


def test_a_changed_data_file_is_another_artifact(tmp_path):
    write(tmp_path / "a", "help_data")
    before = made()
    path = spec().path
    (tmp_path / "a/scale.json").write_text("2.0")
    assert not spec().ready
    assert np.allclose(made(), 2 * before)
    assert spec().path != path
    (tmp_path / "a/scale.json").write_text("1.0")
    assert spec().ready  # the first one is still there
    assert spec().path == path


def test_a_changed_module_that_is_imported_is_another_artifact(tmp_path):
    write(tmp_path / "a", "help_module")
    assert made().shape[1] == 4
    before = spec().key
    (tmp_path / "a/help_module.py").write_text("FILTERS = 5\n")
    assert spec().key != before  # it is seen without importing anything
    assert not spec().ready


def test_two_checkouts_have_artifacts_of_their_own(tmp_path):
    write(tmp_path / "a", "help_two", scale=1.0)
    write(tmp_path / "b", "help_two", scale=3.0)
    one, other = made("a/net.py:network@8"), made("b/net.py:network@8")
    assert np.allclose(other, 3 * one)
    assert np.allclose(made("a/net.py:network@8"), one)


def test_a_run_goes_on_with_the_artifact_that_it_prepared(tmp_path):
    write(tmp_path / "a", "help_run")
    made()
    one = spec()
    assert one.ready
    path = one.path
    (tmp_path / "a/scale.json").write_text("7.0")
    assert one.path == path
    assert spec().path != path


def test_a_library_of_another_version_is_another_artifact(tmp_path, monkeypatch):
    write(tmp_path / "a", "help_library")
    made()
    monkeypatch.setattr("cspbench.artifacts.reads.version", lambda name: "0.0")
    assert not spec().ready


def test_the_version_of_a_models_library_is_in_its_key(monkeypatch):
    def key(name):
        return ArtifactSpec(ModelId.parse(name), 1, "onnx", 0).key

    before = key("timm:resnet18@32"), key("peleenet@32")
    monkeypatch.setattr(cache, "version", lambda name: "9" if name == "timm" else "1")
    one = key("timm:resnet18@32"), key("peleenet@32")
    monkeypatch.setattr(cache, "version", lambda name: "8" if name == "timm" else "1")
    other = key("timm:resnet18@32"), key("peleenet@32")
    assert one[0] != other[0]
    assert one[1] == other[1]
    assert before[0] != before[1]


def test_names_that_cannot_be_read_are_none(tmp_path):
    write(tmp_path / "a", "help_torn")
    made()
    for text in ("", "[]", '{"files": [1], "libraries": []}', '{"files": 3}', "[" * 100_000):
        spec().reads.write_text(text)
        assert not spec().ready
    made()


def test_imports_are_followed_without_importing(tmp_path):
    for name, text in {
        "net.py": "import one\nfrom pack import two\nfrom pack.three import four\nimport torch\n",
        "one.py": "import five\nraise SystemExit('it must not run')\n",
        "five.py": "import net\n",
        "pack/__init__.py": "",
        "pack/two.py": "from . import six\nfrom .three import four\n",
        "pack/three.py": "four = 4\n",
        "pack/six.py": "this is no Python\n",
        "other.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    names = [path.relative_to(tmp_path).as_posix() if path.is_absolute() else str(path)
             for path in source_files(as_model_id("net.py:network"))]  # fmt: skip
    assert names == ["net.py", "five.py", "one.py", "pack/__init__.py", "pack/six.py",
                     "pack/three.py", "pack/two.py"]  # fmt: skip


def test_what_is_written_and_what_belongs_to_a_library_is_not_noted(tmp_path):
    reads = Reads()
    (tmp_path / "data").write_text("x")
    with recording(tmp_path, reads):
        (tmp_path / "data").read_text()
        (tmp_path / "log").write_text("y")
        open(np.__file__, encoding="utf-8").close()
    assert "data" in reads.files
    assert "log" not in reads.files
    assert not any(name.endswith("numpy/__init__.py") for name in reads.files)
