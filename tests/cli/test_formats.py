"""``--format``: every command takes every form that it can put somewhere, and no other."""

import importlib
import json
from pathlib import Path

import pytest

from cspbench.cli.main import COMMANDS
from cspbench.machine.check_result import CheckResult
from cspbench.views.formats import FORMATS, PRINTED

#: Their output is no single table, so there is no file to write.
ONLY_PRINT = {"run", "gate", "show-model"}
CHECKED = [
    CheckResult("SMT", "on", "warn", "use one thread a core"),
    CheckResult("governor", "performance", "good"),
]


def parameters(name):
    module = importlib.import_module(f"cspbench.cli.{name.replace('-', '_')}")
    return {parameter.name: parameter for parameter in module.command.params}


def test_a_command_takes_every_form_or_every_printed_one():
    taken = {name: parameters(name) for name in COMMANDS}
    tables = {name: found for name, found in taken.items() if "form" in found}
    assert {"plan", "doctor", "ceilings", "list", "show", "analyze"} < set(tables)
    for name, found in tables.items():
        forms = PRINTED if name in ONLY_PRINT else FORMATS
        if name == "show":
            forms = (*forms, "chrome-trace")
        assert tuple(found["form"].type.choices) == forms, name
        assert "out" in found or name in ONLY_PRINT, name


def test_the_readme_says_which_commands_only_print():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"`--format {'/'.join(PRINTED)}`" in text
    assert "The tables of `run`, `gate` and `show-model` have no `--out`." in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "quick"],
        ["gate", "quick", "--base", "set:threads=1"],
        ["gate", "--self-test"],
        ["show-model", "csppeleenet"],
    ],
)
def test_parquet_is_refused_before_anything_runs(call, tmp_path, arguments):
    code, out, err = call(*arguments, "--format", "parquet")
    assert (code, out) == (2, "")
    assert "'parquet' is not one of 'table', 'json', 'csv', 'md', 'latex'" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "models"],
        ["plan", "quick"],
        ["doctor"],
        ["ceilings"],
        ["analyze", "peleenet@64"],
        ["explain", "peleenet@64", "csppeleenet@64"],
        ["show", "latest"],
        ["compare", "a", "b"],
        ["history"],
        ["paper"],
    ],
)
def test_parquet_without_a_file_is_refused_before_anything_runs(call, tmp_path, arguments):
    code, out, err = call(*arguments, "--format", "parquet")
    assert (code, out) == (2, "")
    assert err == "error: parquet is not text: name a file with --out\n"
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def machine(call, monkeypatch):
    """A machine that was looked at and measured before: the same findings and ceilings always."""
    from cspbench.jobs.ceilings import Ceilings
    from cspbench.store.ceilings import keep_ceilings

    monkeypatch.setattr("cspbench.machine.doctor.examine", lambda: CHECKED)
    known = Ceilings(
        gflops={"fp32": 50.25}, bandwidth_gbs={"triad": 5.0}, cache_bandwidth_gbs={"L2": 40.0},
        overhead_us=2.0, threads=1,
    )  # fmt: skip
    keep_ceilings("cpu", known)
    return call


#: Command, columns of its table, and how its first row begins.
TABLES = [
    (["doctor"], ["check", "value", "verdict", "remedy"], ["SMT", "on"]),
    (["ceilings"], ["ceiling", "value", "unit"], ["fp32 matrix product", "50.25"]),
    (
        ["plan", "quick", "--only", "peleenet@64/opencv-cpu/*"],
        ["suite", "id", "status", "reason", "estimated_seconds"],
        ["quick", "peleenet@64/opencv-cpu/b1/t1"],
    ),
    (
        ["list", "models", "csppeleenet"],
        ["name", "task", "input", "confidence", "options", "published", "summary", "source"],
        ["csppeleenet"],
    ),
]


@pytest.mark.parametrize(("arguments", "columns", "first"), TABLES, ids=lambda part: part[0])
def test_tables_come_in_every_form(machine, tmp_path, arguments, columns, first):
    head, row = machine(*arguments, "--format", "csv")[1].splitlines()[:2]
    assert head == ",".join(columns)
    assert row.startswith(",".join(first))
    head, _, row = machine(*arguments, "--format", "md")[1].splitlines()[:3]
    assert [cell.strip() for cell in head.strip("|").split("|")] == columns
    assert [cell.strip(" `") for cell in row.strip("|").split("|")][: len(first)] == first
    assert "\\toprule" in machine(*arguments, "--format", "latex")[1]
    pandas, _ = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    code, out, _ = machine(*arguments, "--format", "parquet", "--out", "table.parquet")
    assert (code, out.strip()) == (0, "table.parquet")
    assert list(pandas.read_parquet(tmp_path / "table.parquet").columns) == columns


@pytest.mark.parametrize("arguments", [table[0] for table in TABLES], ids=lambda part: part[0])
@pytest.mark.parametrize("form", ["table", "json"])
def test_what_is_printed_may_go_to_a_file_too(machine, tmp_path, arguments, form):
    printed = machine(*arguments, "--format", form)[1]
    code, out, _ = machine(*arguments, "--format", form, "--out", "file")
    assert (code, out.strip()) == (0, "file")
    written = (tmp_path / "file").read_text()
    if form == "json":
        assert json.loads(written) == json.loads(printed)
    assert written.strip()


def test_show_model_prints_latex_too(call):
    code, out, _ = call("show-model", "csppeleenet@64", "--format", "latex")
    assert code == 0
    assert out.count("\\toprule") == 2


@pytest.mark.parametrize("form", ["json", "csv", "parquet"])
@pytest.mark.parametrize("arguments", [["analyze", "peleenet@64"], ["list", "backends"]])
def test_a_file_that_cannot_be_written_is_one_sentence(call, arguments, form):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    code, out, err = call(*arguments, "--format", form, "--out", "no/such/file")
    assert (code, out) == (2, "")
    assert err.startswith("error: cannot write no/such/file: ")
    assert "None" not in err
    assert len(err.splitlines()) == 1
