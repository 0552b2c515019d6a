"""The working directory belongs to a stranger: no file that lies there runs.

Each attack is first made on plain tools, which obey it: so each test shows that it could fail.
"""

import importlib.util
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from cspbench.jobs.facts import FactsRequest
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.process import WorkerProcess, worker_environment

SCRIPT = Path(sys.executable).with_name("cspbench")
SUITE = """name: gate
defaults: {{input: 32, batch: 1, threads: 1}}
matrix: {{model: ["onnx:../a.onnx"], backend: [{backends}]}}
measure: {{rounds: 1, max_seconds: 0.05, warmup: 0, target_ci: 0.5}}
"""
BACKENDS = [
    name
    for name, library in [("opencv-cpu", "cv2"), ("onnxruntime", "onnxruntime"),
                          ("openvino", "openvino")]
    if importlib.util.find_spec(library)
]  # fmt: skip
needs_reference = pytest.mark.skipif(
    "onnxruntime" not in BACKENDS, reason="ONNX Runtime, the reference of ONNX files, is missing"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository with a small network and a suite."""
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "repository"
    (made / "suites").mkdir(parents=True)
    (made / "suites/gate.yaml").write_text(SUITE.format(backends=BACKENDS[0]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 32, 32))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 32, 32))
    weight = helper.make_tensor("w", TensorProto.FLOAT, (2, 3, 1, 1), [0.5] * 6)
    # OpenCV before 4.11 wants the size of the kernel told.
    conv = helper.make_node("Conv", ["image", "w"], ["y"], kernel_shape=[1, 1])
    graph = helper.make_graph([conv], "g", [image], [out], [weight])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), made / "a.onnx")
    git(made, "init", "-q", "-b", "main")
    git(made, "add", ".")
    git(made, "commit", "-q", "-m", "first")
    return made


def git(folder, *words):
    names = ("-c", "user.name=t", "-c", "user.email=t@t")
    return subprocess.run(["git", "-C", str(folder), *names, *words], check=False,
                          capture_output=True, text=True).stdout.strip()  # fmt: skip


def run(folder, *command, code=0):
    done = subprocess.run([*map(str, command)], cwd=folder, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done


def decoys(folder, trace, names):
    """A module of each name, which leaves a trace when it is imported."""
    code = (
        "import os\n"
        f"file = os.open({str(trace)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        "os.write(file, __name__.encode() + b' ')\n"
        "raise ImportError('a decoy')\n"
    )
    for name in names:
        (folder / f"{name}.py").write_text(code)


def libraries():
    """Names of everything that is installed."""
    places = [p for p in sys.path if p.endswith("site-packages")]
    names = {module.name for module in pkgutil.iter_modules(places)}
    return (names | {"sitecustomize", "usercustomize", "jtop", "tensorrt"}) - {"cspbench"}


COMMANDS = [
    ["--help"], ["list", "backends"], ["doctor"], ["plan", "suites/gate.yaml"],
    ["analyze", "onnx:a.onnx"],
]  # fmt: skip


@needs_reference
def test_no_module_of_the_working_directory_is_imported(folder, tmp_path):
    trace = tmp_path / "trace"
    (folder / "matplotlibrc").write_bytes(b"\xff is no UTF-8")  # any import of matplotlib fails
    decoys(folder, trace, (sys.stdlib_module_names - {"os", "posix"}) | libraries())
    run(folder, sys.executable, "-c", "import cv2", code=1)
    assert trace.read_text()  # which decoys come first differs between versions of Python
    trace.unlink()
    (folder / "suites/gate.yaml").write_text(SUITE.format(backends=", ".join(BACKENDS)))
    for command in COMMANDS:
        run(folder, SCRIPT, *command)
        assert not trace.exists(), (command, trace.read_text())
    done = run(folder, SCRIPT, "run", "-q", "suites/gate.yaml", "--format", "json", code=None)
    assert not trace.exists(), trace.read_text()
    assert done.returncode == 0, done.stdout[-3000:]
    run(folder, SCRIPT, "figures", "latest")
    assert not trace.exists(), trace.read_text()


def test_python_m_imports_no_library_of_the_working_directory(folder, tmp_path):
    """The standard library is Python's own affair: -I keeps that out, too."""
    trace = tmp_path / "trace"
    decoys(folder, trace, libraries())
    run(folder, sys.executable, "-m", "onnx", code=1)
    assert trace.read_text() == "__main__ "
    trace.unlink()
    run(folder, sys.executable, "-m", "cspbench", "plan", "suites/gate.yaml")
    decoys(folder, trace, sys.stdlib_module_names - {"os", "posix"})
    run(folder, sys.executable, "-I", "-m", "cspbench", "plan", "suites/gate.yaml")
    assert not trace.exists(), trace.read_text()


def program(path, trace):
    path.write_text(f"#!/bin/sh\ntouch {trace}\ncat\n")
    path.chmod(0o755)
    return path


def settings_that_run_programs(code):
    """Everything in a configuration of git that names a program."""
    return f"""
[core]
    fsmonitor = {code}
    hooksPath = {code.parent}
    sshCommand = {code}
    gitProxy = {code}
    editor = {code}
    askPass = {code}
    alternateRefsCommand = {code}
[filter "evil"]
    clean = {code}
    smudge = {code}
    process = {code}
    required = true
[diff]
    external = {code}
[diff "evil"]
    textconv = {code}
    command = {code}
[credential]
    helper = !{code}
[gpg]
    program = {code}
[log]
    showSignature = true
[extensions]
    partialClone = origin
[remote "origin"]
    url = ext::{code}
    promisor = true
    fetch = +refs/heads/*:refs/remotes/origin/*
[protocol "ext"]
    allow = always
[alias]
    rev-parse = !{code}
    cat-file = !{code}
    ls-tree = !{code}
"""


@needs_reference
@pytest.mark.parametrize(
    "given",
    [
        "embedded",
        pytest.param("given", marks=pytest.mark.slow),
        pytest.param("included", marks=pytest.mark.slow),
    ],
)
def test_git_runs_no_program_that_a_folder_names(folder, tmp_path, given):
    """A pull request brings a git directory as files; or a whole repository is a stranger's."""
    trace = tmp_path / "trace"
    code = program(tmp_path / "code", trace)
    if given == "embedded":
        suites = folder / "suites"
        text = (suites / "gate.yaml").read_text()
        (suites / "gate.yaml").unlink()
        git(tmp_path, "clone", "-q", "--bare", str(folder), str(suites))
        (suites / "gate.yaml").write_text(text)
        config, attributes = suites / "config", suites / "info/attributes"
        config.write_text("[core]\nrepositoryformatversion = 1\nbare = false\nworktree = .\n")
        place = suites
    else:
        config, attributes = folder / ".git/config", folder / ".git/info/attributes"
        config.write_text("[core]\nrepositoryformatversion = 1\nbare = false\n")
        place = folder
    settings = settings_that_run_programs(code)
    if given == "included":
        (folder / "more").write_text(settings)
        settings = f"[include]\n    path = {folder}/more\n"
    with config.open("a") as file:
        file.write(settings)
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("* filter=evil diff=evil export-subst\n")
    git(place, "read-tree", "HEAD")
    git(place, "status")
    assert trace.exists(), "plain git runs what the configuration names"
    trace.unlink()
    run(folder, SCRIPT, "plan", "suites/gate.yaml")
    run(folder, SCRIPT, "run", "-q", "--no-report", "suites/gate.yaml")
    run(folder, SCRIPT, "gate", "-q", "suites/gate.yaml", "--base", "git:HEAD", code=None)
    run(folder, SCRIPT, "gate", "-q", "suites/gate.yaml", "--base", "git:origin/main", code=None)
    assert not trace.exists()


@needs_reference
def test_a_commit_is_what_its_id_says(folder):
    """A given repository replaces the base's commit by another one, and its parents by grafts."""
    base = git(folder, "rev-parse", "HEAD")
    text = (folder / "suites/gate.yaml").read_text()
    (folder / "suites/gate.yaml").write_text(text + "gate: {macs: 1%}\n")
    git(folder, "commit", "-q", "-am", "second")
    forged = git(folder, "rev-parse", "HEAD")
    git(folder, "replace", base, forged)
    (folder / ".git/info/grafts").write_text(f"{forged} {forged}\n")
    assert "macs" in git(folder, "show", f"{base}:suites/gate.yaml"), "plain git is deceived"
    done = run(folder, SCRIPT, "gate", "-q", "suites/gate.yaml", "--base", "git:HEAD~1")
    assert "the head's suite changes gate.macs from no rule to 1 %" in done.stdout


def test_a_worker_that_measures_stands_in_no_folder_of_the_user(folder, monkeypatch):
    """Its first job looks where it stands; the one that prepares models keeps to their folder."""
    monkeypatch.chdir(folder)
    seen = []
    real = WorkerProcess.ask

    def ask(worker, *arguments):
        seen.append(os.readlink(f"/proc/{worker.pid}/cwd"))
        return real(worker, *arguments)

    monkeypatch.setattr(WorkerProcess, "ask", ask)
    executor = LocalExecutor()
    executor.launch(FactsRequest(), 1, 60.0)
    list(executor.series([FactsRequest()], 60.0))
    assert seen == ["/", str(folder)]


def test_programs_of_torch_compile_lie_in_the_user_s_own_cache(folder, tmp_path, monkeypatch):
    """By itself torch keeps them in /tmp, under a name that another user can take first."""
    pytest.importorskip("torch")
    code = "from torch._inductor.runtime.cache_dir_utils import cache_dir; print(cache_dir())"
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)  # torch itself may have set it
    plain = dict(os.environ)
    for environment, place in [(plain, "/torchinductor_"), (worker_environment(1), "cache/ind")]:
        done = subprocess.run([sys.executable, "-c", code], env=environment, text=True,
                              capture_output=True, check=True)  # fmt: skip
        assert place in done.stdout
    assert str(tmp_path) in done.stdout


def test_programs_are_not_looked_for_in_the_working_directory(folder, tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    program(folder / "git", trace)
    monkeypatch.setenv("PATH", f":{os.environ['PATH']}")  # an empty entry
    run(folder, "sh", "-c", "git < /dev/null", code=None)
    assert trace.exists()
    trace.unlink()
    run(folder, SCRIPT, "plan", "suites/gate.yaml")
    run(folder, SCRIPT, "gate", "-q", "suites/gate.yaml", "--base", "git:none", code=2)
    assert not trace.exists()
