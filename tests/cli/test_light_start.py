"""Starting is light: help and plan import nothing that takes long to import."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cspbench.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "cv2", "pandas", "matplotlib", "onnx", "onnxruntime", "openvino", "scipy",
         "dask", "distributed")  # fmt: skip
CODE = """
import json, sys
from cspbench.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(set(sys.modules))]), file=sys.stderr)
"""


def modules_of(folder, *arguments):
    """Exit code and imported modules of a command, in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", CODE, *arguments],
        capture_output=True, text=True, cwd=folder, check=True,
    )  # fmt: skip
    return json.loads(result.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["plan", "--help"],
        ["plan", "edge"],
        ["plan", "edge", "--format", "json"],
        ["list", "models", "--format", "json"],
        ["list", "backends", "--format", "json"],
        ["list", "suites", "--format", "json"],
        ["schema"],
    ],
)
def test_it_imports_nothing_heavy(tmp_path, arguments):
    code, modules = modules_of(tmp_path, *arguments)
    assert code == 0
    assert [name for name in HEAVY if name in modules] == []


def test_a_worker_imports_its_backend_and_no_other():
    # Each block of a measurement starts workers anew, so that their imports take time from it.
    code = (
        "import sys; from cspbench.jobs.spec import JOBS; "
        "from cspbench.backends.spec import BACKENDS; import cspbench.jobs.worker; "
        "JOBS.get('load'); BACKENDS.get('opencv-cpu'); "
        "print([n for n in ('cspbench.backends.torch_cuda', 'cspbench.jobs.ceilings', "
        "'cspbench.analysis', 'importlib.metadata') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_help_imports_no_command(tmp_path):
    _, modules = modules_of(tmp_path, "--help")
    ours = [name for name in modules if name.startswith("cspbench.cli.")]
    assert ours == ["cspbench.cli.last_resort", "cspbench.cli.main"]


def test_plan_with_a_stored_run_is_light_too(tmp_path):
    shutil.copytree(ROOT / "results" / "reference" / "edge", tmp_path / "results" / "edge")
    code, modules = modules_of(tmp_path, "plan", "edge")
    assert code == 0
    assert [name for name in HEAVY if name in modules] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_help_names_has_a_help_of_its_own(call, name):
    assert name in call("--help")[1]
    code, out, _ = call(name, "--help")
    assert code == 0
    assert out.startswith(f"Usage: cspbench {name} ")
