"""``cspbench explain``: really measured once, then read in every form."""

import json
import os

import pytest

from tests.attribution.stored import (
    PARTIAL,
    PLAIN,
    case,
    keep_invented_ceilings,
    measure_briefly,
    pair_run,
)


def test_two_networks_are_measured_and_explained(call, shared_environment, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", shared_environment["CSPBENCH_CACHE"])
    measure_briefly(monkeypatch)
    ceilings = keep_invented_ceilings()
    code, out, err = call(
        "explain", "resnet10@64", "cspresnet10@64", "--rounds", "2", "--format", "json"
    )
    os.unlink(ceilings)
    assert code == 0, err
    found = json.loads(out)
    assert found["a"]["case"] == "resnet10@64/opencv-cpu/b1/t1"
    assert found["difference_ms"] == pytest.approx(
        found["b"]["latency_ms"] - found["a"]["latency_ms"]
    )
    assert sum(row["difference_ms"] for row in found["parts"]) == pytest.approx(
        found["difference_ms"]
    )
    # OpenCV's profile has the concatenations that end the four partial stages.
    entries = {(row["stage"], row["role"]): row["b_entries"] for row in found["groups"]}
    assert [entries[f"stages.{stage}", "concatenation"] for stage in range(4)] == [1, 1, 1, 1]
    assert entries["stages.0", "3x3 convolution"] >= 2
    # The stored run is explained again, by the names of the models alone.
    code, out, err = call("explain", "resnet10", "cspresnet10", "--run", "latest")
    assert code == 0, err
    assert found["sentences"][0] in out
    assert "Verdict: " in out


@pytest.fixture
def stored(call, tmp_path):
    """Explains the invented run in this process."""
    run = pair_run(tmp_path / "results")

    def explain(*arguments):
        return call("explain", case(PLAIN), case(PARTIAL), "--run", run.name, *arguments)

    return explain


def test_a_terminal_gets_sentences_and_two_tables(stored):
    code, out, _ = stored()
    assert code == 0
    assert out.startswith("B is slower by 2.00 ms")
    assert "arithmetic" in out
    assert "concatenation copies" not in out  # neither has any
    assert "time outside the layers" in out


@pytest.mark.parametrize(("form", "first"), [("csv", "part,cause,a_ms"), ("md", "| part")])
def test_other_forms_are_the_table_alone(stored, form, first):
    code, out, _ = stored("--format", form)
    assert code == 0
    assert out.startswith(first)


def test_rows_may_be_groups_or_layers(stored):
    assert stored("--by", "groups", "--format", "csv")[1].startswith("stage,role,a_entries")
    rows = json.loads(stored("--by", "layers", "--format", "json")[1])
    assert len(rows) == 8


def test_json_may_go_to_a_file(stored, tmp_path):
    code, out, _ = stored("--format", "json", "--out", "why.json")
    assert (code, out.strip()) == (0, "why.json")
    assert json.loads((tmp_path / "why.json").read_text())["verdict"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("pelenet", "csppeleenet"), "unknown model 'pelenet'"),
        (("a", "b", "--run", "nothing"), "there is no run 'nothing'"),
        (("peleenet@64", "csppeleenet@64", "--backend", "opencv"), "unknown backend 'opencv'"),
        (("a", "b", "--run", "x", "--rounds", "5"), "--rounds: settings of a new measurement"),
        (
            ("a", "b", "--run", "x", "--batch", "2", "--threads", "1", "--backend", "openvino"),
            "--backend and --batch and --threads: settings of a new measurement",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(call, arguments, sentence):
    code, out, err = call("explain", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.splitlines()) == 1
