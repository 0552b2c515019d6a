"""Where suites are looked for, and the suites that come with cspbench."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cspbench.core.case import Case
from cspbench.errors import InputError
from cspbench.suite import find
from cspbench.suite.find import find_suites, installed_suites, list_suites, suite_name
from cspbench.suite.json_schema import json_schema
from cspbench.suite.load import load_suite


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with suites of its own: edge and, one folder deeper, deep."""
    monkeypatch.chdir(tmp_path)
    for name in ("suites/edge.yaml", "suites/more/deep.yaml", "one.yaml"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(f"name: {Path(name).stem}\n")
    return tmp_path


def test_an_existing_file_is_itself(here: Path) -> None:
    assert find_suites("one.yaml") == [Path("one.yaml")]
    assert find_suites(str(here / "one.yaml")) == [here / "one.yaml"]


def test_a_directory_is_all_its_suites(here: Path) -> None:
    assert find_suites("suites") == [Path("suites/edge.yaml"), Path("suites/more/deep.yaml")]


@pytest.mark.parametrize("argument", ["edge", "edge.yaml", "suites/edge", "suites/edge.yaml"])
def test_suites_of_the_working_directory_win(here: Path, argument: str) -> None:
    assert find_suites(argument) == [Path("suites/edge.yaml")]


@pytest.mark.parametrize("argument", ["quick", "quick.yaml", "suites/quick", "suites/quick.yaml"])
def test_then_come_the_installed_ones(here: Path, argument: str) -> None:
    assert find_suites(argument) == [installed_suites() / "quick.yaml"]


def test_a_folder_of_suites_by_name(here: Path) -> None:
    assert find_suites("more") == [Path("suites/more/deep.yaml")]
    assert find_suites("more/deep") == [Path("suites/more/deep.yaml")]


def test_in_a_directory_without_suites_the_folder_is_the_installed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert installed_suites() / "edge.yaml" in find_suites("suites")


def test_in_a_wheel_the_suites_are_inside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "cspbench"
    (package / "suites").mkdir(parents=True)
    monkeypatch.setattr(find.cspbench, "__file__", str(package / "__init__.py"))
    assert installed_suites() == package / "suites"


@pytest.mark.parametrize("argument", ["", "../edge", "/no/such", "a\0b", "x" * 5000, "."])
def test_what_is_no_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        find_suites(argument)


def test_the_nearest_name_is_offered(here: Path) -> None:
    with pytest.raises(InputError, match=r"no such suite .*did you mean 'quick'"):
        find_suites("quikc")


def test_listed_suites_are_found_by_their_names(here: Path) -> None:
    paths = list_suites()
    names = [suite_name(path) for path in paths]
    assert {"edge", "more/deep", "quick", "gamma-sweep"} <= set(names)
    assert names == sorted(set(names))
    assert [find_suites(name) for name in names] == [[path] for path in paths]


def installed(name: str) -> Path:
    return installed_suites() / f"{name}.yaml"


@pytest.mark.parametrize("path", sorted(installed_suites().rglob("*.yaml")), ids=suite_name)
def test_every_installed_suite_is_right(path: Path) -> None:
    suite = load_suite(path)
    assert suite.description
    assert [str(Case.parse(case.id)) for case in suite.cases] == [c.id for c in suite.cases]


def test_edge_is_table_5(tmp_path: Path) -> None:
    cases = load_suite(installed("edge")).cases
    assert sorted({case.backend.name for case in cases}) == [
        "opencv-cpu", "torch-cpu", "torch-cuda"
    ]  # fmt: skip
    assert sorted({str(case.model_id) for case in cases}) == [
        "cspdensenet-ref+prn@320",
        "cspdensenetb-ref+prn@320",
        "csppeleenet+prn@416",
        "csppeleenet-ref+prn-3l@320",
        "csppeleenet-ref+prn@320",
        "peleenet+prn@416",
        "yolov3-tiny-prn@416",
        "yolov3-tiny@416",
    ]
    assert len(cases) == 8 * 3


def test_the_gamma_sweep() -> None:
    # peleenet collapses to 1 case a backend; csppeleenet has 3 gammas x 2 fusions less one;
    # 2 backends: 2 x (1 + 5); and the included yolov3-tiny: 13.
    suite = load_suite(installed("gamma-sweep"))
    assert len(suite.cases) == 13
    assert any(note.startswith("collapsed: no effect of gamma, fusion") for note in suite.notes)


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from cspbench.suite.find import find_suites\n"
        "from cspbench.suite.load import load_suite\n"
        "assert load_suite(find_suites('edge')[0]).cases\n"
        "print([m for m in ('torch', 'cv2', 'pandas', 'matplotlib', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"


def test_the_schema_offers_what_is_registered() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["name"]
    assert schema["additionalProperties"] is False
    defaults = schema["properties"]["defaults"]["properties"]
    assert "csppeleenet-ref" in defaults["model"]["examples"]
    assert {"none", "prn", "prn-3l"} <= set(defaults["neck"]["examples"])
    assert "opencv-cpu" in defaults["backend"]["examples"]
    assert defaults["engine"]["enum"] == ["auto", "classic", "new"]
    assert defaults["gamma"]["exclusiveMaximum"] == 1
    matrix = schema["properties"]["matrix"]["properties"]
    assert matrix.keys() == defaults.keys()
    assert matrix["gamma"]["anyOf"][1] == {
        "type": "array", "items": defaults["gamma"], "minItems": 1
    }  # fmt: skip
    sections = schema["$defs"]
    assert "timeout_seconds" in sections["MeasureSection"]["properties"]
    assert all(p["description"] for p in sections["MeasureSection"]["properties"].values())
