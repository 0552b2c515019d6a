"""What stands in the page, read without a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cspbench.errors import InputError
from cspbench.report import write_report
from cspbench.report.data import HISTOGRAM_BINS, TRACE_POINTS, histogram, to_script, trace
from cspbench.report.definitions import DEFINITIONS
from cspbench.report.page import render
from cspbench.views.frames import Run
from tests.report.runs import ENVIRONMENT, apart, bad_launch, good, time_launch, write_run

VOID = {"meta", "br", "wbr", "input", "link", "img", "hr"}


class Reader(HTMLParser):
    """Checks nesting, collects ids, links, attributes and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.attributes |= set(found)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if tag == "a" and "href" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)


@pytest.fixture(scope="module")
def page(demo: Run) -> str:
    return render([demo])


@pytest.fixture(scope="module")
def read(page: str) -> Reader:
    return Reader(page)


def embedded(page: str) -> dict[str, Any]:
    text = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert text is not None
    data: dict[str, Any] = json.loads(text[1])
    return data


def test_markup_nests_and_ids_are_unique(read: Reader) -> None:
    assert len(read.ids) == len(set(read.ids))


def test_links_inside_the_page_lead_somewhere(read: Reader) -> None:
    inside = {link[1:] for link in read.links if link.startswith("#")}
    assert inside <= set(read.ids)
    assert {f"def-{name}" for name in ("latency_ms", "bflops", "fps")} <= inside


def test_nothing_is_loaded_from_anywhere(page: str, read: Reader) -> None:
    assert not {"img", "link", "iframe", "object", "embed"} & set(read.tags)
    assert not {"src", "style", "onclick", "onload", "srcset"} & read.attributes
    outside = [link for link in read.links if not link.startswith(("#", "data:text/csv"))]
    assert outside == []
    css = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert css is not None
    assert "url(" not in css[1]
    assert "@import" not in css[1]


def test_policy_allows_this_script_and_style_only(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy
    assert style
    assert script

    def digest(text: str) -> str:
        return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    rules = dict(rule.strip().split(" ", 1) for rule in html.unescape(policy[1]).split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest(script[1])}'"
    assert rules["style-src"] == f"'sha256-{digest(style[1])}'"


def test_sections_stand_in_the_order_of_reading(read: Reader) -> None:
    # No sensor of power was read in this run, so it has no section on energy.
    order = ["summary", "cases", "machine", "accuracy", "ablation", "layers", "roofline", "phases",
             "memory", "failures", "method", "data"]  # fmt: skip
    assert [name for name in read.ids if name in order] == order


def test_every_definition_is_in_the_method_notes(read: Reader) -> None:
    assert {f"def-{name}" for name in DEFINITIONS} <= set(read.ids)


def test_every_case_has_a_row_and_the_numbers_of_the_frame(demo: Run, page: str) -> None:
    data = embedded(page)
    assert [case["id"] for case in data["cases"]] == demo.cases["id"].tolist()
    frame = demo.cases.set_index("id")
    for case in data["cases"]:
        expected = frame.loc[case["id"], "latency_ms"]
        if case["latency_ms"] is None:
            assert math.isnan(expected)
        else:
            assert case["latency_ms"] == pytest.approx(expected, rel=1e-5)
    assert page.count("<tr data-index=") == len(demo.cases)


def test_missing_numbers_are_dashes_never_zero(demo: Run, page: str) -> None:
    row = re.search(r'<tr data-index="7".*?</tr>', page, re.DOTALL)
    assert row is not None
    assert "unavailable" in row[0]
    cells = re.findall(r'<td class="num[^"]*">([^<]*)</td>', row[0])
    assert set(cells[:3]) == {"–"}


def test_failures_have_reason_remedy_and_log(read: Reader) -> None:
    text = " ".join("".join(read.text).split())
    assert "the worker was ended by SIGSEGV" in text
    assert "read the log; try another engine" in text
    assert "boom" in text
    assert "no NVIDIA driver is loaded" in text
    assert "this is not a failure" in text


def test_flags_say_what_spoils_comparison(read: Reader) -> None:
    text = "".join(read.text)
    assert "1 of 7 measured cases are flagged contended" in text
    assert "stop the other load" in text


def test_same_run_same_page(demo: Run, page: str) -> None:
    assert render([demo]) == page


def test_raw_data_is_a_csv_without_a_script(demo: Run, read: Reader) -> None:
    [address] = [link for link in read.links if link.startswith("data:")]
    table = base64.b64decode(address.partition("base64,")[2]).decode()
    assert table.splitlines()[0].startswith("id,model,neck")
    assert len(table.splitlines()) == 1 + len(demo.cases)


def test_commands_repeat_the_case(page: str) -> None:
    commands = {case["id"]: case["command"] for case in embedded(page)["cases"]}
    case = "csppeleenet[gamma=0.25]@224/opencv-cpu/b1/t1"
    assert commands[case] == f"cspbench run suites/demo.yaml --only '{case}'"


EVIL = (
    "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    "&\"'$x^2$\x00\u202e"
)


def test_hostile_text_in_every_field_stays_text(tmp_path: Path) -> None:
    name = '"</script><script>alert(1)</script>$^$"'
    case = f"{name}@224/opencv-cpu/b1/t1"
    failed = f"{name}@320/opencv-cpu/b1/t1"
    environment = {key: EVIL for key, value in ENVIRONMENT.items() if isinstance(value, str)}
    environment |= {"libraries": {EVIL: EVIL}, "cpu_flags": [EVIL], "governor": EVIL}
    launch = time_launch(
        case, 0, [1.0, 1.1, 1.2], stop=EVIL, reason=EVIL, backend={EVIL: EVIL}, log=EVIL
    )
    run = write_run(
        tmp_path,
        {case: [launch],
         failed: [bad_launch(failed, "failed", EVIL, log=EVIL, number=n) for n in range(2)],
         "peleenet@224/jetson/b1/t1": ("unavailable", EVIL)},
        environment=environment,
        suite={"name": EVIL, "description": EVIL, "path": EVIL},
    )  # fmt: skip
    page = render([run], EVIL)
    reader = Reader(page)
    assert reader.tags.count("script") == 2, "our data and our script"
    assert "img" not in reader.tags
    assert "onerror" not in reader.attributes
    assert "\x00" not in page
    assert "\u202e" not in page
    assert embedded(page)["cases"][1]["reason"].startswith("</script><script>document.title")
    assert "</script><script>document.title='owned'" in "".join(reader.text)


def test_half_characters_do_not_stop_the_file(tmp_path: Path) -> None:
    case = "peleenet@224/opencv-cpu/b1/t1"
    run = write_run(tmp_path, {case: [bad_launch(case, "failed", "bad", log="a \ud800 half")]})
    path = write_report([run], tmp_path / "deep" / "r.html")
    assert "half" in path.read_text(encoding="utf-8")


def test_a_run_without_any_measurement(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"peleenet@224/jetson/b1/t1": ("unavailable", "no board")})
    text = "".join(Reader(render([run])).text)
    assert "Nothing measured" in text
    assert "Left out, because these runs hold nothing for it: Speed against accuracy, " in text
    assert "the figure “Measured speed by backend”: no case was measured" in text
    assert "Energy: No sensor of power was read in these runs" in text


def test_a_card_has_its_own_times_and_the_parts_from_host_to_host(tmp_path: Path) -> None:
    plain, ends = (f"peleenet@224/torch-cuda{end}/b1/t1" for end in ("", "[scope=end_to_end]"))
    times = {"device_ns": [800_000], "span_ns": [2_000_000], "enqueue_ns": [1_900_000],
             "medians": {"device_ns": 800_000, "span_ns": 2_000_000}}  # fmt: skip
    parts = {"input_ns": 300_000, "enqueue_ns": 1_900_000, "span_ns": 2_000_000,
             "output_ns": 100_000}  # fmt: skip
    of_plain, of_ends = times, {**times, "parts": parts}
    run = write_run(
        tmp_path / "run",
        {plain: [*good(plain, 2.1), apart(plain, "device", **of_plain)],
         ends: [*good(ends, 2.6), apart(ends, "device", **of_ends)]},
    )  # fmt: skip
    text = "".join(Reader(render([run])).text)
    assert "H2D 0.300, enqueue 1.90, compute 2.00, D2H 0.100" in text
    assert "launching 60%" in text  # 1 - 0.8 / 2
    alone = write_run(
        tmp_path / "alone", {plain: [*good(plain, 2.1), apart(plain, "device", **of_plain)]}
    )
    assert "From host to host" not in "".join(Reader(render([alone])).text)


def test_interrupted_cases_are_unfinished_not_failed(tmp_path: Path) -> None:
    case = "peleenet@224/opencv-cpu/b1/t1"
    run = write_run(tmp_path, {case: good(case, 5.0, launches=1)}, rounds=3)
    reader = Reader(render([run]))
    text = " ".join("".join(reader.text).split())
    assert "the run ended after 1 of 3 launches" in text
    assert "cspbench run --resume" in text


def test_several_runs_share_a_page_and_say_how_they_differ(tmp_path: Path) -> None:
    case = "peleenet@224/opencv-cpu/b1/t1"
    one = write_run(tmp_path, {case: good(case, 5.0)}, name="one")
    two = write_run(tmp_path, {case: good(case, 6.0)}, name="two", environment={"cpu": "Other"})
    page = render([one, two])
    assert page.count("<tr data-index=") == 2
    assert "two and one differ in cpu: their latencies are not comparable." in page


@pytest.mark.parametrize("fact", ["gpu", "gpu_uuid", "nvidia_driver", "board", "nvpmodel"])
def test_runs_on_other_devices_and_modes_are_not_comparable(tmp_path: Path, fact: str) -> None:
    """What the gate refuses between stored runs, a report warns of."""
    case = "peleenet@224/opencv-cpu/b1/t1"
    one, two = (
        write_run(tmp_path, {case: good(case, 5.0)}, name=name, environment={fact: name})
        for name in ("one", "two")
    )
    assert f"two and one differ in {fact}: their latencies are not comparable." in render(
        [one, two]
    )


def test_no_runs_and_unwritable_files_are_input_errors(tmp_path: Path, demo: Run) -> None:
    with pytest.raises(InputError, match="at least one run"):
        write_report([], tmp_path / "r.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        write_report([demo], tmp_path / "file" / "r.html")


def test_script_json_holds_no_markup_and_nothing_hidden() -> None:
    text = to_script({"a": "</script><!--&\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": r"</script><!--&\u2028"}


def test_trace_is_thinned_to_medians_of_stretches() -> None:
    # 4 x TRACE_POINTS samples: stretches of four; the first holds 1, 2, 3, 4 ms, median 2.5 ms.
    samples = [round((i + 1) * 1e6) for i in range(4 * TRACE_POINTS)]
    points = trace(samples)
    assert len(points) == TRACE_POINTS
    assert points[0] == 2.5
    assert trace([3_000_000]) == [3.0]


def test_histogram_counts_all_but_the_slowest_hundredth() -> None:
    found = histogram([1.0] * 98 + [2.0] + [50.0])
    assert (found["low"], found["high"]) == (1.0, 2.0)
    assert sum(found["counts"]) == 99
    assert (found["counts"][0], found["counts"][-1]) == (98, 1)
    assert len(found["counts"]) == HISTOGRAM_BINS
    assert histogram([5.0])["counts"][0] == 1


def test_size_of_a_hundred_cases(tmp_path: Path) -> None:
    cases = {
        f"m{i}@224/opencv-cpu/b1/t1": good(f"m{i}@224/opencv-cpu/b1/t1", 5 + i, 5, 200)
        for i in range(100)
    }
    path = write_report([write_run(tmp_path, cases)], tmp_path / "r.html")
    assert path.stat().st_size < 5e6
