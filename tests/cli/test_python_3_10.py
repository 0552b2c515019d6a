"""Python 3.10, which puts the working directory first on its path and has no PYTHONSAFEPATH."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from cspbench.jobs.facts import FactsRequest
from cspbench.runner.process import WorkerProcess

ROOT = Path(__file__).parents[2]


def find_python_3_10():
    """An interpreter that runs: on the search path, or one of pyenv's."""
    candidates = [Path(folder) / "python3.10" for folder in os.get_exec_path()]
    candidates += sorted(Path.home().glob(".pyenv/versions/3.10.*/bin/python3.10"))
    for path in candidates:
        if path.is_file():
            asked = [str(path), "-c", "import sys; print(sys.version_info[:2] == (3, 10))"]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.stdout.strip() == "True":
                return str(path)
    return None


PYTHON = find_python_3_10()
pytestmark = pytest.mark.skipif(PYTHON is None, reason="no Python 3.10 on this machine")


@pytest.fixture
def trace(tmp_path, monkeypatch):
    """A working directory of modules that leave a trace when they are imported."""
    folder, trace = tmp_path / "stranger", tmp_path / "trace"
    folder.mkdir()
    code = f"import os\nos.write(os.open({str(trace)!r}, os.O_WRONLY | os.O_CREAT), b'ran')\n"
    installed = {"cv2", "numpy", "click", "pydantic", "psutil", "onnx", "torch", "pip"}
    for name in installed | sys.stdlib_module_names - {"os", "posix"}:
        (folder / f"{name}.py").write_text(code)
    monkeypatch.chdir(folder)
    return trace


def test_the_attack_works_on_python_itself(trace):
    subprocess.run([PYTHON, "-c", "import cv2"], check=True)
    assert trace.read_bytes() == b"ran"


def test_a_worker_imports_nothing_of_the_working_directory(trace):
    worker = WorkerProcess(python=PYTHON, path=str(ROOT))
    try:
        outcome = worker.ask(FactsRequest().to_json(), 60)
    finally:
        worker.close()
    assert outcome.answer["python"].startswith("3.10."), outcome
    assert not trace.exists()


def test_the_command_imports_no_library_of_the_working_directory(trace, tmp_path):
    """Only what help needs, and only code without compiled parts, which 3.10 can load too."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for name in ("click", "platformdirs"):
        (libraries / name).symlink_to(Path(find_spec(name).origin).parent)
    for path in Path.cwd().iterdir():  # the standard library is Python's own affair there
        if path.stem in sys.stdlib_module_names:
            path.unlink()
    done = subprocess.run(
        [PYTHON, "-m", "cspbench", "--help"], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{libraries}"},
    )  # fmt: skip
    assert "Usage: cspbench" in done.stdout, done.stderr
    assert not trace.exists()
