"""The site in a real browser: from files, offline, with and without its script."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from cspbench.measure.statistics import Interval
from cspbench.site import write_site
from cspbench.site.archive import sources
from cspbench.site.changes import change, decide
from cspbench.site.summary import summarise
from tests.inertness import ATTACKS, hidden
from tests.report.runs import ENVIRONMENT, bad_launch, profile_launch, time_launch, write_run
from tests.site.archives import LEVELS, PLAIN, SPLIT, add_run, write_archive

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

REFERENCE = Path(__file__).parents[2] / "results/reference"
Opener = Callable[..., "Page"]
PAGES = ("index.html", "cases.html", "runs.html", "compare.html", "case/*", "run/*", "machine/*")
#: Every text that can be seen, with its size on the screen; a drawing may shrink its own.
SIZES = """() => {
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const sizes = [];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("script, style, noscript, .skip")) continue;
    const svg = element.closest("svg");
    const scale = svg ? svg.getScreenCTM().a : 1;
    const size = parseFloat(getComputedStyle(element).fontSize);
    sizes.push([scale * size, texts.currentNode.data.trim()]);
  }
  return sizes;
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results and site of an archive in which one case is slower from the sixth run on."""
    folder = tmp_path_factory.mktemp("archive")
    write_archive(folder / "results")
    write_site(folder / "results", folder / "site")
    return folder


@pytest.fixture
def open_page(browser: Browser, folder: Path) -> Iterator[Opener]:
    """Open a page offline; at the end there must have been no complaint, no request elsewhere."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opener(
        page_name: str, fragment: str = "", site: Path = folder / "site", **options: Any
    ) -> Page:
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(site.as_uri()) else complaints.append(request.url)
            ),
        )
        [file] = sorted(site.glob(page_name))[-1:]
        page.goto(file.as_uri() + fragment)
        return page

    yield opener
    for context in contexts:
        context.close()
    assert complaints == []


def key(site: Path, start: str) -> str:
    """Key of the run whose name starts so."""
    [page] = (site / "run").glob(f"{start}*.html")
    return page.stem


def pair(folder: Path, base: str = "20260101", head: str = "20260109", more: str = "") -> str:
    """The fragment that compares two runs."""
    site = folder / "site"
    return f"#base={key(site, base)}&head={key(site, head)}{more}"


# comparing two runs


def test_any_two_runs_are_compared_as_the_library_compares_them(
    open_page: Opener, folder: Path
) -> None:
    page = open_page("compare.html", pair(folder))
    page.locator("#case-table").wait_for()
    known = {one.key: summarise(one)[0] for one in sources(folder / "results")}
    base, head = (known[key(folder / "site", day)] for day in ("20260101", "20260109"))
    for before, after in zip(base.cases, head.cases, strict=True):
        ratio = change(before.latency_ms, after.latency_ms)
        if ratio is None or ratio.low is None or ratio.high is None:
            continue
        row = page.locator("#case-table > tbody > tr", has_text=before.case).first.inner_text()
        shown = [f"{(one - 1) * 100:+.1f} %" for one in (ratio.estimate, ratio.low, ratio.high)]
        assert all(text.replace("-", "−") in row for text in shown), row
        assert decide(ratio) in row
    counts = page.locator(".counts button").all_inner_texts()
    assert [" ".join(text.split()) for text in counts] == [
        "1 ▲ worse", "0 ▼ better", "0 ~ undecided", "1 = the same",
        "1 ∅ not measured on both sides",
    ]  # fmt: skip
    assert page.locator("#case-table > tbody > tr > th").first.inner_text().strip() == PLAIN


def test_the_browser_decides_as_the_library(open_page: Opener, folder: Path) -> None:
    """Its decisions cannot be called from outside, so pairs of runs show each of them."""
    results, site = folder / "results", folder / "many"
    spreads = {"a": 1.0, "b": 1.02, "c": 1.06, "d": 1.2, "e": 0.8}
    for number, ratio in enumerate(spreads.values()):
        for half in (0.001, 0.02):
            case_of = {PLAIN: 10.0 * ratio}
            add_run(folder / "pairs", number + 1, case_of, suite=f"h{half}", half=half)
    write_site(folder / "pairs", site)
    known = {one.key: summarise(one)[0].cases[0] for one in sources(folder / "pairs")}
    page = open_page("compare.html", site=site)
    first = key(site, "20260101-h0.001")
    decisions = set()
    for name, case in known.items():
        page.goto(f"{(site / 'compare.html').as_uri()}#base={first}&head={name}")
        page.locator(f"a[href$='{name}.html']").first.wait_for()
        ratio = change(known[first].latency_ms, case.latency_ms)
        assert isinstance(ratio, Interval)
        decision = decide(ratio)
        decisions.add(decision)
        assert page.locator(f"#case-table .change.{decision}").count() == 1, name
    assert decisions == {"worse", "better", "same", "undecided"}
    assert results.exists()


def test_conditions_that_differ_stand_above_the_cases(open_page: Opener, folder: Path) -> None:
    page = open_page("compare.html", pair(folder))
    table = page.get_by_role("region", name="Conditions that differ")
    assert table.locator("tbody tr").all_inner_texts() == ["libraries.torch\t2.9.0\t2.10.0"]
    assert table.bounding_box()["y"] < page.locator("#case-table").bounding_box()["y"]  # type: ignore[index]
    page = open_page("compare.html", pair(folder, "20260101", "20260102"))
    page.get_by_text("No difference of machine, libraries, load, clocks or suite").wait_for()


def test_load_and_clocks_that_differ_are_conditions(open_page: Opener, tmp_path: Path) -> None:
    for number, (load, clock) in enumerate([(0.5, 2400.0), (3.5, 1800.0)], start=1):
        interference = {"seconds": 0.5, "foreign_cpu_s": 0.0, "steal_s": 0.0,
                        "load_1m_before": load, "load_1m_after": load}  # fmt: skip
        sensors = {"cpufreq": {"gauges": {"cpu_frequency_mhz": {"mean": clock}}}}
        add_run(tmp_path / "results", number, {PLAIN: 10.0},
                changes={"interference": interference, "sensors": sensors})  # fmt: skip
    write_site(tmp_path / "results", tmp_path / "site")
    page = open_page("compare.html", pair(tmp_path, "20260101", "20260102"), tmp_path / "site")
    rows = page.get_by_role("region", name="Conditions that differ").locator("tbody tr")
    assert rows.all_inner_texts() == [
        "Load average before launches\t0.5\t3.5",
        "mean clock of the processor, MHz\t2400\t1800",
    ]
    runs = page.get_by_role("region", name="The two runs")
    assert "Load average before launches\t0.5\t3.5" in runs.locator("tbody tr").all_inner_texts()


def test_another_build_of_one_version_is_a_condition(open_page: Opener, tmp_path: Path) -> None:
    """Digests of two versions, or of one side alone, say nothing that the version does not."""
    known = [("2.0", "1.26", {"torch": "aa", "numpy": "cc", "onnx": "ee"}),
             ("2.0", "2.0", {"torch": "bb", "numpy": "dd"})]  # fmt: skip
    for number, (torch, numpy, digests) in enumerate(known, start=1):
        environment = {"libraries": {"torch": torch, "numpy": numpy}, "library_digests": digests}
        add_run(tmp_path / "results", number, {PLAIN: 10.0}, environment=environment)
    write_site(tmp_path / "results", tmp_path / "site")
    page = open_page("compare.html", pair(tmp_path, "20260101", "20260102"), tmp_path / "site")
    rows = page.get_by_role("region", name="Conditions that differ").locator("tbody tr")
    assert rows.all_inner_texts() == ["libraries.numpy\t1.26\t2.0", "library_digests.torch\taa\tbb"]


def test_a_row_expands_by_keyboard_to_layers_history_and_command(
    open_page: Opener, folder: Path
) -> None:
    page = open_page("compare.html", pair(folder))
    button = page.get_by_role("button", name=PLAIN, exact=True)
    button.focus()
    page.keyboard.press("Enter")
    detail = page.locator("tr.detail")
    detail.locator("svg").first.wait_for()  # layers and history are files of their own
    assert detail.get_by_role("region", name="Layers").locator("tbody tr").count() == 4
    assert detail.locator("svg").first.get_attribute("aria-label").startswith(f"{len(LEVELS)} runs")  # type: ignore[union-attr]
    assert f"cspbench run suites/demo.yaml --only {PLAIN}" in detail.inner_text()
    assert button.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Enter")
    assert detail.count() == 0


def test_a_comparison_can_be_linked_to_with_its_filters_and_open_row(
    open_page: Opener, folder: Path
) -> None:
    page = open_page("compare.html", pair(folder, more=f"&show=worse&case={quote(PLAIN, safe='')}"))
    page.locator("tr.detail pre").first.wait_for()
    assert page.locator("#case-table > tbody > tr:not([hidden]):not(.detail)").count() == 1
    page.get_by_role("button", name="the same").click()
    assert "show=same" in page.evaluate("location.hash")
    assert page.locator("#case-table > tbody > tr:not([hidden]) th").inner_text().strip() == SPLIT
    page.get_by_role("button", name="the same").click()
    page.get_by_label("Find a case").fill("csppeleenet")
    assert page.get_by_text("1 of 3").is_visible()
    assert "text=csppeleenet" in page.evaluate("location.hash")


def test_a_link_may_name_runs_as_their_directories_are_named(open_page: Opener) -> None:
    page = open_page("compare.html", "#base=20260101-nightly&head=20260109-nightly")
    page.locator(".change.worse").wait_for()


def test_runs_are_chosen_swapped_and_sorted(open_page: Opener, folder: Path) -> None:
    page = open_page("compare.html")
    site = folder / "site"
    page.locator("#base").select_option(key(site, "20260101"))
    page.locator("#head").select_option(key(site, "20260109"))
    page.locator(".change.worse").wait_for()
    page.get_by_role("button", name="Swap").click()
    page.locator(".change.better").wait_for()
    assert page.evaluate("location.hash").startswith(f"#base={key(site, '20260109')}")
    page.get_by_role("button", name="Base, ms").click()
    names = page.locator("#case-table > tbody > tr > th").all_inner_texts()
    assert [name.strip() for name in names[:2]] == [SPLIT, PLAIN], "fastest first, unmeasured last"


def test_links_lead_from_a_new_level_to_its_comparison(open_page: Opener) -> None:
    pytest.importorskip("ruptures")
    page = open_page("index.html")
    page.get_by_role("link", name="Compare both runs").first.click()
    page.locator(".change.worse").wait_for()
    assert page.get_by_role("region", name="Conditions that differ").is_visible()


def test_a_link_to_a_run_that_is_not_there_shows_the_choice(open_page: Opener) -> None:
    page = open_page("compare.html", "#base=../../../etc/passwd&head=%3Cimg%20src=x%3E")
    page.get_by_role("link", name="20260108-nightly and 20260109-nightly").wait_for()
    assert page.locator("#base").input_value() == ""
    assert page.locator("#case-table").count() == 0


# every page


def test_tables_sort_and_find(open_page: Opener) -> None:
    page = open_page("runs.html")
    page.locator("thead button").first.click()
    names = page.locator("tbody th").all_inner_texts()
    assert names == sorted(names)
    page.get_by_label("Find in this page").fill("attic")
    assert page.locator("tbody tr:not([hidden]) th").all_inner_texts() == ["20260120-other"]
    assert page.get_by_text("1 of 10").is_visible()


@pytest.mark.parametrize("name", PAGES)
def test_without_javascript_everything_but_the_choice_is_there(
    open_page: Opener, name: str
) -> None:
    page = open_page(name, java_script_enabled=False)
    if name == "compare.html":
        assert page.get_by_role("link", name="20260101-nightly and 20260102-nightly").is_visible()
        assert "cspbench compare BASE HEAD" in page.locator("noscript").inner_text()
    else:
        assert page.locator("tbody tr").first.is_visible()
    assert page.locator(".filters:visible").count() == 0, "nothing that would not work"


@pytest.mark.parametrize("width", [390, 1000, 1440])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_widens_a_page_and_no_text_is_small(
    open_page: Opener, folder: Path, name: str, width: int
) -> None:
    fragment = pair(folder, more=f"&case={quote(PLAIN, safe='')}") if name == "compare.html" else ""
    page = open_page(name, fragment, viewport={"width": width, "height": 900})
    if fragment:
        page.locator("tr.detail pre").first.wait_for()
        box = page.locator("tr.detail > td > div").bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width, "what a row expands to fits the screen"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    small = [text for size, text in page.evaluate(SIZES) if size < 11]
    assert small == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_accessibility_check_finds_nothing(
    open_page: Opener, folder: Path, name: str, scheme: str
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    fragment = pair(folder, more=f"&case={quote(PLAIN, safe='')}") if name == "compare.html" else ""
    # The checker is a script of its own, which the page's policy rightly forbids.
    page = open_page(name, fragment, color_scheme=scheme, bypass_csp=True)
    if fragment:
        page.locator("tr.detail pre").first.wait_for()
    problems = [
        f"{violation['id']}: {[node['html'][:120] for node in violation['nodes'][:3]]}"
        for violation in axe.Axe().run(page).response["violations"]
    ]
    assert problems == []


def test_the_policy_stops_a_script_that_is_not_the_sites(open_page: Opener, folder: Path) -> None:
    page = open_page("index.html")
    [policy] = page.locator("meta[http-equiv=Content-Security-Policy]").all()
    content = str(policy.get_attribute("content"))
    assert content.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in content
    assert page.evaluate("typeof cspbenchSite") == "object"


def test_the_stored_runs_of_the_repository_make_a_site(open_page: Opener, tmp_path: Path) -> None:
    site = tmp_path / "site"
    assert write_site(REFERENCE, site).unread == []
    base, head = key(site, "edge"), key(site, "paper-20261127-082832")
    page = open_page("compare.html", f"#base={base}&head={head}", site=site)
    page.locator("#case-table").wait_for()
    assert page.locator(".change").count() >= 6


# what others wrote


def hostile_archive(folder: Path) -> Path:
    """Two runs whose every text would do harm, or hide."""
    evil = "</script><img src=x onerror=\"document.title='owned'\">" + " ".join(ATTACKS)
    name = "\"<img src=x onerror=document.title='owned'></script>\""
    case, lost = f"{name}@224/opencv-cpu/b1/t1", f"{name}@320/opencv-cpu/b1/t1"
    for number in (1, 2):
        write_run(
            folder / "evil",
            {case: [*(time_launch(case, at, [1.0 * number, 1.2], stop=evil, log=evil)
                      for at in range(3)),
                    {**profile_launch(case), "layers": {
                        "entries": [[evil, evil, 5, [evil]]], "nodes": [], "total_ns": 9}}],
             lost: [bad_launch(lost, "failed", evil, log=evil, number=at) for at in range(2)]},
            name=f"<img src=x>{number}",
            suite={"name": evil, "description": evil, "path": evil},
            environment={**ENVIRONMENT, "cpu": evil, "libraries": {evil: f"{evil}{number}"}},
        )  # fmt: skip
    return folder / "evil"


@pytest.mark.parametrize("name", PAGES)
def test_hostile_text_is_inert(open_page: Opener, tmp_path: Path, name: str) -> None:
    site = tmp_path / "site"
    write_site(hostile_archive(tmp_path), site)
    keys = sorted(page.stem for page in (site / "run").iterdir())
    page = open_page(name, f"#base={keys[0]}&head={keys[1]}", site=site)
    if name == "compare.html":
        page.locator("button.expand").first.click()
        page.locator("tr.detail pre").first.wait_for()
        assert "<img src=x" in page.locator("tr.detail").inner_text()
    assert page.locator("img").count() == 0
    assert page.title().split(" · ")[0] != "owned"
    texts = page.evaluate(
        """() => {
          const texts = [document.documentElement.textContent, document.title];
          for (const one of document.querySelectorAll("*"))
            for (const attribute of one.attributes) texts.push(attribute.value);
          return texts;
        }"""
    )
    assert hidden("\n".join(texts)) == []


# a campaign that runs


def test_an_open_page_offers_news_and_does_not_reload_by_itself(
    open_page: Opener, tmp_path: Path
) -> None:
    results, site = tmp_path / "results", tmp_path / "site"
    add_run(results, 1, {PLAIN: 10.0})
    write_site(results, site, watch_seconds=0.2)
    page = open_page("index.html", site=site)
    page.wait_for_function("document.querySelectorAll('script').length === 1")
    assert not page.locator("#news").is_visible()
    page.wait_for_timeout(300)
    add_run(results, 2, {PLAIN: 10.0})
    write_site(results, site, watch_seconds=0.2)
    page.get_by_role("button", name="Show them").wait_for()
    assert "1 run of 1 case" in page.locator("h1").inner_text()
    page.get_by_role("button", name="Show them").click()
    page.get_by_role("heading", name="2 runs of 1 case").wait_for()
