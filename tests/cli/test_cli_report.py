"""``cspbench report`` and ``figures`` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cspbench.cli import figures
from cspbench.cli.main import main
from cspbench.cli.report import command
from tests.report.runs import good, write_run

CASE = "peleenet@224/opencv-cpu/b1/t1"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("20260101-000000-a", "20260102-000000-b"):
        write_run(tmp_path / "results", {CASE: good(CASE, 5.0)}, name=name)
    return tmp_path


@pytest.mark.parametrize("run", ["latest", "20260102-000000-b", "results/20260102-000000-b"])
def test_a_run_by_path_by_name_or_the_latest(folder: Path, run: str) -> None:
    result = CliRunner().invoke(command, [run])
    assert result.exit_code == 0, result.output
    assert result.output == "reports/20260102-000000-b.html\n"
    assert "20260102-000000-b" in (folder / "reports/20260102-000000-b.html").read_text()


def test_several_runs_in_one_file(folder: Path) -> None:
    runs = ["20260101-000000-a", "20260102-000000-b"]
    result = CliRunner().invoke(command, [*runs, "--out", "both.html"])
    assert result.output == "both.html\n"
    assert (folder / "both.html").read_text().count("<tr data-index=") == 2


def test_a_missing_run_is_one_sentence_and_exit_two(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", "nowhere"])
    assert ended.value.code == 2
    assert "there is no run 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "said"), [("--reports", 0), ("--out", 1)])
def test_figures_go_to_a_folder_which_was_named_out(
    folder: Path, option: str, said: int, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["latest", "--only", "fps_bars", option, "here"]
    figures.command.main(words, standalone_mode=False)
    output, errors = capsys.readouterr()
    assert output.splitlines() == ["here/fps_bars.svg", "here/fps_bars.png"]
    assert errors.count("use --reports") == said
    assert (folder / "here" / "fps_bars.svg").exists()
