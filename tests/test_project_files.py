"""Files that people and services look for: changelog, citation, issue forms, workflows, README."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import cspbench
from cspbench.cli.main import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md")]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def make(*arguments: str) -> str:
    """What make prints; these tests may run below another make, whose variables do not count."""
    done = subprocess.run(
        ["make", *arguments], cwd=ROOT, env={"PATH": os.environ["PATH"]},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def load(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def test_the_changelog_has_what_comes_and_this_version() -> None:
    versions = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$", read("CHANGELOG.md"), re.M)
    assert versions[:2] == ["Unreleased", cspbench.__version__]
    kinds = set(re.findall(r"^### (\w+)$", read("CHANGELOG.md"), re.M))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_citation_names_this_version_and_the_paper() -> None:
    citation = load(ROOT / "CITATION.cff")
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["version"] == cspbench.__version__
    assert {"title", "authors", "message"} <= citation.keys()
    [paper] = citation["references"]
    assert "1911.11929" in paper["url"]


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_ask_for_doctor_and_the_run(name: str) -> None:
    form = load(ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert {"name", "description", "body"} <= form.keys()
    text = str(form["body"])
    assert "cspbench doctor" in text
    assert "results/RUN" in text
    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids))


def test_one_workflow_runs_what_ci_runs_and_one_builds_the_wheel_of_a_tag() -> None:
    folder = ROOT / ".github" / "workflows"
    workflows = {path.stem: load(path) for path in folder.glob("*.yml")}
    [tests] = workflows["tests"]["jobs"].values()
    assert any(".ci/run" in step.get("run", "") for step in tests["steps"])
    assert load(folder / "wheel.yml")["on"] == {"push": {"tags": ["v*"]}}
    commands = " ".join(
        step.get("run", "") for job in workflows["wheel"]["jobs"].values() for step in job["steps"]
    )
    assert "pip wheel --no-deps" in commands
    assert "upload" not in commands  # to an index


def test_nothing_says_that_an_index_has_cspbench() -> None:
    """``pip install cspbench`` would install an unrelated package of that name."""
    code = (*(ROOT / "cspbench").rglob("*.py"), *PAGES)
    pattern = re.compile(r"pip install (?:--?[\w-]+ )*[\"']?cspbench(?![\w-])(?! @)")
    told = [path.name for path in code if pattern.search(path.read_text(encoding="utf-8"))]
    assert told == []


def test_make_explains_every_target_and_contributing_those_that_check() -> None:
    told = set(re.findall(r"^  make ([\w-]+)", make("help"), re.M))
    [phony] = re.findall(r"^\.PHONY: (.+)$", read("Makefile"), re.M)
    assert told == set(phony.split()) - {"help", "setup"}
    for target in ("check", "test", "test-all", "test-oldest", "lint"):
        assert f"| `make {target}` |" in read("CONTRIBUTING.md")


def test_running_installs_no_tools_of_developers_and_nothing_of_another_licence() -> None:
    def extras(target: str) -> set[str]:
        commands = make("--dry-run", "--always-make", target)
        return {
            name for found in re.findall(r'-e "\.\[(.*?)\]"', commands) for name in found.split(",")
        }

    assert extras("run") == {"onnx", "openvino"}
    assert extras("test") == extras("run") | {"all", "jetson", "test"}
    assert extras("lint") == extras("run") | {"lint"}


def test_the_first_page_shows_what_its_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [(command, without, shown)] = re.findall(
        r"^```console\n\$ cspbench (.+?) \| grep -v (\w+)\n(.*?)^```$", README, re.M | re.S
    )
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main(shlex.split(command))
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if without not in line] == shown.splitlines()
