"""A stored run as pandas frames, and the tables that people read."""

from pathlib import Path

import pytest

from cspbench.errors import InputError
from cspbench.formats import FORMATS, render
from cspbench.frames import (
    CASE_COLUMNS,
    LAUNCH_COLUMNS,
    NUMBER_COLUMNS,
    SAMPLE_COLUMNS,
    Run,
    load,
)
from cspbench.store.rundir import RunDirectory
from cspbench.tables import NUMBERS, case_table, launch_table, reason_table

MS = 1_000_000
GOOD = "csppeleenet[gamma=0.25]+prn@320x416/opencv-cpu/b2/t1"
BROKEN = "peleenet@64/torch-cpu/b1/t1"
ABSENT = "peleenet@64/torch-cuda/b1/t1"


@pytest.fixture
def run(tmp_path):
    """Three cases: measured twice, failed twice, unavailable."""
    directory = RunDirectory.create(
        tmp_path,
        "20240501-120000-three",
        {
            "suite": {"name": "three", "measure": {"rounds": 2}},
            "cases": [
                {"id": GOOD, "key": "1", "status": None, "reason": ""},
                {"id": BROKEN, "key": "2", "status": None, "reason": ""},
                {"id": ABSENT, "key": "3", "status": "unavailable", "reason": "no NVIDIA driver"},
            ],
            "environment": {"cpu": "a processor"},
            "analyses": {
                "csppeleenet[gamma=0.25]+prn@320x416": {
                    "totals": {"params": 1_500_000, "macs": 2_000_000_000, "bflops": 4.1}
                }
            },
        },
    )
    for number, latencies in enumerate(([8 * MS, 8 * MS], [12 * MS, 12 * MS])):
        directory.append(
            {
                "case": GOOD, "job": "time", "number": number, "session": "s",
                "ended": "2024-05-01T12:00:00.000+00:00", "seconds": 1.5, "status": "ok",
                "reason": "", "load_ns": 30 * MS, "first_ns": 20 * MS, "latencies_ns": latencies,
                "stop": "max_seconds", "relative_half_width": None,
                "warmup": {"count": 9, "window_medians_ns": [MS], "steady": True},
                "agreement": {"max_relative_error": (1 + number) * 1e-6, "tolerance": 1e-4},
                "backend": {"version": "5"}, "flags": ["not_steady"] if number else [],
                "interference": {"seconds": 1.0, "foreign_cpu_s": 0.25, "steal_s": 0.5,
                                 "load_1m_before": 1.0, "load_1m_after": 2.0},
            }
        )  # fmt: skip
        directory.append(
            {
                "case": BROKEN, "job": "time", "number": number, "session": "s", "ended": "",
                "seconds": 0.5, "status": "failed", "reason": "NaN", "log": "Traceback",
            }
        )  # fmt: skip
    return load(directory.path)


def test_the_case_frame_by_hand(run):
    assert tuple(run.cases.columns) == CASE_COLUMNS
    good = run.cases.iloc[0]
    assert (good["model"], good["neck"], good["input"]) == (
        "csppeleenet[gamma=0.25]", "prn", "320x416",
    )  # fmt: skip
    assert (good["backend"], good["batch"], good["threads"]) == ("opencv-cpu", 2, 1)
    assert (good["params_m"], good["macs_g"], good["bflops"]) == (1.5, 2.0, 4.1)
    assert good["latency_ms"] == 10.0  # the median of 8 and 12
    # Two launches, 1 degree of freedom: t = 12.7062; logs ln 8, ln 12: mean ln 9.79796, s =
    # ln(1.5) / sqrt(2) = 0.286708; half = 12.7062 * 0.286708 / sqrt(2) = 2.57597;
    # 9.79796 * exp(-+2.57597) = 0.74542 and 128.78.
    assert good["latency_ms_low"] == pytest.approx(0.74542, rel=1e-3)
    assert good["latency_ms_high"] == pytest.approx(128.78, rel=1e-3)
    assert good["fps"] == 200.0  # two images in 10 ms
    assert (good["launches"], good["samples"]) == (2, 4)
    assert good["max_relative_error"] == 2e-6
    assert good["flags"] == ["not_steady", "few_samples"]


def test_what_was_not_obtained_is_missing_never_zero(run):
    for number, status in ((1, "failed"), (2, "unavailable")):
        row = run.cases.iloc[number]
        assert row["status"] == status
        assert row[sorted(NUMBER_COLUMNS & set(CASE_COLUMNS))].isna().all()
        assert (row["launches"], row["samples"]) == (0, 0)


def test_the_launch_frame_by_hand(run):
    assert tuple(run.launches.columns) == LAUNCH_COLUMNS
    assert list(run.launches["status"]) == ["ok", "failed", "ok", "failed"]
    row = run.launches.iloc[0]
    assert (row["median_ms"], row["samples"], row["load_ms"], row["first_ms"]) == (8.0, 2, 30, 20)
    assert (row["steal_s"], row["foreign_cpu_s"], row["load_1m_before"]) == (0.5, 0.25, 1.0)
    assert row["seconds"] == 1.5  # of the launch, not of its sampling
    assert (row["warmup_count"], row["steady"]) == (9, True)
    assert run.launches.iloc[1][["median_ms", "load_ms", "steal_s"]].isna().all()


def test_the_sample_frame_by_hand(run):
    assert tuple(run.samples.columns) == SAMPLE_COLUMNS
    assert list(run.samples["latency_ms"]) == [8.0, 8.0, 12.0, 12.0]
    assert list(run.samples["number"]) == [0, 0, 1, 1]
    assert list(run.samples["index"]) == [0, 1, 0, 1]


def test_numbers_are_numbers_also_where_none_was_obtained(run):
    for frame in (run.cases, run.launches, run.cases.iloc[1:]):
        for column in NUMBER_COLUMNS & set(frame.columns):
            assert frame[column].dtype == "float64", column


def test_an_empty_run_has_empty_frames_with_all_columns(tmp_path):
    directory = RunDirectory.create(
        tmp_path, "r", {"suite": {"measure": {"rounds": 1}}, "cases": [], "analyses": {}}
    )
    run = load(directory.path)
    assert tuple(run.cases.columns) == CASE_COLUMNS
    assert tuple(run.launches.columns) == LAUNCH_COLUMNS
    assert tuple(run.samples.columns) == SAMPLE_COLUMNS
    assert [len(frame) for frame in (run.cases, run.launches, run.samples, run.layers)] == [0] * 4


def test_a_run_knows_its_name_place_and_machine(run):
    assert isinstance(run, Run)
    assert run.name == run.path.name == "20240501-120000-three"
    assert run.environment == {"cpu": "a processor"}
    with pytest.raises(InputError, match="is not a run"):
        load(run.path / "missing")


# Tables -----------------------------------------------------------------------------------------


def test_the_case_table_shows_the_interval_around_the_estimate(tmp_path, run):
    table = case_table(run)
    # 128.78 / 10 is over twice the estimate.
    assert table["interval"][0] == "over ±100 %"
    assert table["interval"].isna().tolist() == [False, True, True]
    assert "p99_ms" not in table.columns  # no case has 300 samples
    assert list(table["status"]) == ["ok", "failed", "unavailable"]


@pytest.mark.parametrize(
    ("estimate", "low", "high", "text"),
    [
        (100.0, 97.0, 104.5, "-3.0/+4.5 %"),
        (100.0, 80.0, 125.0, "-20/+25 %"),  # no decimals where they mean nothing
        (100.0, 40.0, 250.0, "over ±100 %"),
        (100.0, float("nan"), float("nan"), None),
    ],
)
def test_interval_as_text(estimate, low, high, text):
    from cspbench.tables import _interval

    assert _interval(estimate, low, high) == text


def test_reasons_are_those_of_the_cases_without_numbers(run):
    assert reason_table(run).to_numpy().tolist() == [
        [BROKEN, "failed", "NaN"],
        [ABSENT, "unavailable", "no NVIDIA driver"],
    ]


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "parquet"])
def test_every_table_of_a_run_with_failures_prints_in_every_form(run, form):
    frames = (run.cases, case_table(run), run.launches, launch_table(run), run.samples)
    for frame in (*frames, reason_table(run)):
        assert render(frame, form, NUMBERS)


DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_column_is_documented():
    columns = {*CASE_COLUMNS, *LAUNCH_COLUMNS, *SAMPLE_COLUMNS}
    text = DOCUMENT.read_text()
    assert [column for column in sorted(columns) if f"`{column}`" not in text] == []
