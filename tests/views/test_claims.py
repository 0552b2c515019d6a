"""A measured case as a line to quote, and its phases from load to steady state."""

import json

import pytest

from cspbench.cli.main import main
from cspbench.core.case import Case
from cspbench.views.claims import claims, weights_of
from cspbench.views.phases import phases
from tests.report.runs import full_run, time_launch, write_run

PLAIN = "peleenet@224/opencv-cpu/b1/t1"
SPLIT = "csppeleenet@224/opencv-cpu/b1/t1"


def launches(case, *medians_ms):
    return [time_launch(case, number, [ms] * 100) for number, ms in enumerate(medians_ms)]


def test_a_claim_holds_all_its_conditions(tmp_path):
    run = write_run(tmp_path, {PLAIN: launches(PLAIN, 10.0, 10.0, 10.0)})
    assert claims([run]) == [
        {
            "case": PLAIN,
            "claim": "peleenet@224, batch 1: 10.00 ms an inference (95 % interval 10.00 to 10.00, "
            "3 processes), 100.0 fps, on opencv-cpu 5.0.0, fp32, 1 thread, scope inference; "
            "Test CPU, 4 cores, Test OS 1; random weights, no accuracy measured; cspbench 0.1.0, "
            "2026-01-02.",
        }
    ]


def test_one_process_has_no_interval_and_flags_are_told(tmp_path):
    [noisy] = launches(PLAIN, 10.0)
    run = write_run(tmp_path, {PLAIN: [noisy | {"flags": ["contended"]}]})
    [row] = claims([run])
    assert "(1 process, no interval)" in row["claim"]
    assert row["claim"].endswith("; flags: contended, few_samples.")


def test_a_case_that_was_not_measured_claims_nothing(tmp_path):
    assert claims([write_run(tmp_path, {PLAIN: ("unavailable", "no such library")})]) == []


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("peleenet", "random weights"),
        ("timm:resnet18", "random weights"),
        ('timm:resnet18[weights="/nets/resnet18.pth"]', "weights of resnet18.pth"),
        ("onnx:net.onnx", "the model's own weights"),
        ("python:net.py:build", "the model's own weights"),
        ("darknet:net.cfg", "random weights"),
    ],
)
def test_where_weights_come_from(model, weights):
    assert weights_of(Case.parse(f"{model}@224/opencv-cpu/b1/t1")) == weights


def test_phases_by_hand(tmp_path):
    """Loading takes 12 ms, the first inference 9 ms: 9 / 12 steady ones. 1 MiB, then 1.5, 3."""
    rows = {row["case"]: row for row in phases(full_run(tmp_path))}
    assert rows[PLAIN] | {"first_times": None, "latency_ms": None} == {
        "case": PLAIN, "load_ms": 12.0, "compile_seconds": 3.0, "loaded_bytes": 2**20,
        "first_ms": 9.0, "first_times": None, "after_first_bytes": 2**20 + 2**19,
        "warmup_count": 10, "latency_ms": None, "peak_memory_bytes": 3 * 2**20,
    }  # fmt: skip
    assert rows[PLAIN]["first_times"] == pytest.approx(9 / 12, rel=0.05)
    assert rows[SPLIT]["loaded_bytes"] is None  # its memory was not measured


def test_a_compilation_that_was_fetched_has_no_time(tmp_path):
    fetched = {key: value for key, value in time_launch(PLAIN, 1, [1.0]).items()
               if key != "latencies_ns"}  # fmt: skip
    fetched |= {"job": "compile", "compile_seconds": 0.1, "compile_cached": True}
    [row] = phases(write_run(tmp_path, {PLAIN: [*launches(PLAIN, 10.0), fetched]}))
    assert row["compile_seconds"] is None


def test_the_command_prints_them(tmp_path, capsys):
    run = write_run(tmp_path, {PLAIN: launches(PLAIN, 10.0, 10.0)})
    for words in (["--claims"], ["--claims", "--format", "json"], ["--phases", "--format", "json"]):
        with pytest.raises(SystemExit) as end:
            main(["show", str(run.path), *words])
        assert end.value.code == 0
        out = capsys.readouterr().out
        if "json" not in words:
            assert out.startswith("peleenet@224, batch 1: 10.00 ms an inference")
        else:
            assert [row["case"] for row in json.loads(out)] == [PLAIN]


def test_the_partial_ratio_is_stated_where_the_id_leaves_it_out(tmp_path):
    """csppeleenet's default is 0.5; peleenet has none."""
    run = write_run(tmp_path, {SPLIT: launches(SPLIT, 8.0, 8.0)})
    assert claims([run])[0]["claim"].startswith("csppeleenet[gamma=0.5]@224, batch 1: 8.000 ms")
