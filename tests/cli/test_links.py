"""A stranger's tree: links, pipes and devices in the places of outputs, runs and inputs.

Each test stands in such a tree, beside a folder of the user's that must stay as it is.
"""

import json
import os
import shutil
import socket

import pytest

from cspbench.store.fsck import DAMAGED_FILE
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE
from tests.gating.test_stored import CASES, around, make_run
from tests.report.runs import demo_run

FORMS = ("table", "json", "csv", "md", "latex")
SUITE = "name: s\nmatrix: {model: peleenet@64, backend: opencv-cpu}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return demo_run(tmp_path_factory.mktemp("demo")).path


@pytest.fixture
def tree(tmp_path, run, call):
    """The stranger's tree, with a run; ``call`` has made it the working directory."""
    shutil.copytree(run, tmp_path / "results" / "run")
    users = tmp_path.with_name(f"{tmp_path.name}-users")
    users.mkdir()
    (users / "kept").write_text("kept")
    yield tmp_path
    assert [(file.name, file.read_text()) for file in users.iterdir()] == [("kept", "kept")]


@pytest.fixture
def users(tree):
    return tree.with_name(f"{tree.name}-users")


def outputs():
    """Every command that writes a file which the user names: words, and the files."""
    shows = [(["show", "run", "--format", form, "--out", "gate/o"], ["gate/o"]) for form in FORMS]
    return [
        *shows,
        (["analyze", "peleenet@64", "--out", "gate/o"], ["gate/o"]),
        (["doctor", "--format", "json", "--out", "gate/o"], ["gate/o"]),
        (["list", "runs", "--format", "csv", "--out", "gate/o"], ["gate/o"]),
        (["compare", "run", "run", "--out", "gate/o"], ["gate/o"]),
        (["history", "--out", "gate/o"], ["gate/o"]),
        (["report", "run", "--out", "gate/o.html"], ["gate/o.html"]),
        (["figures", "run", "--reports", "gate", "--only", "fps_bars"],
         ["gate/fps_bars.svg", "gate/fps_bars.png"]),
        (["export", "peleenet@32", "--to", "onnx", "--out", "gate/o.onnx"], ["gate/o.onnx"]),
    ]  # fmt: skip


@pytest.mark.parametrize(("words", "files"), outputs())
def test_an_output_replaces_a_link(words, files, tree, users, call):
    (tree / "gate").mkdir()
    for name in files:
        (tree / name).symlink_to(users / "kept")
        (tree / f"{name}.new").symlink_to(users / "kept")
    code, _, err = call(*words)
    assert (code, err) == (0, err)
    assert all((tree / name).is_file() and not (tree / name).is_symlink() for name in files)


@pytest.mark.parametrize(("words", "files"), outputs())
def test_an_output_does_not_go_through_a_folder_that_is_a_link(words, files, tree, users, call):
    (tree / "gate").symlink_to(users)
    code, _, err = call(*words)
    assert code == 2
    assert "the folder gate is a link: name the folder to which it leads" in err


@pytest.mark.parametrize("option", ["--markdown", "--junit", "--html"])
def test_the_files_of_a_gate_are_outputs_too(option, tree, users, call):
    (tree / "suite.yaml").write_text(SUITE)
    for name in ("base", "head"):
        make_run(tree / "results", name, {CASES[0]: around(10.0)})
    words = ("gate", "suite.yaml", "--base", "run:base", "--head", "run:head", option)
    (tree / "gate").mkdir()
    (tree / "gate/gate.md").symlink_to(users / "kept")
    code, out, err = call(*words, "gate/gate.md")
    assert code == 0, (out, err)
    assert "gate" in (tree / "gate/gate.md").read_text()
    (tree / "way").symlink_to(users)
    code, _, err = call(*words, "way/gate.md")
    assert code == 2
    assert "cannot write way/gate.md: the folder way is a link" in err


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_the_log_of_events_is_a_file(kind, tree, users, call):
    (tree / "suite.yaml").write_text(SUITE)
    {
        "link": lambda path: path.symlink_to(users / "kept"),
        "pipe": os.mkfifo,
        "folder": os.mkdir,
    }[kind](tree / "log")
    code, _, err = call("run", "suite.yaml", "--log-json", "log")
    assert code == 2
    assert err.startswith("error: cannot write log: ")


def test_runs_do_not_go_through_a_folder_that_is_a_link(tree, users, call):
    (tree / "suite.yaml").write_text(SUITE)
    (tree / "elsewhere").symlink_to(users)
    code, _, err = call("run", "suite.yaml", "--results", "elsewhere")
    assert code == 2
    assert "the folder elsewhere is a link" in err


def test_a_run_that_is_a_link_is_read_by_name_only_and_never_written(tree, tmp_path_factory, call):
    """A damaged line makes the run one that ``fsck --repair`` would write."""
    users_run = tmp_path_factory.mktemp("users") / "run"
    shutil.copytree(tree / "results/run", users_run)
    with (users_run / LAUNCHES_FILE).open("ab") as file:
        file.write(b"damaged\n")
    before = {file.name: file.read_bytes() for file in users_run.iterdir()}
    (tree / "results/zlink").symlink_to(users_run)
    assert call("show", "zlink")[0] == 0
    assert "zlink" not in call("list", "runs")[1]
    assert "damaged" not in call("show", "latest")[2]
    for words in (["fsck", "zlink", "--repair"], ["run", "--resume", "results/zlink", "--force"]):
        code, _, err = call(*words)
        assert (code, "is a link" in err) == (2, True), err
    assert {file.name: file.read_bytes() for file in users_run.iterdir()} == before


def test_what_repair_moves_aside_is_not_written_through_a_link(tree, users, call):
    with (tree / "results/run" / LAUNCHES_FILE).open("ab") as file:
        file.write(b"damaged\n")
    (tree / "results/run" / DAMAGED_FILE).symlink_to(users / "kept")
    code, _, err = call("fsck", "run", "--repair")
    assert code == 2
    assert "cannot repair results/run: it is a link, not a regular file" in err


@pytest.mark.parametrize("name", [RUN_FILE, LAUNCHES_FILE])
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_file_of_a_run_is_a_file(name, kind, tree, users, cspbench):
    file = tree / "results/run" / name
    file.unlink()
    if kind == "link":
        file.symlink_to(users / "kept")
    else:
        os.mkfifo(file)
    for words in (["show", "run"], ["list", "runs"], ["report", "run"], ["history"]):
        process = cspbench.start(*words)
        _, err = process.communicate(timeout=120)  # it would wait for the pipe's writer for ever
        assert process.returncode in (0, 2), err


INPUTS = {
    "suite": ["plan", "input"],
    "suite of a run": ["run", "input.yaml"],
    "darknet": ["analyze", "darknet:input.cfg"],
    "onnx": ["analyze", "onnx:input.onnx"],
    "exported": ["analyze", "--allow-code", "exported:input.pt2"],
    "weights": ["export", '"darknet:net.cfg"[weights="input.weights"]@32', "--to", "onnx",
                "--out", "o.onnx"],
    "checkpoint": ["export", '"python:code:net"[weights="input.pt"]@32', "--allow-code",
                   "--to", "onnx", "--out", "o.onnx"],
    "side of a gate": ["gate", "input.yaml", "--base", "set:"],
}  # fmt: skip


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "link to a pipe"])
@pytest.mark.parametrize("words", INPUTS.values(), ids=INPUTS)
def test_an_input_is_a_file(words, kind, tree, call):
    (tree / "net.cfg").write_text("[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\n")
    (tree / "code.py").write_text("import torch\ndef net(): return torch.nn.Conv2d(3, 2, 1)\n")
    owners = []
    for suffix in ("", ".yaml", ".cfg", ".onnx", ".pt2", ".weights", ".pt"):
        path = tree / f"input{suffix}"
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "socket":
            owners.append(socket.socket(socket.AF_UNIX))
            owners[-1].bind(path.name)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            os.mkfifo(tree / f"pipe{suffix}")
            path.symlink_to(f"pipe{suffix}")
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    told = [line for line in err.splitlines() if line != "preparing set:"]
    assert [line.startswith("error: ") for line in told] == [True]


def test_a_users_own_links_to_models_and_suites_work(tree, call, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    (disk / "a.cfg").write_text(
        "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters=2\nsize=1\n"
    )
    (disk / "s.yaml").write_text(SUITE)
    (tree / "a.cfg").symlink_to(disk / "a.cfg")
    (tree / "s.yaml").symlink_to(disk / "s.yaml")
    assert call("analyze", "darknet:a.cfg")[0] == 0
    code, out, _ = call("plan", "s.yaml", "--format", "json")
    assert (code, json.loads(out)["suite"]) == (0, "s")
