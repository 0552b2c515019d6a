"""Sections besides the matrix, values of the command line, files beside the suite."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from cspbench.suite.catalog import Catalog
from cspbench.suite.load import load_suite
from cspbench.suite.rules import RULES
from cspbench.suite.suite import Gate, Measure, Suite

Load = Callable[..., Suite]
Mistakes = Callable[..., list[str]]

MATRIX = "name: x\nmatrix: {model: [plain], backend: [cpu]}\n"


def ids(suite: Suite) -> list[str]:
    return [case.id for case in suite.cases]


def test_what_a_suite_says_of_itself(load: Load) -> None:
    text = "name: a.b-c_1\ndescription: γ of a model\nmatrix: {model: plain, backend: cpu}\n"
    suite = load(text)
    assert (suite.name, suite.description, suite.path) == ("a.b-c_1", "γ of a model", "x.yaml")
    assert suite.digest == hashlib.sha256(text.encode()).hexdigest()
    assert suite.measure == Measure()
    assert suite.gate == Gate()


def test_a_byte_order_mark_and_windows_line_ends_are_fine(load: Load) -> None:
    assert load(b"\xef\xbb\xbf" + MATRIX.replace("\n", "\r\n").encode()).name == "x"


def test_labels_name_the_networks_of_the_cases_that_a_pattern_matches(load: Load) -> None:
    suite = load(
        "name: x\nlabels: {'plain*': June, '*gamma=0.25*': a quarter}\n"
        "matrix: {model: [plain, csp], gamma: [0.25, 0.5], backend: [cpu]}\n"
    )
    labels = dict(suite.labels)
    assert labels.pop(str(suite.cases[0].model_id)) == "June"
    [(model, label)] = labels.items()
    assert "gamma=0.25" in model
    assert label == "a quarter"


def test_a_label_of_no_case_is_a_mistake(mistakes: Mistakes) -> None:
    [sentence] = mistakes(MATRIX + "labels: {'old*': June}\n")
    assert sentence.startswith("x.yaml:3:10: labels")
    assert sentence.endswith("'old*' matches no case")


def test_empty_sections_say_nothing(load: Load) -> None:
    assert load(MATRIX + "description:\ndefaults:\nexclude:\ninclude:\nmeasure:\ngate:\n").cases


def test_measure(load: Load) -> None:
    suite = load(
        MATRIX + "measure: {rounds: 3, warmup: 1, target_ci: 2.5%, max_seconds: 4, seed: 7, "
        "timeout_seconds: 60}\n"
    )
    assert suite.measure == Measure(
        rounds=3, warmup_seconds=1.0, target_ci=0.025, max_seconds=4.0, timeout_seconds=60.0, seed=7
    )


@pytest.mark.parametrize(
    ("written", "share"), [("2%", 0.02), ("2 %", 0.02), ("0.02", 0.02), ("100%", 1.0)]
)
def test_shares_as_percent_or_number(load: Load, written: str, share: float) -> None:
    assert load(MATRIX + f"measure: {{target_ci: {written}}}\n").measure.target_ci == share


def test_warmup_auto_keeps_the_bound(load: Load) -> None:
    assert load(MATRIX + "measure: {warmup: auto}\n").measure.warmup_seconds == 2.0


def test_gate(load: Load) -> None:
    suite = load(
        MATRIX + "gate: {macs: 0%, peak_live_bytes: 2%, peak_memory_bytes: 10%, "
        "latency: {min_effect: 4%, tolerance: 6%}}\n"
    )
    assert suite.gate == Gate(
        rules=(("macs", 0.0), ("peak_live_bytes", 0.02), ("peak_memory_bytes", 0.1)),
        min_effect=0.04,
        tolerance=0.06,
    )


def test_a_dotted_value_of_the_command_line_replaces_a_setting(load: Load) -> None:
    suite = load(
        MATRIX + "measure: {rounds: 3}\n",
        {"measure.rounds": "4", "measure.target_ci": "1%", "defaults.batch": "2", "name": "y"},
    )
    assert (suite.measure.rounds, suite.measure.target_ci, suite.name) == (4, 0.01, "y")
    assert ids(suite) == ["plain@224/cpu/b2/t1"]
    assert suite.notes[0] == "set: measure.rounds=4"


def test_an_axis_of_the_command_line_holds_for_every_case(load: Load) -> None:
    suite = load(
        """\
name: x
defaults: {threads: 4}
matrix: {model: [plain, plain@96], threads: [1, 2], backend: [cpu, cuda]}
include: [{model: whole, backend: cpu, threads: 3}]
""",
        {"threads": "8", "engine": "new", "input": "64"},
    )
    assert ids(suite) == [
        "plain@64/cpu[engine=new]/b1/t8",
        "plain@64/cuda/b1/t8",
        "whole@64/cpu[engine=new]/b1/t8",
    ]


def test_a_matrix_axis_may_be_replaced_by_a_list(load: Load) -> None:
    suite = load(MATRIX, {"matrix.batch": "[1, 2]"})
    assert ids(suite) == ["plain@224/cpu/b1/t1", "plain@224/cpu/b2/t1"]


def test_csp_options_of_the_command_line(load: Load) -> None:
    text = "name: x\nmatrix: {model: [staged], csp: [none, {gamma: 0.25}], backend: [cpu]}\n"
    assert ids(load(text, {"csp.gamma": 0.5, "csp.fusion": "last"})) == [
        "staged[csp.fusion=last]@224/cpu/b1/t1"
    ]


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("measure.rounds", "0", "--set measure.rounds=0: must be at least 1, not 0"),
        ("threads", "0", "--set threads=0: must be a whole number from 1 to 999999, not 0"),
        ("measure.round", "1", ("--set measure.round=1: unknown key 'round' (did you mean "
         "'rounds'?); valid: rounds, together, target_ratio, warmup, target_ci, max_seconds, "
         "min_seconds, budget_seconds, timeout_seconds, memory, ceilings, device_times, "
         "layers, replay, throughput, energy, trace, sensors, seed")),
        ("model", "plane", "--set model=plane: unknown model 'plane' (did you mean 'plain'?)"),
        ("input", "100",
         "--set input=100: must be a multiple of 32, not 100; nearest: 96 or 128 (for plain)"),
        ("include.model", "plain", "--set include.model=plain: include cannot be set by parts"),
        ("threads", "[", ("--set threads=[: not valid YAML: while parsing a flow node, expected "
         "the node content, but found '<stream end>'")),
    ],
)  # fmt: skip
def test_mistakes_of_the_command_line_name_it(
    mistakes: Mistakes, key: str, value: str, sentence: str
) -> None:
    assert mistakes(MATRIX, {key: value}) == [sentence]


def test_an_unknown_axis_of_the_command_line(mistakes: Mistakes) -> None:
    (sentence,) = mistakes(MATRIX, {"thread": "2"})
    assert sentence.startswith(
        "--set thread=2: unknown axis 'thread' (did you mean 'threads'?); valid: model, neck"
    )


def test_files_are_relative_to_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog
) -> None:
    (tmp_path / "suites/nets").mkdir(parents=True)
    (tmp_path / "suites/nets/a.cfg").touch()
    suite = tmp_path / "suites/x.yaml"
    suite.write_text("name: x\nmatrix: {model: ['file:nets/a.cfg@16'], backend: [cpu]}\n")
    # Case ids name the file as the working directory sees it.
    monkeypatch.chdir(tmp_path)
    assert ids(load_suite(Path("suites/x.yaml"), catalog=catalog)) == [
        '"file:suites/nets/a.cfg"@16/cpu/b1/t1'
    ]
    monkeypatch.chdir(tmp_path / "suites")
    assert ids(load_suite(Path("x.yaml"), catalog=catalog)) == ['"file:nets/a.cfg"@16/cpu/b1/t1']


def test_the_rule_for_a_devices_memory_reads_the_peak_of_a_later_inference():
    """Where there is no device both sides have 1 byte, which never changes."""
    rule = RULES.get("device_peak_bytes")
    for peak, value in ((3 * 2**20, 3 * 2**20), (None, 1)):
        result = SimpleNamespace(memory=SimpleNamespace(device_peak_bytes=peak))
        assert rule.value(result) == value
    assert rule.job == "memory"
