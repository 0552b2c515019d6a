import html
import re
from dataclasses import asdict, replace
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.statuses import ExitCode
from cspbench.core.text import slug
from cspbench.errors import InputError
from cspbench.gating.render.annotations import annotations_of
from cspbench.gating.render.forest import forest_plot
from cspbench.gating.render.junit import junit_of
from cspbench.gating.render.markdown import MARKER, MAX_BYTES, markdown_of
from cspbench.gating.render.page import check_site, page_of
from cspbench.gating.report import GateReport, Skipped
from cspbench.gating.static import StaticChange
from cspbench.gating.verdict import CaseVerdict, Verdict
from cspbench.gating.why import LayerShift
from tests.inertness import ATTACKS, alive, hidden

HOSTILE = "a|b`<script>alert(1)</script>\x1b[31m@everyone #1 %0A::error::x]]>&amp;"


def verdict(case="a@64/x/b1/t1", kind=Verdict.SAME, ratio=1.01, reason="within_tolerance"):
    bounds = (None, None) if ratio is None else (ratio * 0.99, ratio * 1.01)
    return CaseVerdict(case, kind, reason, f"about {case}", ratio, *bounds, 4.0, 4.04, 8, 31.5)


def report(*verdicts, **fields):
    return GateReport("edge", "main", "set:", 0.03, 0.05, verdicts=list(verdicts), **fields)


@pytest.fixture
def mixed():
    return report(
        verdict("same"),
        verdict("slow", Verdict.SLOWER, 1.08, "confirmed"),
        verdict("dead", Verdict.UNMEASURED, None, "arm_ended"),
        verdict("open", Verdict.INCONCLUSIVE, 1.02, "last_look"),
        static=[StaticChange("net", "macs", 100, 110, 0.1, 0.0, True, ("added conv",))],
        skipped=[Skipped("gpu", "unavailable", "no NVIDIA driver is loaded")],
        facts={"base": {"libraries": {"cv2": "4"}}, "head": {"libraries": {"cv2": "5"}}},
        notes=["a note"],
        environment={"cpu": "some CPU"},
    )


# Markdown


def test_markdown_shows_the_worst_first_and_folds_the_rest(mixed):
    text = markdown_of(mixed)
    assert text.index("`slow`") < text.index("`dead`") < text.index("`open`")
    assert text.index("<details><summary>1 more cases") < text.index("`same`")
    assert "| ▲ slower | `slow` | +8.0 % | +6.9 to +9.1 % | 4 | 4.04 |" in text
    assert "libraries.cv2" in text


def test_markdown_stays_below_its_limit_and_counts_the_missing_cases():
    many = report(*(verdict(f"case-{i:05d}" + "x" * 60, Verdict.SLOWER, 1.1) for i in range(3000)))
    text = markdown_of(many)
    assert len(text.encode()) <= MAX_BYTES
    shown = len(set(re.findall(r"case-\d{5}", text)))
    assert f"{3000 - shown} more cases do not fit here" in text
    assert shown > 300


def test_a_comment_on_500_cases_is_below_60_kb_and_shows_what_is_bad():
    """As long as they get: ids with options, sentences with intervals, 40 findings."""
    name = '"darknet:models/backbone-{:03d}.cfg"@416/opencv-cpu[engine=classic]/b1/t1'
    kinds = [(Verdict.SLOWER, 1.08)] * 20 + [(Verdict.INCONCLUSIVE, 1.03)] * 20
    kinds += [(Verdict.SAME, 1.002)] * 460
    text = markdown_of(report(*(verdict(name.format(i), *k) for i, k in enumerate(kinds))))
    assert len(text.encode()) < 60_000
    for i in range(40):
        assert name.format(i) in text
    shown = len(set(re.findall(r"backbone-\d{3}", text)))
    assert shown == 500 or f"{500 - shown} more cases do not fit here" in text
    assert "20 slower, 20 inconclusive, 460 same" in text


def test_notes_that_do_not_fit_into_the_comment_are_counted(mixed):
    mixed.notes[:] = [f"note {number}" for number in range(23)]
    text = markdown_of(mixed)
    assert "- note 19\n" in text
    assert "note 20" not in text
    assert "- and 3 more notes" in text


def test_markdown_is_inert(mixed):
    mixed.verdicts.append(verdict(HOSTILE, Verdict.SLOWER, 1.5, "confirmed"))
    mixed.notes.append(HOSTILE)
    text = markdown_of(mixed)
    assert "\x1b" not in text
    inside = re.sub(r"<details><summary>[\w ]+</summary>|</details>", "", text.replace(MARKER, ""))
    assert alive(inside) == []
    rows = [line for line in text.splitlines() if line.startswith("| ▲ slower")]
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {8}


@given(st.lists(st.text(max_size=20), min_size=6, max_size=6))
def test_no_text_is_alive_in_any_output_of_a_gate(texts):
    made = hostile(*texts)
    assert_inert(made)


@pytest.mark.parametrize("text", ATTACKS)
def test_no_attack_is_alive_in_any_output_of_a_gate(text):
    assert_inert(hostile(*[text] * 6))


def hostile(case, sentence, note, reason, fact, model):
    """A gate with a stranger's text wherever one may stand."""
    bad = verdict(case, Verdict.SLOWER, 1.5, "confirmed")
    layer = asdict(LayerShift(note, reason, 1.0, 2.0, 0.5, 1.5))
    return report(
        replace(bad, sentence=sentence, layers=(layer,)), verdict(case),
        static=[StaticChange(model, "macs", 100, 110, 0.1, 0.0, True, (sentence,))],
        skipped=[Skipped(case, "unavailable", reason)], notes=[note],
        facts={"base": {fact: note}, "head": {fact: reason}}, environment={"cpu": fact},
    )  # fmt: skip


def assert_inert(made):
    text = markdown_of(made).replace(MARKER, "")
    for fold in re.findall(r"<details><summary>[\w ]+</summary>|</details>", text):
        text = text.replace(fold, "")
    assert (alive(text), hidden(text)) == ([], [])
    assert not hidden(page_of(made))
    assert not hidden(junit_of(made))
    ET.fromstring(junit_of(made))
    lines = annotations_of(made, "suite.yaml")
    assert [len(re.split(r"[\r\n]", line)) for line in lines] == [1] * len(lines)
    assert not any(hidden(line) for line in lines)
    begins = re.compile(r"::(error|notice)( [a-z]+=[^:,]*)?(,title=[^:,]*)?::")
    assert all(begins.match(line) for line in lines)


@pytest.mark.parametrize("most", range(200, 2500, 37))
def test_a_comment_that_is_cut_off_is_inert_too(most):
    """Half of a code span would be alive: whole lines are left out."""
    text = markdown_of(hostile(*["`@everyone https://x.test` #1"] * 6), most)
    assert len(text.encode()) <= most
    for ours in (MARKER, *re.findall(r"<details><summary>[\w ]+</summary>|</details>", text)):
        text = text.replace(ours, "")
    assert alive(text) == []


# JUnit


def test_junit_counts_and_kinds(mixed):
    suite = ET.fromstring(junit_of(mixed))[0]
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "1", "skipped": "2"}
    kinds = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert kinds == {"same": [], "slow": ["failure"], "dead": ["error"], "open": ["skipped"],
                     "gpu": ["skipped"]}  # fmt: skip


def test_junit_names_the_class_by_the_command_and_the_suite(mixed):
    """Services group a history of results by it, so that it must not change."""
    suite = ET.fromstring(junit_of(mixed))[0]
    assert {case.get("classname") for case in suite.iter("testcase")} == {"cspbench.gate.edge"}


def test_junit_of_a_strict_gate_fails_what_is_unsure(mixed):
    mixed.strict = True
    assert ET.fromstring(junit_of(mixed))[0].get("failures") == "2"


def test_junit_holds_any_name():
    suite = ET.fromstring(junit_of(report(verdict(HOSTILE + "\ud800\x00"))))[0]
    assert suite.find("testcase").get("name").startswith("a|b`<script>")


# Annotations


def test_annotations_are_one_line_a_finding(mixed):
    mixed.verdicts.append(verdict(HOSTILE, Verdict.SLOWER, 1.5, "confirmed"))
    lines = annotations_of(mixed, "suites/a,b.yaml")
    assert [line.split(" ")[0] for line in lines] == ["::error"] * 3 + ["::warning", "::notice"]
    assert all("\n" not in line for line in lines)
    assert "file=suites/a%2Cb.yaml," in lines[0]
    assert "%0A" not in lines[0].replace("%250A", "")


def test_a_head_that_waits_longer_is_an_error_everywhere():
    waits = report(verdict(kind=Verdict.INCONCLUSIVE, reason="waits_more"))
    assert waits.exit_code is ExitCode.NOT_MEASURED
    assert waits.headline == "gate not passed: a head waits longer (1 inconclusive)"
    assert ET.fromstring(junit_of(waits))[0].get("errors") == "1"
    assert annotations_of(waits, "a.yaml")[0].startswith("::error ")


def test_rules_that_were_not_checked_are_a_case_of_junit():
    for strict, tag in ((False, "skipped"), (True, "failure")):
        unsure = report(verdict(), unchecked=["no sensor tells energy"], strict=strict)
        (case,) = (c for c in ET.fromstring(junit_of(unsure)).iter("testcase") if len(c))
        assert (case.get("name"), case[0].tag) == ("the suite's rules", tag)
        assert case[0].get("message") == "no sensor tells energy"


def test_a_rule_that_was_not_checked_is_told_and_ends_a_strict_gate_with_4():
    text = "net: no sensor tells energy, so that its rule was not checked"
    lax, strict = (report(verdict(), unchecked=[text], strict=strict) for strict in (False, True))
    assert lax.headline == "gate passed (1 same); 1 rule not checked"
    assert (lax.exit_code, strict.exit_code) == (ExitCode.OK, ExitCode.INCONCLUSIVE)
    assert strict.headline == (
        "gate not complete, and --strict asks for every rule (1 same); 1 rule not checked"
    )
    slow = report(verdict(kind=Verdict.SLOWER), unchecked=[text], strict=True)
    assert slow.exit_code is ExitCode.REGRESSION


# The compare page


def test_the_page_shows_everything(mixed):
    text = page_of(mixed)
    for shown in ("slow", "dead", "open", "same", "added conv", "libraries.cv2", "some CPU",
                  "no NVIDIA driver is loaded", "a note", "+10.00 %"):  # fmt: skip
        assert shown in text
    # A diamond for each case with a ratio, in the wide plot and in the narrow one.
    assert text.count('class="mark"') == 2 * 3
    assert "http" not in text.replace("http-equiv", "")


def test_the_page_shows_the_layers_of_a_slowdown_with_their_intervals(mixed):
    assert "Why slow is slower" not in page_of(mixed)
    shifts = [LayerShift(f"conv{i}", "Conv", 1.0, 1.6 - i / 100, 0.5, 0.7) for i in range(12)]
    slow = verdict("slow", Verdict.SLOWER, 1.08, "confirmed")
    text = page_of(report(replace(slow, layers=tuple(map(asdict, shifts)))))
    assert "Why slow is slower" in text
    assert '<td class="num">1.6</td><td class="num">+0.6</td>' in text.replace("\n", "")
    assert "+0.5 to +0.7" in text
    assert "conv9" in text
    assert "conv10" not in text
    assert "And 2 layers that changed less" in text


def test_elapsed_time_stands_beside_running_time(mixed):
    assert "Elapsed" not in page_of(mixed)
    slow = verdict("slow", Verdict.SLOWER, 1.08, "confirmed")
    running = replace(slow, ratio_of="running time", elapsed_ratio=1.12)
    text = page_of(report(running, verdict("same")))
    assert '<th class="num">Elapsed</th>' in text
    assert '<td class="num" data-label="elapsed">+12.0 %</td>' in text
    assert '<td class="num" data-label="elapsed"></td>' in text  # of elapsed time itself


def test_the_page_is_inert(mixed):
    mixed.verdicts.append(verdict(HOSTILE, Verdict.SLOWER, 1.5, "confirmed"))
    mixed.notes.append(HOSTILE)
    text = page_of(mixed)
    assert "<script" not in text
    assert "\x1b" not in text
    assert "style=" not in text
    assert html.escape("<script>alert(1)</script>") in text
    assert re.search(r"default-src 'none'; style-src 'sha256-|default-src &#39;none&#39;", text)


def test_cases_link_to_their_histories_in_a_site(mixed):
    text = page_of(mixed, "https://bench.example/site/")
    assert f'<a href="https://bench.example/site/case/{slug("slow")}.html">slow</a>' in text
    assert "<a " not in page_of(mixed)


@pytest.mark.parametrize("good", ["site", "../site", "file:///srv/site", "http://box:8080/site"])
def test_the_address_of_a_site_is_a_folder_or_a_web_address(good):
    assert check_site(good) == good


@pytest.mark.parametrize(
    "bad", ["javascript:alert(1)", "javascript:1/x", "data:text/html,x", "a b"]
)
def test_another_scheme_is_no_address_of_a_site(bad):
    with pytest.raises(InputError, match="no address of a site"):
        check_site(bad)


def test_an_empty_gate_has_a_page_too():
    assert "There was nothing to compare" in page_of(report())


def test_the_forest_plot_clips_what_is_far_away():
    svg = forest_plot([verdict(ratio=50.0), verdict(ratio=1.0)], 0.03, 0.05)
    ET.fromstring(svg)
    ends = [float(x) for x in re.findall(r'x[12]="([\d.]+)"', svg)]
    assert max(ends) <= 890


# The report


def test_the_headline_counts(mixed):
    assert mixed.headline == (
        "gate failed: slower or costlier (1 slower, 1 unmeasured, 1 inconclusive, 1 same)"
    )
    assert report().headline == "gate passed (nothing to compare)"
