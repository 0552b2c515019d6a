"""What a site holds, and that it reads and writes only what is new."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from cspbench.core.text import slug
from cspbench.errors import InputError
from cspbench.measure.statistics import Interval, quotient
from cspbench.site import Site, follow, write_site
from cspbench.site.build import CHUNK_CASES
from cspbench.site.changes import ALLOWANCE, change, decide
from cspbench.site.chart import ticks
from tests.report.runs import bad_launch, time_launch, write_run
from tests.site.archives import LEVELS, PLAIN, SPLIT, add_run, write_archive


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_archive(tmp_path / "results")
    return tmp_path / "results"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "site"


def text_of(page: Path) -> str:
    """The page's words, as a reader sees them."""
    body = re.sub(r"<(style|script).*?</\1>", "", page.read_text(), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body.replace("<wbr>", ""))).split())


def page_of(out: Path, kind: str, start: str) -> Path:
    """The one page of a run, case or machine whose name starts so."""
    [page] = (out / kind).glob(f"{start}*.html")
    return page


# what stands where


def test_the_first_page_counts_and_names_what_there_is(results: Path, out: Path) -> None:
    site = write_site(results, out)
    assert (site.runs, site.read, site.unread) == (10, 10, [])
    text = text_of(site.index)
    assert "10 runs of 2 cases on 2 machines" in text
    assert "2026-01-01 to 2026-01-20" in text
    assert "attic, Test CPU" in text
    assert "20260109-nightly" in text


def test_a_new_level_is_shown_with_what_changed(results: Path, out: Path) -> None:
    pytest.importorskip("ruptures")
    write_site(results, out)
    words = (
        "▲ +20.0 % 10.00 to 12.00 ms",
        "Since 20260106-nightly",
        "commit 555555555555 to 666666666666",
        "libraries.torch was '2.9.0' and is '2.10.0'",
    )
    for page in (out / "index.html", page_of(out, "case", "peleenet-224-opencv")):
        assert all(one in text_of(page) for one in words), text_of(page)
    assert "New levels" not in text_of(page_of(out, "case", "csppeleenet"))


def test_a_case_has_a_history_for_each_machine(results: Path, out: Path) -> None:
    write_site(results, out)
    page = page_of(out, "case", "peleenet-224-opencv")
    assert page.read_text().count('class="history wide"') == 2
    text = text_of(page)
    assert f"{len(LEVELS)} runs. The newest says 12.00 ms" in text
    assert "1 run. The newest says 30.00 ms" in text
    assert "cspbench run suites/demo.yaml --only peleenet@224/opencv-cpu/b1/t1" in text


def test_a_run_shows_its_cases_and_the_change_since_the_run_before(
    results: Path, out: Path
) -> None:
    write_site(results, out)
    text = text_of(page_of(out, "run", "20260106"))
    ratio = quotient(*(Interval(m, m * 0.995, m * 1.005) for m in (12.0, 10.05))).estimate
    assert f"{(ratio - 1) * 100:+.1f} % ▲ worse" in text
    assert "no NVIDIA driver is loaded" in text
    assert "the first run of its suite" in text_of(page_of(out, "run", "20260101"))


def test_the_newest_change_of_a_case_is_to_the_run_before_of_the_same_suite(
    tmp_path: Path, out: Path
) -> None:
    """10 and 12 ms by one suite, and between them 30 ms by another: +20 %, not -60 %."""
    for number, (suite, ms) in enumerate([("a", 10.0), ("b", 30.0), ("a", 12.0)], start=1):
        add_run(tmp_path / "results", number, {PLAIN: ms}, suite=suite)
    write_site(tmp_path / "results", out)
    assert "+20.0 % ▲ worse" in text_of(out / "cases.html")


def test_a_machine_shows_ceilings_and_facts(results: Path, out: Path) -> None:
    write_site(results, out)
    text = text_of(page_of(out, "machine", "box"))
    assert "cpu/t1 fp32 80.0 triad 4.0 L2 20.0 1.00" in text
    assert "torch 2.10.0" in text, "those of the newest run"
    assert "9 runs, 2 measured cases" in text


def test_the_boards_of_a_fleet_are_machines(tmp_path: Path, out: Path) -> None:
    case = "peleenet@224/opencv-cpu/b1/t1/nano"
    run = write_run(tmp_path / "results", {case: [time_launch(case, 0, [5.0, 5.1])]})
    file = run.path / "run.json"
    fleet = {"boards": {"nano": {"environment": {"host": "bench-3", "cpu": "Cortex"}}},
             "seats": {case: "nano"}}  # fmt: skip
    file.write_text(json.dumps({**json.loads(file.read_text()), "fleet": fleet}))
    write_site(tmp_path / "results", out)
    assert "bench-3, Cortex" in text_of(page_of(out, "case", "peleenet"))
    assert page_of(out, "machine", "bench-3").exists()


# only what is new


def test_nothing_is_read_or_written_without_news(results: Path, out: Path) -> None:
    write_site(results, out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.*")}
    again = write_site(results, out)
    assert (again.read, again.changed) == (0, 0)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*.*")} == before


def test_only_a_new_run_is_read_and_what_it_changes_written(results: Path, out: Path) -> None:
    write_site(results, out)
    old = page_of(out, "run", "20260105")
    state = old.stat().st_mtime_ns
    add_run(results, 11, {PLAIN: 12.0})
    site = write_site(results, out)
    assert (site.runs, site.read) == (11, 1)
    assert page_of(out, "run", "20260111").exists()
    assert "20260111-nightly" in text_of(page_of(out, "case", "peleenet-224-opencv"))
    assert old.stat().st_mtime_ns == state


def test_a_run_that_has_grown_is_read_again(results: Path, out: Path) -> None:
    write_site(results, out)
    from cspbench.store.rundir import RunDirectory

    [path] = results.glob("20260109*")
    RunDirectory(path).append(time_launch(SPLIT, 3, [4.0] * 20))
    assert write_site(results, out).read == 1


def test_a_run_that_is_gone_leaves_the_site_and_nothing_else_does(results: Path, out: Path) -> None:
    write_site(results, out)
    own = out / "run" / "notes.html"
    own.write_text("mine")
    [path] = results.glob("20260104*")
    for file in path.iterdir():
        file.unlink()
    path.rmdir()
    assert write_site(results, out).runs == 9
    assert not list(out.rglob("20260104*"))
    assert own.read_text() == "mine"


def test_a_state_that_names_other_files_removes_none_of_them(results: Path, out: Path) -> None:
    write_site(results, out)
    precious = out.parent / "precious.html"
    precious.write_text("mine")
    file = out / "data" / "state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "../precious.html": "x"}))
    write_site(results, out)
    assert precious.exists()


def test_a_run_that_cannot_be_read_is_named_and_the_others_stand(results: Path, out: Path) -> None:
    [path] = results.glob("20260104*")
    (path / "run.json").write_text("{")
    site = write_site(results, out)
    assert site.runs == 9
    assert len(site.unread) == 1
    assert "20260104-nightly" in text_of(site.index)


def test_a_run_of_many_cases_is_cut_into_chunks_and_read_back(tmp_path: Path, out: Path) -> None:
    cases = {f"peleenet@{32 * (at + 1)}/opencv-cpu/b1/t1": [] for at in range(CHUNK_CASES + 10)}
    write_run(tmp_path / "results", cases, "many")
    write_site(tmp_path / "results", out)
    chunks = sorted((out / "data" / "run").iterdir())
    assert len(chunks) == 2
    assert max(one.stat().st_size for one in out.rglob("*.*")) < 1e6
    add_run(tmp_path / "results", 1, {PLAIN: 1.0})
    assert write_site(tmp_path / "results", out).read == 1
    assert f"0 of {len(cases)}" in text_of(out / "runs.html")


def test_long_lists_go_over_several_pages(tmp_path: Path, out: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("cspbench.site.pages.PAGE_ROWS", 3)
    write_archive(tmp_path / "results")
    write_site(tmp_path / "results", out)
    pages = [text_of(out / name) for name in ("runs.html", "runs-2.html", "runs-4.html")]
    assert ["20260120-other" in page for page in pages] == [True, False, False]
    assert "20260101-nightly" in pages[2]


def test_watching_builds_again_and_reports_only_news(results: Path, out: Path) -> None:
    reports: list[Site] = []
    pauses = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            add_run(results, 12, {PLAIN: 12.0})
        if len(pauses) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        follow(lambda: write_site(results, out, watch_seconds=5), 5, reports.append, pause)
    assert [(site.runs, site.read) for site in reports] == [(10, 10), (11, 1)]
    assert pauses == [5] * 4


# where a site may be written


def test_a_folder_with_other_files_is_refused(results: Path, out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds files that are no site of cspbench"):
        write_site(results, out)
    assert [one.name for one in out.iterdir()] == ["thesis.tex"]


def test_a_missing_archive_is_a_sentence(tmp_path: Path, out: Path) -> None:
    with pytest.raises(InputError, match="there is no directory"):
        write_site(tmp_path / "nowhere", out)


def test_an_empty_archive_makes_an_empty_site(tmp_path: Path, out: Path) -> None:
    (tmp_path / "results").mkdir()
    assert "No run yet" in text_of(write_site(tmp_path / "results", out).index)


# pure parts


def test_a_decision_needs_the_whole_interval() -> None:
    beyond, within = 1 + 2 * ALLOWANCE, 1 + ALLOWANCE / 2
    assert decide(Interval(beyond, 1 + 1.5 * ALLOWANCE, 1.3)) == "worse"
    assert decide(Interval(1 / beyond, 0.8, 1 / (1 + 1.5 * ALLOWANCE))) == "better"
    assert decide(Interval(1.0, 1 / within, within)) == "same"
    assert decide(Interval(beyond, within, 1.3)) == "undecided"
    assert decide(Interval(2.0, None, None)) == "undecided"


def test_a_change_is_the_quotient_of_two_separate_latencies() -> None:
    base, head = Interval(10.0, 9.8, 10.2), Interval(12.0, 11.9, 12.1)
    assert change(base, head) == quotient(head, base)
    assert change(None, head) is None


def test_slugs_are_file_names_and_differ_where_texts_do() -> None:
    hostile = ["../../etc/passwd", "a/b", "a b", "a-b", "", "<img>", "x" * 500, "x" * 501, "漢字"]
    names = [slug(one) for one in hostile]
    assert len(set(names)) == len(hostile)
    assert all(re.fullmatch(r"[\w.-]{1,80}", name) for name in names)


def test_ticks_are_round_and_few() -> None:
    assert ticks(9.3, 12.6) == [10, 11, 12]
    assert [round(one, 6) for one in ticks(0.0113, 0.0121)] == [0.0114, 0.0116, 0.0118, 0.012]
    assert len(ticks(0.0, 1e6)) <= 6


def test_a_crash_stands_in_the_page_of_its_run(tmp_path: Path, out: Path) -> None:
    crashes = [bad_launch(PLAIN, "crashed", "ended by SIGSEGV", number=n) for n in range(2)]
    write_run(tmp_path / "results", {PLAIN: crashes})
    write_site(tmp_path / "results", out)
    assert "crashed ended by SIGSEGV" in text_of(page_of(out, "run", "demo"))
