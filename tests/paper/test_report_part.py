"""The report's part on the paper, and ``cspbench paper``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from cspbench.cli.paper import command
from cspbench.paper.comparison import VERDICTS
from cspbench.paper.sections.claims import SIGNS
from cspbench.report.page import render
from cspbench.report.section import SECTIONS, ReportContext
from cspbench.views.frames import Run


@pytest.fixture(scope="module")
def page(table5: Run) -> str:
    return render([table5], "paper")


def claim_text(page: str, name: str) -> str:
    found = re.search(rf'<li id="claim-{name}">(.*?)</li>', page, re.DOTALL)
    assert found is not None
    text = found[1].replace("<wbr>", "")
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def context_of(*runs: Run) -> ReportContext:
    return ReportContext(runs, runs, (), "paper")


def test_it_is_there_only_with_runs_of_the_paper(demo: Run, table5: Run) -> None:
    assert not SECTIONS.get("paper").applies(context_of(demo))
    assert "claim by claim" not in render([demo])
    context = context_of(demo, table5)
    assert SECTIONS.get("paper").applies(context)
    found = SECTIONS.get("paper-tables").data(context)
    # Table 5 is of the run's networks; of the others the page says that they are left out.
    assert [table.number for table in found["tables"]] == [5]
    assert found["missing_tables"] == [1, 2, 3, 4]
    figures = [*found["figures"], *found["missing_figures"]]
    assert sorted(figure.number for figure in figures) == [1, 4, 7, 8]


def test_every_verdict_has_a_sign_of_its_own() -> None:
    assert set(SIGNS) == set(VERDICTS)
    assert len({sign for sign, _ in SIGNS.values()}) == len(SIGNS)


def test_counts_of_verdicts_add_up(table5: Run) -> None:
    found = SECTIONS.get("paper").data(context_of(table5))
    assert sum(count.claims for count in found["counts"]) == sum(
        len(claims) for _, claims in found["groups"]
    )


def test_a_claim_tells_verdict_published_reason_and_rule(page: str) -> None:
    text = claim_text(page, "cpu-order")
    assert text.startswith("– not testable here On a CPU the systems of Table 5")
    assert "published cspdensenetb-ref+prn 102 &gt;" in text
    assert "ended by &lt;b&gt;SIGSEGV&lt;/b&gt;" in text, "a run's text stays text"
    assert "How it was decided Every pair must be in order" in text
    assert "not an NVIDIA Jetson board" not in text
    assert "jetson" in claim_text(page, "mobile-efm")


def test_figures_say_why_they_are_missing(page: str) -> None:
    assert "Figure 7, because these runs are not of paper-figure7." in page
    assert "Table 1, because these runs hold none of its networks." in page
    assert page.count('id="paper-figure-') == 1


def test_the_page_is_named_after_the_paper_and_leads_to_its_parts(page: str) -> None:
    assert "<h1>The CSPNet paper on this machine</h1>" in page
    assert '<a href="#paper">' in page
    assert '<a href="#paper-tables">' in page
    ids = re.findall(r'id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_checklist_in_the_terminal(table5: Run, results: Path) -> None:
    named = invoke(str(table5.path), "--format", "json")
    rows = {row["claim"]: row for row in json.loads(named)}
    assert rows["cio"]["verdict"] == "reproduced", "what the run did not analyse is analysed"
    assert rows["cpu-order"]["verdict"] == "not testable here"
    assert rows["cpu-order"]["used"] == [f"{m}@416/opencv-cpu/b1/t1" for m in
                                         ("yolov3-tiny-prn", "yolov3-tiny")]  # fmt: skip
    # The directory that holds the runs, and no name at all, mean the same.
    assert invoke(str(results), "--format", "json") == named
    assert invoke("--results", str(results), "--format", "json") == named
    text = invoke(str(table5.path))
    assert re.search(r"\d+ not testable here", text.splitlines()[-1])


def test_a_table_in_the_terminal(table5: Run) -> None:
    text = invoke(str(table5.path), "--table", "5")
    row = next(line for line in text.splitlines() if line.startswith("YOLOv3-tiny-PRN"))
    assert row.split()[:7] == ["YOLOv3-tiny-PRN", "confirmed", "416", "33.1", "400", "1.21", "71"]
    assert "×1.29 (1.25 to 1.33, separate launches)" in row
    assert "Beside Jetson TX2: not an NVIDIA Jetson board" in text.replace("jetson: ", "")
    assert invoke(str(table5.path), "--table", "5", "--format", "csv").startswith("system,")


def test_without_any_run_the_counts_are_still_held_against_the_paper(tmp_path: Path) -> None:
    rows = json.loads(invoke("--results", str(tmp_path), "--format", "json"))
    verdicts = {row["claim"]: row["verdict"] for row in rows}
    assert verdicts["bottleneck"] == "reproduced"
    assert verdicts["cpu-tiny"] == "not testable here"
