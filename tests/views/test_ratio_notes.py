"""What tables that people read say of their ratios, on runs whose ratios are known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cspbench.cli.options import emit_cases
from cspbench.paper.comparison import times
from cspbench.paper.evidence import from_runs, speed_ratio
from cspbench.paper.speeds import above_one
from cspbench.report.page import render
from cspbench.report.rows import case_rows
from cspbench.report.sections.ablation import ablation
from cspbench.report.sections.summary import summary
from cspbench.views.answer import answers, sentences, verdict
from cspbench.views.claims import claims
from cspbench.views.csp_forms import form_rows, form_text
from cspbench.views.frames import Run, load
from cspbench.views.ratios import ratio_notes, with_ratio_flags
from tests.report.runs import time_launch, write_run

REFERENCE, TWICE, APART = (f"{name}@224/opencv-cpu/b1/t1" for name in
                           ("peleenet", "csppeleenet", "densenet121"))  # fmt: skip
#: So many bursts of two inferences a block.
BURSTS = 4
WEAKER = "It is weaker than a ratio from bursts in turn."


def in_turn(case: str, ms: float, lost_ms: float | None = 0.0, **more: Any) -> list[dict[str, Any]]:
    """Launches in three blocks; ``lost_ms`` is what each burst waited, None if unknown."""
    launches = []
    for block in range(3):
        turns: dict[str, Any] = {"block": str(block), "counts": [2] * BURSTS}
        if lost_ms is not None:
            turns["lost_ns"] = [round(lost_ms * 1e6) + block * 1000] * BURSTS
        # A block differs from the others by a thousandth, so that intervals are short, not empty.
        latencies = [ms * (1 + 0.001 * block)] * 2 * BURSTS
        launches.append(time_launch(case, block, latencies, turns=turns, **more))
    return launches


def apart(case: str, ms: float) -> list[dict[str, Any]]:
    """Launches that took no turns."""
    return [time_launch(case, number, [ms * (1 + 0.001 * number)] * 8) for number in range(3)]


@pytest.fixture
def mixed(tmp_path: Path) -> Run:
    """One case took turns with the reference and takes twice as long, another one never did."""
    cases = {REFERENCE: in_turn(REFERENCE, 10), TWICE: in_turn(TWICE, 20), APART: apart(APART, 30)}
    return write_run(tmp_path, cases, reference=REFERENCE)


def printed(run: Run, form: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    emit_cases(run, form)
    return capsys.readouterr().out.splitlines()


def test_a_ratio_of_separate_launches_is_flagged(mixed: Run) -> None:
    rows = mixed.cases.set_index("id")
    assert rows.loc[TWICE, "ratio"] == pytest.approx(2, rel=1e-3)
    assert rows.loc[APART, "ratio"] == pytest.approx(3)
    assert rows.loc[APART, "ratio_of"] == "separate launches"
    flagged = {case: flags for case, flags in rows["flags"].items() if flags}
    assert flagged == {APART: ["separate_launches"]}


@pytest.mark.parametrize("form", ["table", "md"])
def test_a_table_for_people_says_which_ratios_are_weaker(
    mixed: Run, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(mixed, form, capsys)
    [row] = [line for line in lines if APART in line]
    assert "separate_launches" in row
    assert WEAKER in lines[-1]
    assert not any("separate_launches" in line for line in lines if TWICE in line)


@pytest.mark.parametrize("form", ["csv", "json", "latex"])
def test_a_table_for_programs_holds_no_sentence(
    mixed: Run, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(printed(mixed, form, capsys))
    assert "weaker" not in text
    assert text.replace("\\", "").count("separate_launches") == 1


def test_a_file_for_people_says_it_too(mixed: Run, tmp_path: Path) -> None:
    emit_cases(mixed, "md", tmp_path / "cases.md")
    *_, blank, last = (tmp_path / "cases.md").read_text().splitlines()
    assert (blank, WEAKER in last) == ("", True)


def test_a_run_in_turn_has_no_such_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {REFERENCE: in_turn(REFERENCE, 10), TWICE: in_turn(TWICE, 20)}
    run = write_run(tmp_path, cases, reference=REFERENCE)
    assert not any("weaker" in line for line in printed(run, "table", capsys))


def test_the_report_says_it_and_claims_no_turns_that_were_not(mixed: Run, tmp_path: Path) -> None:
    assert case_rows([mixed])[2].flags == ("separate_launches",)
    page = render([mixed], "demo")
    assert page.count(WEAKER) == 1
    assert "Ratios are from bursts in turn unless a flag says otherwise, relative to" in page
    assert "1 of 3 measured cases are flagged separate_launches" in page
    cases = {REFERENCE: apart(REFERENCE, 10), APART: apart(APART, 30)}
    page = render([write_run(tmp_path, cases, name="apart", reference=REFERENCE)], "apart")
    assert "Ratios are relative to" in page
    assert page.count(WEAKER) == 1


@pytest.fixture
def untrusted(tmp_path: Path) -> Run:
    """The reference's second process takes twice as long in every block, which is never chance."""
    cases = {
        REFERENCE: in_turn(REFERENCE, 10) + in_turn(REFERENCE, 20, job="check"),
        TWICE: in_turn(TWICE, 20),
    }
    return write_run(tmp_path, cases, reference=REFERENCE)


DISTRUST = f"Do not trust the ratios of this run: {REFERENCE} took 2.000 times as long as itself ("


def test_a_reference_that_differs_from_itself_is_told_wherever_ratios_are(
    untrusted: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(untrusted, "table", capsys)[-1].startswith(DISTRUST)
    assert load(untrusted.path, TWICE).distrust == untrusted.distrust  # whatever it is beside
    assert verdict(untrusted) == (
        "No case is called the fastest, because the ratios of this run are not trusted."
    )
    [answer, _] = answers(untrusted)
    assert answer.as_dict()["distrust"] == untrusted.distrust
    assert sentences(answer)[1].startswith(DISTRUST)
    [heading, *_] = summary(case_rows([untrusted]), {})
    assert heading.heading == "Not ranked"


def test_a_claim_of_the_paper_is_not_decided_by_a_run_that_is_not_trusted(untrusted: Run) -> None:
    models = ["peleenet@224", "csppeleenet@224"]
    measured, _, _ = from_runs([untrusted]).measured(models, ["opencv-cpu"])
    ratio = speed_ratio(*(measured[model] for model in models))
    assert times(ratio).endswith(" (not trusted)")
    assert above_one(ratio) is None


def test_a_reference_that_differs_from_itself_is_told_in_the_report(untrusted: Run) -> None:
    run = untrusted
    assert [row.flags for row in case_rows([run])] == [("untrusted",)] * 2
    assert all(row["claim"].endswith("flags: untrusted.") for row in claims([run]))


RUNNING = "Ratios are of running time (elapsed time less waits for a processor)."
ELAPSED = "Ratios are of elapsed time (waits for a processor included)."


@pytest.mark.parametrize(("lost_ms", "sentence"), [(0.0, RUNNING), (None, ELAPSED)])
def test_one_sentence_says_of_which_time_all_ratios_are(
    tmp_path: Path, lost_ms: float | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = {case: in_turn(case, 10, lost_ms) for case in (REFERENCE, TWICE)}
    run = write_run(tmp_path, cases, reference=REFERENCE)
    head, *_, last = printed(run, "table", capsys)
    assert last == sentence
    assert "ratio_of" not in head.split()
    assert render([run], "demo").count(sentence) == 1
    assert '<span class="under">running time</span>' not in render([run], "demo")


@pytest.mark.parametrize("form", ["table", "md"])
def test_each_row_says_of_which_time_it_is_where_they_differ(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The third case does not tell what it waited, as on a device or with several threads."""
    waits = {REFERENCE: 0.0, TWICE: 0.0, APART: None}
    run = write_run(
        tmp_path, {case: in_turn(case, 10, lost) for case, lost in waits.items()},
        reference=REFERENCE,
    )  # fmt: skip
    lines = printed(run, form, capsys)
    assert "ratio_of" in lines[0]
    assert lines[-1].startswith("Each row says what its ratio is of: running time (elapsed time ")
    assert lines[-1].endswith(" or elapsed time (waits for a processor included).")
    for case, words in ((TWICE, "running time"), (APART, "elapsed time")):
        [row] = [line for line in lines if case in line]
        assert words in row
    page = render([run], "demo")
    assert page.count('<span class="under">running time</span>') == 1
    assert page.count('<span class="under">elapsed time</span>') == 1


def test_a_case_that_waited_is_flagged(tmp_path: Path) -> None:
    """Bursts of two inferences last 30 ms, of which one case waited 10: 30 / 20 is 50 % more."""
    cases = {REFERENCE: in_turn(REFERENCE, 15), TWICE: in_turn(TWICE, 15, lost_ms=10)}
    run = write_run(tmp_path, cases, reference=REFERENCE)
    ratios = run.ratios.set_index("case")
    assert ratios.loc[TWICE, "waiting"] == pytest.approx(0.5, rel=0.01)
    assert run.cases.set_index("id").loc[TWICE, "ratio"] == pytest.approx(2 / 3, rel=0.01)
    assert list(run.cases["flags"]) == [[], ["waited"]]
    assert [row.flags for row in case_rows([run])] == [(), ("waited",)]
    page = render([run], "demo")
    assert "1 of 2 measured cases are flagged waited: the case waited longer or shorter" in page


def test_a_claim_says_whether_its_ratio_is_from_turns(mixed: Run) -> None:
    _, twice, apart_ = (row["claim"] for row in claims([mixed]))
    assert f"times {REFERENCE} (2.00 to 2.00, measured in turn)" in twice
    assert f"3.00 times {REFERENCE} (" in apart_
    assert ", separate launches)" in apart_
    assert "measured in turn" not in apart_


def test_the_answer_says_which_ranks_rest_on_separate_launches(mixed: Run, tmp_path: Path) -> None:
    assert verdict(mixed) == (
        f"{REFERENCE} is fastest. The next, {TWICE}, takes 2.00 times as long an image "
        "(2.00 to 2.00). Only latencies of separate launches rank 1 other case, which took no "
        "turns with it."
    )
    cases = {REFERENCE: apart(REFERENCE, 10), APART: apart(APART, 30)}
    run = write_run(tmp_path, cases, name="apart", reference=REFERENCE)
    assert verdict(run) == (
        f"{REFERENCE} was fastest by latencies of separate launches. No interval says how sure "
        "that is."
    )


def test_an_answer_tells_one_block_from_separate_launches(tmp_path: Path) -> None:
    """Both have no interval, and for another reason."""
    fast, block, alone = (f"peleenet@224/opencv-cpu/b1/t{count}" for count in (1, 2, 4))
    cases = {fast: in_turn(fast, 10)[:1], block: in_turn(block, 20)[:1], alone: apart(alone, 30)}
    [answer] = answers(write_run(tmp_path, cases))
    assert sentences(answer)[1:3] == [
        "  opencv-cpu with 2 threads takes 2.00 times as long (one block: no interval)",
        "  opencv-cpu with 4 threads takes 3.00 times as long (separate launches: no interval)",
    ]
    assert [one["ratio_of"] for one in answer.as_dict()["others"]] == [
        "elapsed time", "separate launches",
    ]  # fmt: skip


def test_a_form_beside_its_plain_network_says_where_they_took_no_turns(tmp_path: Path) -> None:
    plain, form = (f"timm:resnet18{options}@224/opencv-cpu/b1/t1"
                   for options in ("", "[csp.gamma=0.5]"))  # fmt: skip
    run = write_run(tmp_path, {plain: apart(plain, 10), form: apart(form, 9)})
    assert [row["ratio_of"] for row in form_rows(run)] == [None, "separate launches"]
    [line] = [line for line in form_text(run) if "opencv-cpu" in line and "csp.gamma" in line]
    assert "0.900 (separate launches: no interval)" in line


@pytest.mark.parametrize(("in_blocks", "words"), [(True, ""), (False, ", separate launches")])
def test_the_table_of_forms_in_the_report_says_it(
    tmp_path: Path, in_blocks: bool, words: str
) -> None:
    cases = {f"{model}@224/opencv-cpu/b1/t1": ms for model, ms in
             (("peleenet", 12), ("csppeleenet", 10), ("csppeleenet[gamma=0.25]", 14))}  # fmt: skip
    measured = in_turn if in_blocks else apart
    run = write_run(tmp_path, {case: measured(case, ms) for case, ms in cases.items()})
    _, *variants = ablation(case_rows([run]))
    assert len(variants) == 2
    for line in variants:
        assert line["interval"].endswith(f" %{words}")


def test_flags_of_a_ratio_keep_the_order_of_flags() -> None:
    ratio = {"trusted": False, "ratio_of": "separate launches"}
    both = with_ratio_flags(["contended"], ratio)
    assert both == ["contended", "untrusted", "separate_launches"]
    assert with_ratio_flags(["contended"], {}) == ["contended"]


def test_no_ratio_needs_no_note() -> None:
    assert ratio_notes([None]) == []
