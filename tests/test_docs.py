"""Pages that list things list all of them, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from cspbench.backends.spec import BACKENDS
from cspbench.cli.main import COMMANDS
from cspbench.core.statuses import FLAGS, NOT_RUNNABLE, ExitCode, Status
from cspbench.jobs.spec import JOBS, Policy
from cspbench.suite.rules import rules
from cspbench.suite.schema import LatencyRule, MeasureSection, SuiteFile

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(page, title):
    """Text of one ``## `` section."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    [found] = re.findall(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    return found


def first_cells(text):
    """What stands in backticks in the first cell of each row of a table."""
    return re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)


@pytest.mark.parametrize(("title", "model"), [("Keys", SuiteFile), ("`measure`", MeasureSection)])
def test_the_suite_format_lists_every_key_and_no_other(title, model):
    assert first_cells(section("suite-format.md", title)) == list(model.model_fields)


@pytest.mark.parametrize(("title", "model"), [("Keys", SuiteFile), ("`measure`", MeasureSection)])
def test_defaults_of_numbers_are_those_of_the_schema(title, model):
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", section("suite-format.md", title), re.M)
    for name, told in rows:
        default = model.model_fields[name].default
        if isinstance(default, (bool, int)) and not isinstance(default, float):
            assert told == str(default).lower(), name


def test_the_suite_format_names_every_metric_of_the_gate():
    text = section("suite-format.md", "`gate`")
    for name in ("latency", *rules(), *LatencyRule.model_fields):
        assert f"`{name}`" in text, name


def test_troubleshooting_knows_every_flag_and_every_bad_end():
    assert set(first_cells(section("troubleshooting.md", "Flags"))) == set(FLAGS)
    ends = section("troubleshooting.md", "Cases without numbers")
    told = {Status.OK, Status.LOST, Status.INTERRUPTED}  # the last two are of runs, not of cases
    for status in set(Status) - told:
        assert f"`{status.value}`" in ends, status
    assert {status.value for status in NOT_RUNNABLE} <= set(
        re.findall(r"^### `(\w+)`$", ends, re.M)
    )


def test_the_ci_page_lists_every_exit_code_and_no_other():
    codes = re.findall(r"^\| (\d+) \|", section("ci.md", "Exit codes"), re.MULTILINE)
    assert list(map(int, codes)) == sorted(ExitCode)


def test_what_is_timed_is_told_of_every_backend():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    [timed] = re.findall(r"^### What is timed\n(.*?)(?=^### )", text, re.DOTALL | re.MULTILINE)
    cells = re.findall(r"^\| (`[^|]+) \|", timed, re.MULTILINE)
    told = re.findall(r"`([^`]+)`", " ".join(cells))
    assert sorted(told) == sorted(BACKENDS.names())


def test_every_kind_of_a_stored_launch_is_told():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    [row] = re.findall(r"^\| `job` \|.*$", text, re.MULTILINE)
    stored = {kind.name for kind in JOBS if kind.policy is not Policy.ON_DEMAND}
    assert set(re.findall(r"`(\w+)`", row)) == {"job", "prepare", "check", *stored}


def anchors(page):
    """Anchors that GitHub makes of a page's headings, and those that the page sets."""
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"],
    ids=lambda page: page.name,
)
def test_links_inside_the_repository_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith(("http", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.name}: {target}"


def test_the_readme_leads_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text]
    assert missing == []


def test_the_readme_lists_every_command_and_no_other():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `cspbench ([a-z-]+)", text, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)
