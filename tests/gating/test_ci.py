"""The files for CI work: bash runs the steps of the action and the GitLab job."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from ruamel.yaml import YAML

from tests.gating.conftest import EXAMPLE, run_git
from tests.inertness import Runner

ROOT = Path(__file__).parents[2]
ACTION = YAML(typ="safe").load(ROOT / "action.yml")
#: The command of runners for "shell: bash".
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


def step(name):
    (chosen,) = [s for s in ACTION["runs"]["steps"] if s["name"] == name]
    return chosen


def environment(name, contexts):
    """The step's own variables, with ${{ ... }} filled in from ``contexts`` or the defaults."""
    defaults = {f"inputs.{k}": v.get("default", "") for k, v in ACTION["inputs"].items()}

    def fill(text):
        return re.sub(r"\$\{\{ (.+?) \}\}", lambda m: {**defaults, **contexts}[m[1]], text)

    return {key: fill(text) for key, text in step(name).get("env", {}).items()}


def run(script, folder, **variables):
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [*BASH, script], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": scripts, **variables},
    )  # fmt: skip


@pytest.fixture
def runner(tmp_path):
    """Folders and files that GitHub's runner gives a step."""
    paths = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for path in paths.values():
        path.touch()
    return {**{name: str(path) for name, path in paths.items()}, "TEMP": str(tmp_path / "temp")}


def gate_step(repository, runner, **inputs):
    contexts = {f"inputs.{key}": value for key, value in inputs.items()}
    variables = environment("Gate", {"runner.temp": runner["TEMP"], **contexts})
    done = run(step("Gate")["run"], repository, **variables, **runner)
    lines = Path(runner["GITHUB_OUTPUT"]).read_text().splitlines()
    return done, dict(line.split("=", 1) for line in lines)


def test_the_action_fails_a_pull_request_that_costs_more(repository, runner):
    runner["GITHUB_ACTIONS"] = "true"
    done, outputs = gate_step(repository, runner, suite="suites/gate.yaml", base="main~1")
    assert done.returncode == 1, done.stderr
    obeyed = {line.split(" ")[0] for line in Runner(done.stderr).executed}
    assert obeyed == {"::error", "::notice"}
    assert outputs["exit-code"] == "1"
    files = Path(outputs["files"])
    assert {"gate.md", "gate.xml", "gate.html"} <= {path.name for path in files.iterdir()}
    assert "gate failed" in Path(runner["GITHUB_STEP_SUMMARY"]).read_text()
    assert "::error file=" in done.stderr


def test_a_pull_request_does_not_change_its_own_judgement(repository, runner, tmp_path):
    """It brings laxer rules, modules by the names of libraries, and a run named as the base."""
    base = run_git(repository, "rev-parse", "main~1")
    suite = repository / "suites/gate.yaml"
    suite.write_text(suite.read_text().replace(": 0%", ": 100%"))
    for name in ("cv2", "click", "numpy", "torch", "sitecustomize", "json"):
        (repository / f"{name}.py").write_text(f"open({str(tmp_path / 'trace')!r}, 'w')\n")
    (repository / base).mkdir()
    (repository / base / "run.json").write_text("{}")
    run_git(repository, "add", ".")
    run_git(repository, "commit", "-q", "-m", "a pull request")
    by_event = {"github.event.pull_request.base.sha || 'HEAD~1'": base}
    default = re.sub(r"\$\{\{ (.+?) \}\}", lambda m: by_event[m[1]],
                     ACTION["inputs"]["base"]["default"])  # fmt: skip
    done, outputs = gate_step(repository, runner, suite="suites/gate.yaml", base=default)
    assert (done.returncode, outputs["exit-code"]) == (1, "1"), done.stderr
    assert "the head's suite changes gate.macs from 0 %25 to 100 %25" in done.stderr
    assert "The head changes the suite" in Path(runner["GITHUB_STEP_SUMMARY"]).read_text()
    assert not (tmp_path / "trace").exists()


def test_the_action_passes_what_changed_nothing(repository, runner):
    done, outputs = gate_step(
        repository, runner, suite="suites/gate.yaml", base="main", strict="true",
        arguments="--only *64* --no-static",
    )  # fmt: skip
    assert (done.returncode, outputs["exit-code"]) == (0, "0"), done.stderr


def test_inputs_of_the_action_are_no_code(repository, runner, tmp_path):
    hostile = f"main; touch {tmp_path}/owned $(touch {tmp_path}/owned)"
    done, outputs = gate_step(repository, runner, suite="suites/gate.yaml", base=hostile)
    assert (done.returncode, outputs["exit-code"]) == (2, "2")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("inputs", "installed"),
    [
        ({}, "-I -m pip install /the/action\n"),
        ({"inputs.install": "-r requirements.txt"},
         "-I -m pip install /the/action -r requirements.txt\n"),
        ({"inputs.cspbench": "false", "inputs.install": "numpy"}, "-I -m pip install numpy\n"),
        ({"inputs.cspbench": "false"}, ""),
    ],
)  # fmt: skip
def test_the_action_installs_itself_and_its_input(tmp_path, inputs, installed):
    calls = tmp_path / "calls"
    calls.touch()
    variables = environment("Install", {"github.action_path": "/the/action", **inputs})
    script = f'python() {{ echo "$@" >> {calls}; }}\n' + step("Install")["run"]
    assert run(script, tmp_path, **variables).returncode == 0
    assert calls.read_text() == installed


def test_what_pip_prints_is_no_command(tmp_path):
    variables = environment("Install", {"github.action_path": "/the/action"})
    script = 'python() { echo "::set-env name=a::b"; }\n' + step("Install")["run"]
    logs = [Runner(run(script, tmp_path, **variables).stdout) for _ in range(2)]
    assert [(log.executed, log.stops, log.stopped) for log in logs] == [([], 1, False)] * 2


def test_the_action_fetches_the_base_of_a_shallow_clone(repository, tmp_path):
    base = run_git(repository, "rev-parse", "main~1")
    clone = tmp_path / "clone"
    run_git(tmp_path, "clone", "-q", "--depth=1", f"file://{repository}", str(clone))
    variables = environment("Fetch the base", {"github.event.pull_request.base.sha": base})
    for _ in range(2):  # the second time it is there already
        done = run(step("Fetch the base")["run"], clone, **variables)
        assert done.returncode == 0, done.stderr
    assert run_git(clone, "cat-file", "-t", base) == "commit"


@pytest.mark.parametrize("file", [EXAMPLE / ".github/workflows/gate.yml",
                                  ROOT / ".github/workflows/gate.yml"])  # fmt: skip
def test_workflows_use_inputs_and_outputs_that_the_action_has(file):
    steps = YAML(typ="safe").load(file)["jobs"]["gate"]["steps"]
    (used,) = [s for s in steps if s["uses"] in ("./", "OWNER/cspbench@main")]
    assert set(used["with"]) <= set(ACTION["inputs"])
    (outputs,) = [s["with"]["path"] for s in steps if "upload-artifact" in s["uses"]]
    assert outputs == f"${{{{ steps.{used['id']}.outputs.files }}}}"
    assert "files" in ACTION["outputs"]
    suite = (file.parents[2] if used["uses"] == "./" else EXAMPLE) / used["with"]["suite"]
    assert suite.is_file()


def test_the_gitlab_job_runs_as_given(repository):
    job = YAML(typ="safe").load(EXAMPLE / ".gitlab-ci.yml")["performance"]
    done = run(
        "\n".join(job["script"]), repository,
        CI_MERGE_REQUEST_DIFF_BASE_SHA=run_git(repository, "rev-parse", "main~1"),
        CI_COMMIT_SHA=run_git(repository, "rev-parse", "main"),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    junit = repository / job["artifacts"]["reports"]["junit"]
    assert ET.parse(junit).getroot()[0].get("failures") == "1"
    assert (repository / "gate/gate.html").is_file()


def test_the_gitlab_job_installs_by_one_name_to_replace():
    job = YAML(typ="safe").load(EXAMPLE / ".gitlab-ci.yml")["performance"]
    (line,) = job["before_script"]
    name = job["variables"]["CSPBENCH"].replace("OWNER", "someone")
    done = run(f"pip() {{ printf '%s\\n' \"$@\"; }}\n{line}", EXAMPLE, CSPBENCH=name)
    assert done.stdout.splitlines() == [
        "install", "cspbench @ git+https://github.com/someone/cspbench@main", "-r",
        "requirements.txt",
    ]  # fmt: skip
