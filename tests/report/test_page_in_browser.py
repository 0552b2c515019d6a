"""The page in a real browser: offline, from a file, with and without its script."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cspbench.report import write_report
from cspbench.views.frames import Run, load
from tests.inertness import ATTACKS, hidden
from tests.report.runs import (
    ENVIRONMENT,
    bad_launch,
    good,
    time_launch,
    together_run,
    write_run,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

#: A stored run of ``make run``.
REFERENCE = Path(__file__).parents[2] / "results/reference/edge"
ROWS = "#case-table tbody tr:not([hidden])"


@pytest.fixture(scope="module")
def file(demo: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report([demo], tmp_path_factory.mktemp("reports") / "demo.html")


Opener = Callable[..., "Page"]


@pytest.fixture
def open_page(browser: Browser, file: Path) -> Iterator[Opener]:
    """Open a page offline; at the end there must have been no complaint and no request."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opener(path: Path | None = None, fragment: str = "", **options: Any) -> Page:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        address = f"file://{path or file}"
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "data:", "blob:"))
                else complaints.append(request.url)
            ),
        )
        page.goto(address + fragment)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert complaints == []


def names(page: Page) -> list[str]:
    """Networks of the visible rows, in order."""
    return [cell.inner_text().split("\n")[0] for cell in page.locator(f"{ROWS} th").all()]


def numbers(page: Page, column: int) -> list[float]:
    """Numbers of a column of the visible rows, in order, without the missing ones."""
    cells = page.locator(f"{ROWS} td:nth-child({column})").all_inner_texts()
    return [float(cell) for cell in cells if cell != "–"]


def test_sorting_by_latency_both_ways_keeps_missing_ones_last(open_page: Opener) -> None:
    page = open_page()
    head = page.locator("#case-table th[data-key=latency_ms]")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    up = numbers(page, 3)
    assert up == sorted(up)
    assert page.locator(f"{ROWS} td:nth-child(3)").last.inner_text() == "–"
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers(page, 3) == sorted(up, reverse=True)
    assert page.locator(f"{ROWS} td:nth-child(3)").last.inner_text() == "–"


def test_fps_sorts_fastest_first_and_names_sort_as_text(open_page: Opener) -> None:
    page = open_page()
    page.locator("#case-table th[data-key=fps] button").click()
    speeds = numbers(page, 6)
    assert speeds == sorted(speeds, reverse=True)
    page.locator("#case-table th[data-key=model_id] button").click()
    groups = [name for name, _ in itertools.groupby(names(page))]
    assert len(groups) == len(set(groups)), "equal names stand together"
    assert (groups[0], groups[-1]) == ("csppeleenet-ref+prn@320", "peleenet@224")


def test_filters_combine_and_clear(open_page: Opener) -> None:
    page = open_page()
    unfiltered = page.locator(ROWS).count()
    total = page.locator("#case-table tbody tr").count()
    page.select_option("select[data-key=backend]", "opencv-cpu")
    assert set(page.locator(f"{ROWS} td:nth-child(2)").all_inner_texts()) == {"opencv-cpu"}
    page.fill("#f-text", "csp gamma")
    assert names(page) == ["csppeleenet[gamma=0.25]@224"]
    assert page.locator("#shown").inner_text() == f"1 of {total}"
    page.select_option("select[data-key=gamma]", "0.25")
    assert page.locator(ROWS).count() == 1
    page.get_by_role("button", name="Clear").click()
    page.locator(ROWS).nth(unfiltered - 1).wait_for()
    assert page.locator(ROWS).count() == unfiltered


def test_cases_that_cannot_run_here_are_folded_away(open_page: Opener) -> None:
    page = open_page()
    cannot = page.locator("#case-table tr.skipped")
    assert cannot.count() > 0
    assert not cannot.first.is_visible()
    page.get_by_label("that cannot run here").check()
    assert cannot.first.is_visible()
    page.get_by_label("that cannot run here").uncheck()
    page.select_option("select[data-key=status]", "unavailable")
    assert cannot.first.is_visible(), "who asks for them gets them"


def test_a_symbol_leads_to_its_definition_in_the_folded_notes(open_page: Opener) -> None:
    page = open_page()
    assert not page.locator("#def-latency_ms").is_visible()
    page.locator("#case-table a[href='#def-latency_ms']").first.click()
    page.locator("#def-latency_ms").wait_for()


@pytest.mark.parametrize("figure", ["fps_bars", "gamma_fusion"])  # a bar; a point of a series
def test_filter_fades_the_marks_of_hidden_cases(open_page: Opener, figure: str) -> None:
    page = open_page()
    page.select_option("select[data-key=backend]", "torch-cpu")
    mark = f"#fig-{figure} [data-case='peleenet@224/{{}}/b1/t1']"
    assert page.locator(mark.format("opencv-cpu")).get_attribute("opacity") == "0.15"
    assert page.locator(mark.format("torch-cpu")).get_attribute("opacity") == "1"


def test_details_open_by_keyboard_and_close_by_escape(open_page: Opener) -> None:
    page = open_page()
    button = page.get_by_role("button", name="csppeleenet[gamma=0.25]@224").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.get_by_role("heading").first.inner_text() == (
        "csppeleenet[gamma=0.25]@224/opencv-cpu/b1/t1"
    )
    assert "Distribution of the samples" in dialog.inner_text()
    assert dialog.get_by_role("region", name="Layers").locator("tbody tr").count() == 3
    assert dialog.get_by_role("region", name="Launches").locator("tbody tr").count() == 3
    page.keyboard.press("Escape")
    assert dialog.count() == 0
    assert page.evaluate("document.activeElement.className") == "open", "focus returns"


def test_published_numbers_stand_in_the_details(open_page: Opener) -> None:
    page = open_page()
    page.get_by_role("button", name="csppeleenet-ref+prn@320").click()
    text = page.get_by_role("region", name="Published").inner_text()
    assert "ap50_pct" in text
    assert "Jetson TX2" in text


def test_a_case_can_be_linked_to(open_page: Opener) -> None:
    page = open_page(fragment="#case-1")
    assert page.get_by_role("dialog").is_visible()
    page.get_by_role("button", name="Close").click()
    assert page.evaluate("location.hash") == "#cases"


def test_the_repeat_command_is_copied(open_page: Opener) -> None:
    page = open_page(fragment="#case-0", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#case-command + button").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "cspbench run suites/demo.yaml --only peleenet@224/opencv-cpu/b1/t1"


def test_the_line_to_quote_is_copied(open_page: Opener) -> None:
    page = open_page(fragment="#case-0", permissions=["clipboard-read", "clipboard-write"])
    page.locator("#case-claim + button").click()
    page.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.startswith("peleenet@224, batch 1: ")
    assert copied in page.locator(".claims").text_content()  # for those without a script


def test_a_mark_opens_the_case_of_its_own_run(open_page: Opener, tmp_path: Path) -> None:
    """Both runs hold the case; only the first measured it, so its figure shows that one."""
    case = "peleenet@224/opencv-cpu/b1/t1"
    runs = [
        write_run(tmp_path, {case: good(case, 5.0)}, name="one"),
        write_run(tmp_path, {case: ("unavailable", "no such thing here")}, name="two"),
    ]
    page = open_page(write_report(runs, tmp_path / "two.html"))
    mark = page.locator(f"#fig-fps_bars [data-case='{case}']")
    assert mark.get_attribute("data-run") == "one"
    mark.hover()
    assert "95 % interval" in page.locator("#tip").inner_text()
    mark.click()
    assert page.evaluate("location.hash") == "#case-0"
    page.keyboard.press("Escape")
    page.select_option("select[data-key=run]", "two")
    assert mark.get_attribute("opacity") == "0.15"


def test_the_layers_of_any_two_cases_can_be_put_side_by_side(
    open_page: Opener, tmp_path: Path
) -> None:
    """The profiles are equal: 1, 4, 2, 1 ms and 2 between the layers. A has 100 MACs more there."""
    page = open_page(write_report([together_run(tmp_path)], tmp_path / "pair.html"))
    first, second = page.locator("#layer-pair select").all()
    assert "peleenet@224" in first.locator("option:checked").inner_text()
    assert "csppeleenet@224" in second.locator("option:checked").inner_text()
    rows = page.locator("#layer-pair-rows tr")
    lines = {line.split("\t")[0]: line.split("\t") for line in rows.all_inner_texts()}
    # Stage 0: 1 + 4 ms, and 500 or 300 million MACs: 2 x 500 / 5 and 2 x 300 / 5 GFLOP/s / 1000.
    stage = lines["stages.0"]
    assert stage[1:5] == ["conv", "5", "5", "+0"]
    assert [float(cell) for cell in stage[7:9]] == [
        pytest.approx(2 * float(macs) / 5) for macs in stage[5:7]
    ]
    second.select_option(index=0)
    lines = {line.split("\t")[0]: line.split("\t") for line in rows.all_inner_texts()}
    assert lines["stages.0"][5] == lines["stages.0"][6]
    assert "A takes 10 ms with its profiler, B 10 ms" in page.locator("#layer-pair").inner_text()


def test_a_case_that_no_command_repeats_shows_none(open_page: Opener, tmp_path: Path) -> None:
    case = "peleenet@224/opencv-cpu/b1/t1"
    run = write_run(tmp_path, {case: good(case, 5.0)}, suite={"path": ""})
    page = open_page(write_report([run], tmp_path / "made.html"), fragment="#case-0")
    assert page.get_by_role("region", name="Launches").is_visible()
    assert "Repeat this case" not in page.get_by_role("dialog").inner_text()


@pytest.mark.parametrize("figure", ["fps_bars", "gamma_fusion"])
def test_hover_tells_interval_and_distribution(open_page: Opener, figure: str) -> None:
    page = open_page()
    mark = page.locator(f"#fig-{figure} [data-case='csppeleenet@224/torch-cpu/b1/t1']")
    mark.scroll_into_view_if_needed()
    mark.hover()
    tip = page.locator("#tip")
    assert "95 % interval" in tip.inner_text()
    assert tip.locator("svg.hist rect").count() > 5
    box = tip.bounding_box()
    size = page.viewport_size
    assert box is not None
    assert size is not None
    assert 0 <= box["x"] <= box["x"] + box["width"] <= size["width"]


def test_raw_data_can_be_saved(open_page: Opener) -> None:
    page = open_page(accept_downloads=True)
    with page.expect_download() as table:
        page.get_by_role("link", name="Case table, CSV").click()
    assert table.value.suggested_filename == "demo.csv"
    with page.expect_download() as everything:
        page.get_by_role("button", name="Everything, JSON").click()
    assert everything.value.suggested_filename == "demo.json"


def test_without_javascript_tables_and_figures_are_there(open_page: Opener) -> None:
    page = open_page(java_script_enabled=False)
    assert page.locator("#case-table tbody tr").count() == 9
    assert page.locator("#fig-fps_bars svg").is_visible()
    assert page.locator("#fig-layer_bflops svg").is_visible()
    assert page.get_by_text("the worker was ended by SIGSEGV").first.is_visible()
    assert not page.locator("#filters").is_visible(), "nothing that would not work"
    assert not page.get_by_role("button", name="Everything, JSON").is_visible()


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_widens_the_page(open_page: Opener, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="peleenet@224").first.click()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width


def test_the_case_table_of_a_usual_run_fits_a_usual_screen(
    open_page: Opener, tmp_path: Path
) -> None:
    """Sixteen measured cases, and as many that cannot run here, in 1440 pixels."""
    path = write_report([load(REFERENCE)], tmp_path / "edge.html")
    page = open_page(path, viewport={"width": 1440, "height": 900})
    table = page.locator(".table.cases")
    assert table.evaluate("one => one.scrollWidth <= one.clientWidth")
    page.get_by_label("that cannot run here").check()
    assert table.evaluate("one => one.scrollWidth <= one.clientWidth")
    assert "unavailable" in table.inner_text()
    assert "nan" not in table.inner_text().split()


def test_dark_pages_have_light_ink_in_figures(open_page: Opener) -> None:
    def ink(scheme: str) -> str:
        page = open_page(color_scheme=scheme)
        color: str = page.evaluate(
            "getComputedStyle(document.querySelector('#fig-fps_bars svg text')).fill"
        )
        return color

    assert ink("light") == "rgb(26, 33, 41)"
    assert ink("dark") == "rgb(228, 234, 240)"


def test_print_shows_every_case_without_controls(open_page: Opener) -> None:
    page = open_page()
    page.emulate_media(media="print")
    assert not page.locator("#filters").is_visible()
    assert not page.locator("nav.toc").is_visible()
    assert page.locator("#case-table tbody tr:visible").count() == 9


def test_hostile_text_is_inert(open_page: Opener, tmp_path: Path) -> None:
    evil = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"
    name = "\"<img src=x onerror=document.title='owned'></script>\""
    case = f"{name}@224/opencv-cpu/b1/t1"
    lost = f"{name}@320/opencv-cpu/b1/t1"
    run = write_run(
        tmp_path,
        {case: [time_launch(case, 0, [1.0, 1.2], stop=evil)],
         lost: [bad_launch(lost, "failed", evil, log=evil, number=n) for n in range(2)]},
        suite={"name": evil, "description": evil, "path": evil},
    )  # fmt: skip
    page = open_page(write_report([run], tmp_path / "evil.html"))
    for index in (0, 1):
        page.locator("button.open").nth(index).click()
        assert "<img src=x" in page.get_by_role("dialog").inner_text()
        page.keyboard.press("Escape")
    page.locator("#fig-fps_bars .mark").hover()
    assert page.locator("img").count() == 0
    assert "owned" not in page.title().split("onerror")[0]
    assert "&lt;img" in page.locator("#case-table tbody").inner_html()


def test_nothing_hidden_reaches_the_page(open_page: Opener, tmp_path: Path) -> None:
    """As the browser reads it, after the script has shown the details of a case."""
    evil = " ".join(ATTACKS) + " γ 3×3 漢字"
    case = "peleenet@224/opencv-cpu/b1/t1"
    run = write_run(
        tmp_path,
        {case: [time_launch(case, 0, [1.0, 1.2], stop=evil, log=f"{evil}\n{evil}")]},
        suite={"name": evil, "description": evil, "path": evil},
        environment={**ENVIRONMENT, "cpu": evil, "host": evil, "libraries": {evil: evil}},
    )
    page = open_page(write_report([run], tmp_path / "evil.html"))
    page.locator("button.open").first.click()
    assert page.get_by_role("dialog").is_visible()
    values = page.evaluate(
        """() => {
          const texts = [document.documentElement.textContent, document.title];
          for (const one of document.querySelectorAll("*"))
            for (const attribute of one.attributes) texts.push(attribute.value);
          JSON.stringify(JSON.parse(document.getElementById("report-data").textContent),
            (name, value) => { texts.push(name, String(value)); return value; });
          return texts;
        }"""
    )
    assert hidden("\n".join(values)) == []
    assert "漢字" in values[0]
    assert r"\u202egnp.exe" in values[0]
    assert page.locator("a[href^=http], img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("fragment", ["", "#case-0"])
def test_accessibility_check_finds_nothing(open_page: Opener, scheme: str, fragment: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    # The checker is a script of its own, which the page's policy rightly forbids.
    page = open_page(fragment=fragment, color_scheme=scheme, bypass_csp=True)
    found = axe.Axe().run(page)
    problems = [
        f"{violation['id']}: {[node['html'][:120] for node in violation['nodes'][:3]]}"
        for violation in found.response["violations"]
    ]
    assert problems == []
