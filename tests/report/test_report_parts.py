"""Sentences, warnings and tables of the report, worked out by hand."""

from __future__ import annotations

import datetime
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.cli.options import parse_overrides
from cspbench.report import marks, numbers
from cspbench.report.page import render
from cspbench.report.profiles import profile_tables, profiles
from cspbench.report.rows import CaseRow, case_rows, latency_ratio, repeat_command
from cspbench.report.sections import machine
from cspbench.report.sections.ablation import ablation
from cspbench.report.sections.accuracy import speed_classes
from cspbench.report.sections.cases import common_flags
from cspbench.report.sections.data import repeats
from cspbench.report.sections.energy import energy
from cspbench.report.sections.failures import problems
from cspbench.report.sections.layers import balance
from cspbench.report.sections.memory import memory
from cspbench.report.sections.roofline import roofline
from cspbench.report.sections.summary import summary
from cspbench.runner.plan import Plan
from cspbench.runner.run import describe
from cspbench.suite.load import load_suite
from cspbench.views.answer import verdict
from cspbench.views.frames import Run
from tests.report.runs import analysis, good, time_launch, write_run


def rows_of(tmp_path: Path, cases: dict[str, Any], **more: Any) -> list[CaseRow]:
    return case_rows([write_run(tmp_path, cases, **more)])


def exact(case: str, *medians_ms: float) -> list[dict[str, Any]]:
    """Launches with exactly these medians."""
    return [time_launch(case, i, [ms] * 3) for i, ms in enumerate(medians_ms)]


FAST, SLOW = "csppeleenet@224/opencv-cpu/b1/t1", "peleenet@224/opencv-cpu/b1/t1"


def test_fastest_names_the_case_and_its_rivals(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {FAST: exact(FAST, 10, 10.1, 9.9), SLOW: exact(SLOW, 20, 20.2, 19.8)})
    fastest = summary(rows, {})[0]
    assert fastest.text.startswith("csppeleenet@224 on opencv-cpu: 10.00 ms (±2.5 %), 100 fps")
    # Twice as long, and the intervals of both latencies: sqrt(2) x 2.5 %.
    assert fastest.text.endswith(
        " The next, peleenet@224 on opencv-cpu, takes 2.00 times as long an image (1.93 to 2.07)."
        " The others took no turns with it: latencies of separate launches are compared there, "
        "which is weaker."
    )
    assert fastest.heading == "Fastest"


def test_fastest_admits_overlap_and_single_launches(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, {FAST: exact(FAST, 10, 11, 9), SLOW: exact(SLOW, 10.5, 9.5, 11)})
    assert "1 other case cannot be told apart from it." in summary(rows, {})[0].text
    rows = rows_of(tmp_path, {FAST: exact(FAST, 10)})
    assert "One launch gives no interval." in summary(rows, {})[0].text


def test_a_run_that_cannot_be_ranked_says_so_once(tmp_path: Path) -> None:
    """Three of three others overlap with the fastest; each row would carry the same flag."""
    cases = [f"csppeleenet@{size}/opencv-cpu/b1/t1" for size in (224, 256, 288, 320, 352)]
    launches = {case: exact(case, 10 + i, 20, 5) for i, case in enumerate(cases)}
    for launch in (one for many in launches.values() for one in many):
        launch["flags"] = ["contended"]
    rows = rows_of(tmp_path, launches)
    sentence = summary(rows, {})[0]
    assert sentence.heading == "Too noisy to rank"
    assert sentence.text.startswith("4 of 4 other cases cannot be told apart from the fastest, csp")
    assert "The machine was busy: 5 of 5 cases are flagged contended." in sentence.text
    assert common_flags(rows) == [("contended", 5)]
    assert common_flags(rows[:4]) == []  # so few rows may repeat it


def test_the_report_ranks_as_the_end_of_a_run_does(tmp_path: Path) -> None:
    """Each of three others takes e^0.1 or e^0.3 times as long by turns: e^(0.2 +- 0.115 / 2 t).

    Alone each is slower for certain (t = 3.18, +-0.18), the three together are not (3.91, +-0.23).
    """
    cases = [f"csppeleenet@{size}/opencv-cpu/b1/t1" for size in (224, 256, 288, 320)]

    def launches(case: str, more: float) -> list[dict[str, Any]]:
        return [
            time_launch(
                case, block, [10 * math.exp(more * (0.1, 0.3)[block % 2])] * 8,
                turns={"block": str(block), "counts": [2] * 4},
            )
            for block in range(4)
        ]  # fmt: skip

    run = write_run(tmp_path, {case: launches(case, i > 0) for i, case in enumerate(cases)})
    alone = run.in_turn.ratio(cases[1], cases[0])
    assert alone is not None
    assert alone.ratio.low == pytest.approx(math.exp(0.2 - 3.182 * 0.1155 / 2), rel=1e-3)
    words = f"3 of 3 other cases cannot be told apart from the fastest, {cases[0].split('/')[0]}"
    assert words in verdict(run)
    assert words in summary(case_rows([run]), {})[0].text


def test_most_ap50_per_millisecond(tmp_path: Path) -> None:
    """AP50 40 in 10 ms is 4 points per ms, 45 in 20 ms is 2.25."""
    rows = rows_of(tmp_path, {FAST: exact(FAST, 10, 10), SLOW: exact(SLOW, 20, 20)})
    sentence = summary(rows, {"csppeleenet@224": 40.0, "peleenet@224": 45.0})[1]
    assert sentence.text.startswith("csppeleenet@224")
    assert "4.00 points per millisecond" in sentence.text


def test_surprise_is_fewer_bflops_and_surely_slower(tmp_path: Path) -> None:
    analyses = {
        "csppeleenet@224": analysis("csppeleenet@224", [300]),
        "peleenet@224": analysis("peleenet@224", [400]),
    }
    launches = {FAST: exact(FAST, 20, 20.1, 19.9), SLOW: exact(SLOW, 10, 10.1, 9.9)}
    rows = rows_of(tmp_path, launches, analyses=analyses)
    surprise = summary(rows, {})[1]
    assert surprise.heading == "Surprise"
    assert "25 % fewer BFLOPs" in surprise.text  # 1 - 300 / 400
    assert "takes 2.00 times (" in surprise.text
    launches = {FAST: exact(FAST, 20, 40, 10), SLOW: exact(SLOW, 10, 10.1, 9.9)}
    rows = rows_of(tmp_path, launches, analyses=analyses)
    assert len(summary(rows, {})) == 1, "the intervals overlap"


def test_widest_gap_between_backends(tmp_path: Path) -> None:
    other = "csppeleenet@224/torch-cpu/b1/t1"
    rows = rows_of(tmp_path, {FAST: exact(FAST, 10, 10.1), other: exact(other, 30, 30.1)})
    rows = rows_of(tmp_path, {FAST: exact(FAST, 10, 10, 10), other: exact(other, 30, 30, 30)})
    gap = summary(rows, {})[1]
    assert (gap.heading, gap.case) == ("Widest gap", other)
    assert (
        "takes 3.00 times (3.00 to 3.00, separate launches) as long on torch-cpu as on opencv-cpu"
        in gap.text
    )


def test_no_sentence_compares_cases_of_different_runs(tmp_path: Path) -> None:
    """A network alone in each run: there is nothing beside it, however the runs differ."""
    analyses = {
        "csppeleenet@224": analysis("csppeleenet@224", [300]),
        "peleenet@224": analysis("peleenet@224", [400]),
    }
    other = FAST.replace("opencv", "torch")
    runs = [
        write_run(tmp_path, {FAST: exact(FAST, 20, 20, 20)}, name="one", analyses=analyses),
        write_run(tmp_path, {SLOW: exact(SLOW, 10, 10, 10)}, name="two", analyses=analyses),
        write_run(tmp_path, {FAST: exact(FAST, 40, 40, 40)}, name="three", analyses=analyses),
        write_run(tmp_path, {other: exact(other, 90, 90, 90)}, name="four", analyses=analyses),
    ]
    assert [sentence.heading for sentence in summary(case_rows(runs), {})] == ["Fastest"]


def test_ratio_joins_both_intervals() -> None:
    """Rows of two runs: half widths 3 % and 4 % on the log scale join to 5 % (3-4-5)."""

    def row(latency: float, half: float) -> CaseRow:
        found = object.__new__(CaseRow)
        values = {"latency_ms": latency, "latency_low": latency * math.exp(-half),
                  "latency_high": latency * math.exp(half), "run": str(latency)}  # fmt: skip
        for name, value in values.items():
            object.__setattr__(found, name, value)
        return found

    found = latency_ratio(row(20, 0.03), row(10, 0.04))
    assert found is not None
    assert found[:3] == pytest.approx((2.0, 2 * math.exp(-0.05), 2 * math.exp(0.05)))
    assert not found.in_turn


def test_ablation_sets_variants_beside_the_plain_network(demo: Run) -> None:
    lines = {(line["model"], line["setting"]): line for line in ablation(case_rows([demo]))}
    plain = lines["peleenet@224", "opencv-cpu"]
    assert (plain["gamma"], plain["fusion"], plain["change"]) == ("–", "not split", "–")
    csp = lines["csppeleenet@224", "opencv-cpu"]
    # 600 of 800 MACs; about 10 of 12 ms.
    assert (csp["gamma"], csp["fusion"], csp["bflops_change"]) == ("0.5", "csp", "−25 %")
    assert csp["change"] in ("−16 %", "−17 %", "−18 %")
    assert ("csppeleenet-ref+prn@320", "opencv-cpu") not in lines, "one variant is no ablation"


def test_speed_classes_name_their_most_accurate_case(tmp_path: Path) -> None:
    """40 ms is 25 fps, 20 ms 50 fps and 12.5 ms 80 fps: one case below 30, two from 30 to 100."""
    third = "csppeleenet@320/opencv-cpu/b1/t1"
    launches = {SLOW: exact(SLOW, 40, 40), FAST: exact(FAST, 20, 20), third: exact(third, 12.5)}
    ap50 = {"peleenet@224": 50.0, "csppeleenet@224": 40.0, "csppeleenet@320": 30.0}
    slow, middle = speed_classes(rows_of(tmp_path, launches), ap50)
    assert (slow["name"], slow["cases"], slow["model"]) == ("below 30", "1", "peleenet@224")
    assert (middle["name"], middle["cases"], middle["model"]) == (
        "30 to 100",
        "2",
        "csppeleenet@224",
    )
    assert middle["per_ms"] == "2.00"  # 40 points in 20 ms


def test_balance_names_the_largest_layer(demo: Run) -> None:
    [pelee, *_] = balance([demo], case_rows([demo]))
    assert (pelee["model"], pelee["name"]) == ("peleenet@224", "stages.0.conv1")
    assert pelee["share"] == "50.0 %"  # 400 of 800 MACs


def test_roofline_sets_the_prediction_beside_the_measurement(tmp_path: Path) -> None:
    """One 1x1 convolution of 1e6 MACs, 1e6 elements in and out of 4 bytes, one weight of 4.

    Memory: 8000004 bytes at 4 GB/s are 2.000001 ms; compute: 2e6 at 80 GFLOP/s is 0.025 ms;
    overhead 1 us. Predicted 2.001 ms; measured 4 ms is 2 times that.
    """
    run = write_run(
        tmp_path,
        {SLOW: exact(SLOW, 4, 4), FAST: exact(FAST, 4, 4)},
        analyses={"peleenet@224": analysis("peleenet@224", [1_000_000])},
        ceilings={"cpu/t1": {"gflops": {"fp32": 80.0}, "bandwidth_gbs": {"triad": 4.0},
                             "overhead_us": 1.0}},
    )  # fmt: skip
    [line] = roofline([run], case_rows([run]))
    assert (line["model"], line["predicted"], line["ratio"]) == ("peleenet@224", "2.001", "2.00")
    assert (line["compute"], line["memory"], line["overhead"]) == ("0 %", "100 %", "0 %")


def test_profiles_say_where_the_time_goes(demo: Run) -> None:
    """1 + 4 + 2 + 1 of 10 ms in convolutions, 2 ms between the layers."""
    rows = case_rows([demo])
    [line] = profiles([demo], rows)
    assert (line["model"], line["total"]) == ("peleenet@224", "10.00")
    assert (line["convolutions"], line["copies"], line["unjoined"]) == ("80 %", "0 %", "0 %")
    assert (line["residual"], line["slowest_share"]) == ("20 %", "40 %")
    assert line["slowest"] == "/stages.0/conv1/Conv"
    table = profile_tables([demo], rows)["0"]
    times = [row[table["columns"].index("time_ms")] for row in table["rows"]]
    assert times == [1.0, 4.0, 2.0, 1.0, 2.0]


def test_energy_is_the_median_over_launches(tmp_path: Path) -> None:
    launches = [
        {**launch, "energy": {"energy_per_inference_j": joule, "power_w": 10.0,
                              "idle_power_w": 4.0, "energy_method": "test"}}
        for launch, joule in zip(exact(FAST, 1, 1, 1), (0.1, 0.2, 0.9), strict=True)
    ]  # fmt: skip
    [line] = energy(rows_of(tmp_path, {FAST: launches}))
    assert (line["energy"], line["power"], line["idle"], line["method"]) == (
        "200",
        "10.0",
        "4.00",
        "test",
    )


def test_memory_prefers_what_was_measured(tmp_path: Path, demo: Run) -> None:
    assert {line["setting"] for line in memory(case_rows([demo]))} == {""}
    found = {"peak_memory_bytes": 3 * 2**20, "loaded_bytes": 2**20, "retained_bytes": 2**19,
             "transient_bytes": 2**18, "method": "test"}  # fmt: skip
    launch = {**time_launch(FAST, 9, [1.0]), "job": "memory", "memory": found}
    del launch["latencies_ns"]
    [line] = memory(rows_of(tmp_path, {FAST: [*exact(FAST, 1, 1), launch]}))
    assert (line["setting"], line["peak"], line["loaded"]) == ("opencv-cpu", "3.00 MiB", "1.00 MiB")
    assert (line["retained"], line["transient"], line["live"]) == ("512 KiB", "256 KiB", "–")


def test_problems_join_cases_of_one_reason(tmp_path: Path) -> None:
    cases = {
        "peleenet@224/jetson/b1/t1": ("unavailable", "no board"),
        "csppeleenet@224/jetson/b1/t1": ("unavailable", "no board"),
        "peleenet@320/jetson/b1/t1": ("unsupported", "too big"),
    }
    found = problems(rows_of(tmp_path, cases))
    assert [(p.reason, len(p.cases)) for p in found] == [("no board", 2), ("too big", 1)]


def warning_texts(tmp_path: Path, launches: list[dict[str, Any]], **environment: Any) -> str:
    run = write_run(tmp_path, {FAST: launches}, environment=environment)
    return "\n".join(warning.text for warning in machine.warnings_of([run]))


def interference(**values: float) -> dict[str, Any]:
    base = {"seconds": 1.0, "foreign_cpu_s": 0.0, "steal_s": 0.0,
            "load_1m_before": 0.1, "load_1m_after": 0.1}  # fmt: skip
    return {"interference": {**base, **values}}


def test_a_quiet_machine_has_no_warnings(tmp_path: Path) -> None:
    assert warning_texts(tmp_path, good(FAST, 10.0)) == ""


@pytest.mark.parametrize(("room", "said"), [("unknown", True), ("estimated", False)])
def test_a_device_that_does_not_tell_its_free_memory_is_named(
    tmp_path: Path, room: str, said: bool
) -> None:
    launches = [{**launch, "device_room": room} for launch in good(FAST, 10.0)]
    words = "The driver did not tell the free memory of the device"
    assert (words in warning_texts(tmp_path, launches)) is said


@pytest.mark.parametrize(
    ("change", "environment", "expected"),
    [
        ({"steal_s": 0.06}, {}, "The hypervisor took 6 % of a processor"),
        ({"foreign_cpu_s": 0.26}, {}, "Other processes used 26 % of a processor"),
        ({"load_1m_before": 9.0}, {}, "The load average was 9.00 on 4 processors"),
        ({}, {"governor": "powersave"}, "The frequency governor is powersave"),
        ({}, {"governor": None}, "does not show the frequency governor"),
        ({}, {"virtualised": True}, "This is a virtual machine"),
        ({}, {"cpu_quota": 1.5}, "The container may use 1.5 processors"),
        ({}, {"git_commit": "abc-dirty"}, "uncommitted changes"),
    ],
)
def test_what_spoils_comparison_is_said(
    tmp_path: Path, change: dict[str, float], environment: dict[str, Any], expected: str
) -> None:
    launches = [{**launch, **interference(**change)} for launch in good(FAST, 10.0)]
    assert expected in warning_texts(tmp_path, launches, **environment)


def test_what_does_not_make_a_launch_contended_is_no_warning(tmp_path: Path) -> None:
    """The flag's bounds are 5 % of steal and 25 % of other processes."""
    change = interference(steal_s=0.049, foreign_cpu_s=0.249)
    assert warning_texts(tmp_path, [{**one, **change} for one in good(FAST, 10.0)]) == ""


@pytest.mark.parametrize(("virtualised", "told"), [(True, "yes"), (False, "no"), (None, None)])
def test_whether_the_machine_is_virtual_may_be_unknown(
    tmp_path: Path, virtualised: bool | None, told: str | None
) -> None:
    run = write_run(tmp_path, {FAST: good(FAST, 1.0)}, environment={"virtualised": virtualised})
    assert dict(machine.facts(run)).get("Virtual machine") == told, "unknown ones are left out"


def command_of(tmp_path: Path, cases: dict[str, Any], **suite: Any) -> str:
    return repeat_command(write_run(tmp_path, cases, suite=suite), FAST)


def test_the_repeat_command_keeps_the_settings_that_were_changed(tmp_path: Path) -> None:
    cases = {FAST: exact(FAST, 1)}
    changed = ["threads=2", "matrix.batch=[1, 2]"]
    settings = "--set threads=2 --set 'matrix.batch=[1, 2]'"
    said = f"cspbench run suites/demo.yaml {settings} --only {FAST}"
    assert command_of(tmp_path, cases, overrides=changed) == said
    notes = [f"set: {setting}" for setting in changed]  # a run of an older version
    assert command_of(tmp_path, cases, notes=["2 excluded", *notes]) == said


def test_overrides_are_stored_as_set_takes_them(tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("name: s\nmatrix: {model: [peleenet], input: [64], backend: [opencv-cpu]}\n")
    suite = load_suite(file, {"threads": "2", "measure.layers": True})
    found = describe(Plan(suite, ()), datetime.datetime.now(datetime.timezone.utc))["suite"]
    assert found["overrides"] == ["threads=2", "measure.layers=true"]
    assert load_suite(file, parse_overrides(found["overrides"])).measure.layers is True


def test_a_pair_measured_on_the_spot_is_repeated_by_explain(tmp_path: Path) -> None:
    cases = {FAST: exact(FAST, 1), SLOW: exact(SLOW, 2)}
    found = command_of(tmp_path, cases, name="explain", path="")
    assert found == f"cspbench explain {FAST} {SLOW} --rounds 3"


@pytest.mark.parametrize("path", ["", None])
def test_a_suite_that_was_in_no_file_has_no_repeat_command(
    tmp_path: Path, path: str | None
) -> None:
    assert command_of(tmp_path, {FAST: exact(FAST, 1)}, name="edge", path=path) == ""


def test_damaged_files_and_few_rounds_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, {FAST: good(FAST, 1.0, launches=2)}, rounds=2)
    with (run.path / "launches.jsonl").open("ab") as file:
        file.write(b"torn")
    from cspbench.views.frames import load

    texts = "\n".join(warning.text for warning in machine.warnings_of([load(run.path)]))
    assert "cut off in writing" in texts
    assert "The suite asks for 2 launches a case" in texts
    assert "flagged few_samples" in texts


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.01234, "0.0123"), (1.23456, "1.235"), (12.3456, "12.35"), (123.456, "123.5")],
)
def test_milliseconds(value: float | None, expected: str) -> None:
    assert numbers.milliseconds(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "–"), (0.0312, "±3.1 %"), (0.31, "±31 %"), (1.5, ">±100 %")],
)
def test_plus_minus(value: float | None, expected: str) -> None:
    assert numbers.plus_minus(value) == expected


def test_sizes_and_changes() -> None:
    assert [numbers.size(n) for n in (512, 1536, 3 * 2**20, 5 * 2**30)] == [
        "512 B", "1.50 KiB", "3.00 MiB", "5.00 GiB",
    ]  # fmt: skip
    assert numbers.percent(-0.034) == "−3 %"
    assert numbers.percent(None) == "–"


def test_spread_draws_launches_on_a_fixed_scale() -> None:
    """At +10 % of ±20 % a dot stands half way from the middle (40) to the edge less 6 (74)."""
    drawing = str(marks.spread(10.0, 9.5, 10.5, [10.0, 11.0]))
    assert 'cx="40"' in drawing
    assert 'cx="57"' in drawing
    assert "over" not in drawing


@given(st.floats(0.001, 1e6), st.floats(0.01, 1), st.floats(1, 100), st.floats(0.01, 100))
def test_spread_stays_inside_its_cell(value: float, low: float, high: float, dot: float) -> None:
    drawing = str(marks.spread(value, value * low, value * high, [value * dot]))
    places = [float(x) for x in re.findall(r'(?:x|cx|x1|M)="?([-\d.]+)', drawing)]
    assert all(0 <= x <= 80 for x in places)
    if low < 0.79 or high > 1.21:
        assert "over" in drawing
    elif low > 0.81 and high < 1.19:
        assert "over" not in drawing


def test_digests_tell_libraries_and_cases_apart(tmp_path: Path) -> None:
    known = {"libraries": {"torch": "2.13.0+cpu"}, "library_digests": {"torch": "ab12"}}
    run = write_run(tmp_path, {FAST: good(FAST, 8.0)}, environment=known)
    [repeat] = repeats([run])
    assert repeat.libraries == [("torch", "2.13.0+cpu", "ab12")]
    assert repeat.cases == [(FAST, "k")]
    page = re.sub(r"<wbr>", "", render([run]))
    assert "<dt>torch 2.13.0+cpu</dt><dd><code>ab12</code></dd>" in page
    assert f'<dt class="id">{FAST}</dt><dd><code>k</code></dd>' in page
