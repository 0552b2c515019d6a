"""A stored run as pandas frames, and the tables that people read."""

from pathlib import Path

import pytest

from cspbench.analysis.layer import COLUMNS as LAYER_COLUMNS
from cspbench.analysis.metric import TOTAL_METRICS, TotalMetric
from cspbench.errors import InputError
from cspbench.report.data import page_data
from cspbench.report.rows import case_rows
from cspbench.store.rundir import RunDirectory
from cspbench.views.formats import FORMATS, render
from cspbench.views.frames import (
    CASE_COLUMNS,
    LAUNCH_COLUMNS,
    NUMBER_COLUMNS,
    SAMPLE_COLUMNS,
    Run,
    load,
)
from cspbench.views.layer_times import LAYER_TIME_COLUMNS
from cspbench.views.tables import (
    NUMBERS,
    case_low_priority,
    case_numbers,
    case_table,
    launch_table,
    reason_groups,
)
from tests.report.runs import analysis, write_run

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


# Columns of sweeps and of launches of their own --------------------------------------------------


def timed(case, latency_ms, **more):
    return {
        "case": case, "job": "time", "number": 0, "session": "s", "ended": "", "seconds": 1.0,
        "status": "ok", "reason": "", "load_ns": MS, "first_ns": MS,
        "latencies_ns": [int(latency_ms * MS)] * 5, "stop": "target_ci",
        "relative_half_width": 0.01, "flags": [], "interference": None,
        "warmup": {"count": 9, "window_medians_ns": [MS], "steady": True},
        "agreement": {"max_relative_error": 1e-6, "tolerance": 1e-4},
        "backend": {"version": "5"}, **more,
    }  # fmt: skip


def stored(tmp_path, *launches):
    cases = [{"id": case, "key": case, "status": None, "reason": ""}
             for case in dict.fromkeys(launch["case"] for launch in launches)]  # fmt: skip
    meta = {"suite": {"measure": {"rounds": 1}}, "cases": cases, "analyses": {}}
    directory = RunDirectory.create(tmp_path, "20240501-120000-columns", meta)
    for launch in launches:
        directory.append(launch)
    return load(directory.path)


def test_scaling_efficiency_by_hand(tmp_path):
    one, two, alone, other = (
        "peleenet@64/opencv-cpu/b1/t1", "peleenet@64/opencv-cpu/b1/t2",
        "peleenet@64/torch-cpu/b1/t2", "peleenet@64/opencv-cpu/b4/t2",
    )  # fmt: skip
    cases = stored(tmp_path, timed(one, 12), timed(two, 8), timed(alone, 9), timed(other, 30)).cases
    # 1000 / 12 images a second with one thread, 1000 / 8 with two: 125 / (2 * 83.33) = 0.75. The
    # others have no twin with one thread: another backend, another batch.
    assert list(cases["scaling_efficiency"][:2]) == pytest.approx([1.0, 0.75])
    assert cases["scaling_efficiency"][2:].isna().all()


def test_throughput_by_hand(tmp_path):
    case = "peleenet@64/openvino/b2/t2"
    found = {"inferences": 300, "ns": 1_500 * MS, "in_flight": 2, "method": "asynchronous requests"}
    apart = {"case": case, "job": "throughput", "number": 0, "session": "s", "ended": "",
             "seconds": 2.0, "status": "ok", "reason": "", "flags": [],
             "throughput": found}  # fmt: skip
    run = stored(tmp_path, timed(case, 8), apart)
    row = run.cases.iloc[0]
    assert row["throughput_fps"] == 400.0  # 300 inferences of 2 images in 1.5 s
    assert row["throughput_method"] == "asynchronous requests, 2 in flight"
    assert row["fps"] == 250.0  # one after the other: 2 images in 8 ms
    assert row["launches"] == 1  # the launch that overlaps is none of those that are timed


def test_drift_of_a_launch_is_a_share(tmp_path):
    case = "peleenet@64/opencv-cpu/b1/t1"
    drifting = timed(case, 8, drift={"relative": 0.04, "z": 3.1, "slow": True})
    assert list(stored(tmp_path, drifting).launches["drift"]) == [0.04]


def test_columns_hold_nothing_that_a_launch_merely_calls_so(tmp_path):
    """A failed launch of an untrusted run has no median, even if it stores latencies."""
    case = "peleenet@64/opencv-cpu/b1/t1"
    strange = {"median_ms": "x", "load_ms": [1], "steady": "x", "drift": None, "samples": {}}
    launch = {"case": case, "job": "time", "number": 0, "session": "s", "status": "failed"}
    row = stored(tmp_path, {**launch, **strange}).launches.iloc[0]
    assert row[["median_ms", "load_ms", "steady", "drift", "samples"]].isna().all()
    assert (row["case"], row["status"]) == (case, "failed")


@pytest.mark.parametrize(
    ("kind", "fact", "value"),
    [("linear", "output_shapes", []), ("conv", "weight_shape", [1, 2**62, 2**62])],
)
def test_layers_that_contradict_themselves_are_refused(tmp_path, kind, fact, value):
    """Each fact by itself could be right; but no linear layer is without an output."""
    found = analysis("m@224", [100])
    row = found["rows"][0]
    row[found["columns"].index("kind")] = kind
    row[found["columns"].index(fact)] = value
    run = write_run(tmp_path, {}, analyses={"m@224": found})
    with pytest.raises(InputError, match="the layers of a stored analysis are malformed"):
        _ = run.layers


# Metrics of other packages ----------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch):
    """A metric that is registered now, and was not when the run was stored."""
    metric = TotalMetric("calls", "calls", "calls", "test", lambda layers, _: len(layers))
    monkeypatch.setitem(TOTAL_METRICS._entries, metric.name, metric)
    return metric


def test_a_run_that_was_stored_without_a_metric_misses_it(calls, run, tmp_path):
    assert tuple(run.cases.columns) == (*CASE_COLUMNS, "calls")
    assert run.cases["calls"].dtype == "float64"
    assert run.cases["calls"].isna().all()
    assert "calls" not in case_table(run).columns
    found = analysis("m@224", [100])
    del found["totals"]["calls"]
    stored = write_run(tmp_path / "other", {}, analyses={"m@224": found})
    assert stored.analyses["m@224"].calls is None
    assert stored.analyses["m@224"].macs == 100


def test_a_metric_of_another_package_comes_after_the_columns_of_today(calls, tmp_path):
    found = analysis("peleenet@64", [100, 200])
    case = "peleenet@64/opencv-cpu/b1/t1"
    run = write_run(tmp_path, {case: ("unavailable", "no cv2")}, analyses={"peleenet@64": found})
    assert run.cases["calls"].tolist() == [2.0]
    assert list(case_table(run).columns)[-2:] == ["status", "calls"]
    assert case_numbers()["calls"] == ".3f"
    assert case_low_priority()[0] == "calls"
    (row,) = page_data([run], case_rows([run]), "m")["cases"]
    assert row["metrics"] == {"calls": 2}


# Tables -----------------------------------------------------------------------------------------


def test_the_case_table_states_the_partial_ratio_that_ids_leave_out(tmp_path):
    ids = ["peleenet@64", "csppeleenet@64", "csppeleenet[gamma=0.25]@64"]
    cases = {f"{model}/opencv-cpu/b1/t1": ("unavailable", "no cv2") for model in ids}
    table = case_table(write_run(tmp_path / "a", cases))
    assert table["gamma"].tolist()[1:] == [0.5, 0.25]
    assert table["gamma"].isna().tolist() == [True, False, False]
    alike = case_table(write_run(tmp_path / "b", dict(list(cases.items())[:2])))
    assert "gamma" not in alike.columns, "one value tells no case from another"


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
    from cspbench.views.tables import _interval

    assert _interval(estimate, low, high) == text


def test_reasons_are_those_of_the_cases_without_numbers(run):
    assert reason_groups(run).to_numpy().tolist() == [
        [BROKEN, "failed", "NaN"],
        [ABSENT, "unavailable", "no NVIDIA driver"],
    ]


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "parquet"])
def test_every_table_of_a_run_with_failures_prints_in_every_form(run, form):
    frames = (run.cases, case_table(run), run.launches, launch_table(run), run.samples)
    for frame in (*frames, reason_groups(run)):
        assert render(frame, form, NUMBERS)


DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_every_column_is_documented():
    layers = {*LAYER_TIME_COLUMNS, *LAYER_COLUMNS}
    columns = {*CASE_COLUMNS, *LAUNCH_COLUMNS, *SAMPLE_COLUMNS, *layers}
    text = DOCUMENT.read_text()
    assert [column for column in sorted(columns) if f"`{column}`" not in text] == []
