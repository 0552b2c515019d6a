"""Untrusted runs and runs of older versions: reading checks and migrates them."""

import json
import shutil
from pathlib import Path

import pytest

from cspbench.errors import InputError
from cspbench.runner.run import stored_plan
from cspbench.store import migrate, rundir
from cspbench.store.lines import encode_line
from cspbench.store.records import records
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE, read_run

CASE = "peleenet@64/opencv-cpu/b1/t1"
META = {"format": 2, "suite": {"measure": {"rounds": 1}}, "cases": [{"id": CASE}]}
LAUNCH = {"case": CASE, "job": "time", "number": 0, "session": "s", "status": "failed"}
GOOD = {
    **LAUNCH, "status": "ok", "latencies_ns": [1_000_000], "load_ns": 1, "first_ns": 1,
    "warmup": {"count": 1, "steady": True}, "agreement": {"max_relative_error": 0.0},
}  # fmt: skip
CEILINGS = {"gflops": {"fp32": 1.0}, "bandwidth_gbs": {"triad": 1.0}, "overhead_us": 1.0}
#: Measured with the first version that stored runs (commit 01ffd2a); only its host has a new name.
OLD = Path(__file__).parent / "data" / "run-format-1"


def write(folder, meta=META, launches=(LAUNCH,)):
    (folder / RUN_FILE).write_text(json.dumps(meta))
    (folder / LAUNCHES_FILE).write_bytes(b"".join(map(encode_line, launches)))
    return folder


def test_what_is_missing_has_a_value_that_says_so(tmp_path):
    found = read_run(write(tmp_path))
    assert found.meta["run"] == tmp_path.name
    assert found.meta["cases"] == [{"id": CASE, "key": "", "status": None, "reason": ""}]
    assert (found.meta["environment"], found.meta["analyses"]) == ({}, {})
    (launch,) = found.launches
    assert (launch.reason, launch.flags, launch.seconds) == ("", [], 0.0)
    assert launch.result is None


UUID = "01234567-89ab-cdef-0123-456789abcdef"


def test_the_uuid_of_a_card_is_apart_from_its_name_also_in_older_runs(tmp_path):
    older, new = {"gpu": f"RTX (Ti) ({UUID})"}, {"gpu": "RTX (Ti)", "gpu_uuid": UUID}
    boards = {"old": {"environment": older}, "new": {"environment": new}}
    meta = {**META, "environment": older, "fleet": {"boards": boards}}
    found = read_run(write(tmp_path, meta)).meta
    assert found["environment"] == new
    for board in found["fleet"]["boards"].values():
        assert new.items() <= board["environment"].items()
    # A name that only looks like one stays whole.
    found = read_run(write(tmp_path, {**META, "environment": {"gpu": "RTX (Ti)"}})).meta
    assert found["environment"] == {"gpu": "RTX (Ti)"}


def test_a_setting_that_is_missing_stays_missing(tmp_path):
    measure = {"rounds": 1, "memory": False, "new": 1}
    found = read_run(write(tmp_path, {**META, "suite": {"measure": measure}}))
    assert found.meta["suite"]["measure"] == measure
    assert found.meta["suite"]["overrides"] == []


def test_a_run_with_a_setting_of_another_version_is_not_resumed(tmp_path):
    measure = {"rounds": 1, "new": 1}
    stored = read_run(write(tmp_path, {**META, "suite": {"measure": measure}}))
    with pytest.raises(InputError, match=r"does not know its setting 'measure\.new'"):
        stored_plan(stored)


def test_what_is_not_known_is_kept(tmp_path):
    meta = {**META, "extra": {"a": [1]}, "environment": {"board_colour": "green"}}
    found = read_run(write(tmp_path, meta))
    assert found.meta["extra"] == {"a": [1]}
    assert found.meta["environment"] == {"board_colour": "green"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cases": [{"id": "a b"}]}, "cases.0.id"),
        ({"cases": [{"id": CASE, "status": "great"}]}, "cases.0.status"),
        ({"suite": {"measure": {"rounds": 0}}}, "suite.measure.rounds"),
        ({"environment": {"memory_bytes": "much"}}, "environment.memory_bytes"),
        ({"analyses": {"m": {"totals": {"macs": 10**400}}}}, "analyses.m.totals.macs"),
        ({"ceilings": {"cpu/t1": {"gflops": {"fp32": -1.0}}}}, "ceilings.cpu/t1.gflops.fp32"),
        ({"ceilings": {"cpu/t1": {**CEILINGS, "gflops": {}}}}, "fp32 is missing"),
        ({"ceilings": {"cpu/t1": {**CEILINGS, "gflops": {"fp32": 0}}}}, "gflops.fp32"),
        ({"ceilings": {"cpu/t1": {**CEILINGS, "bandwidth_gbs": {}}}}, "triad is missing"),
        ({"ceilings": {"cpu/t1": {**CEILINGS, "overhead_us": 0.0}}}, "overhead_us"),
        ({"run": "../elsewhere"}, "run: "),
        ({"run": "a\0"}, "run: "),
        ({"analyses": {"m": {"places": []}}}, "analyses.m.places"),
        ({"analyses": {"m": {"places": {"max_layer_bflops": None}}}}, "places.max_layer_bflops"),
        ({"environment": {"boards": 5}}, "environment.boards"),
        ({"suite": {"measure": {"rounds": 1, "seed": "x"}}}, "suite.measure.seed"),
        ({"suite": {"measure": {"rounds": 1, "timeout_seconds": 1e9}}}, "measure.timeout_seconds"),
        ({"format": 0}, "there is no run format 0"),
    ],
)
def test_a_description_that_is_none_names_the_place(tmp_path, change, said):
    with pytest.raises(InputError, match="does not describe a run: ") as refused:
        read_run(write(tmp_path, {**META, **change}))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        {"latencies_ns": []},
        {"latencies_ns": [0]},
        {"latencies_ns": [10**400]},
        {"latencies_ns": ["fast"]},
        {"load_ns": None},
        {"warmup": {"count": 1}},
        {"agreement": {"max_relative_error": "none"}},
        {"number": -1},
        {"flags": "contended"},
        {"energy": {"power_w": 1.0}},
        {"interference": {"seconds": 1.0, "load_1m_before": None, "load_1m_after": 1.0}},
        {"job": "layers", "layers": {"entries": [], "nodes": [], "total_ns": 0}},
        {
            "job": "layers",
            "layers": {"entries": [], "nodes": [["a", "Conv", [1], []]], "total_ns": 1},
        },
        {"case": "nonsense"},
    ],
)
def test_a_launch_that_is_none_is_skipped_and_named(tmp_path, change):
    found = read_run(write(tmp_path, launches=[GOOD, {**GOOD, **change}, {**GOOD, "number": 2}]))
    assert [launch.number for launch in found.launches] == [0, 2]
    (problem,) = found.problems
    assert "launch 1 is malformed, skipped: " in problem


@pytest.mark.parametrize("text", ["NaN", "-Infinity", "[" * 5000, '{"format": NaN}'])
def test_what_only_pythons_parser_takes_for_json_is_none(tmp_path, text):
    (tmp_path / RUN_FILE).write_text(text)
    with pytest.raises(InputError, match=r"run\.json"):
        read_run(tmp_path)


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.setattr(rundir, "MAX_LAUNCHES_BYTES", 10)
    with pytest.raises(InputError, match=r"launches\.jsonl cannot be read: larger than"):
        read_run(tmp_path)


# Older formats ----------------------------------------------------------------------------------


def test_a_run_of_format_1_reads_as_todays(tmp_path):
    found = read_run(shutil.copytree(OLD, tmp_path / "old"))
    assert (found.meta["format"], found.problems) == (migrate.FORMAT, [])
    (record,) = records(found)
    assert (record.status.value, len(record.good)) == ("ok", 2)
    # Median of five samples of either launch, then of the two: (31.934727 + 28.826641) / 2.
    assert record.latency_ms.estimate == pytest.approx(30.380684)


def test_resumed_a_run_of_format_1_measures_no_more_than_it_planned():
    """Settings that came later have a default today; then they did not exist."""
    plan = stored_plan(read_run(OLD))
    measure = plan.suite.measure
    assert (measure.memory, measure.layers, measure.ceilings, measure.sensors) == (
        False, False, False, "none",
    )  # fmt: skip


def test_what_is_read_is_not_written_back(tmp_path):
    folder = shutil.copytree(OLD, tmp_path / "old")
    before = (folder / RUN_FILE).read_bytes()
    read_run(folder)
    assert (folder / RUN_FILE).read_bytes() == before


def test_every_older_format_has_its_step():
    assert sorted(migrate.STEPS) == list(range(1, migrate.FORMAT))
