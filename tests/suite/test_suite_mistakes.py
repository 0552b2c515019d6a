"""Every mistake is one sentence with its place, and all of them are told at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cspbench.errors import InputError
from cspbench.suite.catalog import Catalog
from cspbench.suite.load import load_suite

Mistakes = Callable[..., list[str]]

MATRIX = "name: x\nmatrix: {model: [plain], backend: [cpu]}\n"
VALID_AXES = (
    "valid: model, neck, input, batch, threads, backend, precision, csp, act, csp.fusion, "
    "csp.gamma, csp.split, engine, fusion, gamma, mode"
)
SIZE = "must be a size in pixels from 1 on: 320, 320x416 or [320, 416] (height, width), not"
COUNT = "must be a whole number from 1 to 999999, not"
FRACTION = "must be a number strictly between 0 and 1, not"
NAME = (
    "is not a name: up to 80 letters, digits, dots, hyphens and underscores are allowed, the first "
    "a letter or digit (no path separators)"
)


def matrix(axis: str, value: str, model: str = "csp") -> str:
    return f"name: x\nmatrix:\n  model: [{model}]\n  backend: [cpu]\n  {axis}: {value}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        # Names
        ("matrx: 1\n" + MATRIX, ("1:1: unknown key 'matrx' (did you mean 'matrix'?); valid: name, "
         "description, defaults, matrix, exclude, include, reference, labels, devices, measure, "
         "gate")),
        (matrix("gama", "[0.5]"),
         f"5:3: matrix: unknown axis 'gama' (did you mean 'gamma'?); {VALID_AXES}"),
        (matrix("neck", "[pnr]"), "5:10: matrix.neck: unknown neck 'pnr' (did you mean 'prn'?)"),
        (matrix("neck", "[7]"),
         "5:10: matrix.neck: must be the name of a neck, or none, not 7"),
        (matrix("batch", "1", "plane"),
         "3:11: matrix.model: unknown model 'plane' (did you mean 'plain'?)"),
        (matrix("batch", "1", "zzz"), ("3:11: matrix.model: unknown model 'zzz'; "
         "valid: csp, plain, staged, whole")),
        (matrix("batch", "1", "fle:a"),
         "3:11: matrix.model: unknown source 'fle' (did you mean 'file'?)"),
        (matrix("batch", "1", "file:nets/a.cfg"),
         "3:11: matrix.model: nets/a.cfg: no such file"),
        (matrix("batch", "1", '"csp[gama=1]"'), ("3:11: matrix.model: csp has no option 'gama' "
         "(did you mean 'gamma'?); valid: fusion, gamma")),
        (matrix("batch", "1", '"csp["'),
         "3:11: matrix.model: id 'csp[': at 'the end' key=value was expected"),
        (matrix("batch", "1", "whole+prn"), "3:11: matrix.model: whole takes no neck"),
        (matrix("fusion", "[lst]"), ("5:12: matrix.fusion: must be one of csp, first, last, "
         "not 'lst' (did you mean 'last'?)")),
        ("name: x\nmatrix: {model: [plain], backend: [cup]}\n",
         "2:36: matrix.backend: unknown backend 'cup' (did you mean 'cpu'?)"),
        # Gamma: by type, and by whole widths
        (matrix("gamma", "[1.5]"), f"5:11: matrix.gamma: {FRACTION} 1.5"),
        (matrix("gamma", "[0]"), f"5:11: matrix.gamma: {FRACTION} 0"),
        (matrix("gamma", "[.nan]"), f"5:11: matrix.gamma: {FRACTION} nan"),
        (matrix("gamma", "['0.5']"), f"5:11: matrix.gamma: {FRACTION} '0.5'"),
        (matrix("gamma", "[[0.5]]"), "5:11: matrix.gamma: must be one value, not a list"),
        (matrix("csp", "[{gamma: 0.3}]", "staged"), ("5:17: matrix.csp.gamma: csp.gamma 0.3 splits "
         "128 channels into 38.4, which is not whole (for staged)")),
        (matrix("csp", "[{gama: 0.5}]", "staged"), ("5:10: matrix.csp: unknown axis 'csp.gama' "
         f"(did you mean 'csp.gamma'?); {VALID_AXES}")),
        (matrix("csp", "[5]", "staged"),
         "5:9: matrix.csp: must be none or a mapping such as {gamma: 0.5}, not 5"),
        # Inputs and sizes
        (matrix("input", "[100]"), ("5:11: matrix.input: must be a multiple of 32, not 100; "
         "nearest: 96 or 128 (for csp)")),
        (matrix("input", "[32]"),
         "5:11: matrix.input: must be at least 64 pixels a side, not 32 (for csp)"),
        (matrix("input", "[65]"),
         "5:11: matrix.input: must be a multiple of 32, not 65; nearest: 64 or 96 (for csp)"),
        (matrix("input", "[0]"), f"5:11: matrix.input: {SIZE} 0"),
        (matrix("input", "[-32]"), f"5:11: matrix.input: {SIZE} -32"),
        (matrix("input", "[64.0]"), f"5:11: matrix.input: {SIZE} 64.0"),
        (matrix("input", "[[64, 64, 3]]"), f"5:11: matrix.input: {SIZE} [64, 64, 3]"),
        (matrix("input", "[1x]"), ("5:11: matrix.input: '1x' is not an input size; write 320 or "
         "320x416 (height x width)")),
        (matrix("batch", "[1]", "csp@70"),
         "3:11: matrix.model: must be a multiple of 32, not 70; nearest: 64 or 96"),
        (matrix("batch", "[0]"), f"5:11: matrix.batch: {COUNT} 0"),
        (matrix("threads", "-1"), f"5:12: matrix.threads: {COUNT} -1"),
        (matrix("threads", "[true]"), f"5:13: matrix.threads: {COUNT} true"),
        # Nothing there
        ("", "1:1: is empty; a suite is a mapping with name and matrix"),
        ("# later\n", "1:1: is empty; a suite is a mapping with name and matrix"),
        ("- a\n", "1:1: holds a list; a suite is a mapping with name and matrix"),
        ("name: x\n", "1:1: matrix: is missing: give a matrix, or include"),
        ("name: x\nmatrix: {}\n", "2:1: matrix: is empty; give at least model and backend"),
        ("name: x\nmatrix:\n", "2:1: matrix: must be a mapping (key: value), not nothing"),
        (matrix("batch", "[]"), "5:10: matrix.batch: is empty; give at least one value"),
        ("matrix: {model: [plain], backend: [cpu]}\n", "1:1: name: is missing"),
        ("name: x\nmatrix: {model: [plain]}\n",
         "2:1: matrix: no backend is given, neither here nor in defaults"),
        (MATRIX + "exclude: [{}]\n",
         "3:11: exclude: an item is empty; it would leave out every case"),
        (MATRIX + "exclude: [{batch: 1}]\n", "2:1: matrix: every case is excluded"),
        # Given twice
        (MATRIX + "name: y\n", "3:1: 'name' is given twice, first on line 1"),
        (matrix("csp", "{gamma: 0.5}\n  csp.gamma: 0.25", "staged"),
         "6:3: matrix.csp.gamma: csp.gamma is given twice"),
        # Names of suites
        ("name: a/b\nmatrix: {model: [plain], backend: [cpu]}\n", f"1:7: name: 'a/b' {NAME}"),
        ("name: ..\nmatrix: {model: [plain], backend: [cpu]}\n", f"1:7: name: '..' {NAME}"),
        ("name: 5\nmatrix: {model: [plain], backend: [cpu]}\n", "1:7: name: must be text, not 5"),
        # Include: what is written there must have an effect
        (MATRIX + "include: [{model: plain, backend: cpu, gamma: 0.5}]\n",
         "3:47: include.gamma: neither plain nor cpu has this axis, or its name already fixes it"),
        (MATRIX + "include: [{model: whole, backend: cpu, neck: prn}]\n",
         "3:46: include.neck: whole takes no neck, or the model's name already fixes one"),
        (MATRIX + "include: [{model: plain@64, backend: cpu, input: 96}]\n",
         "3:50: include.input: the model's name already fixes the input; give it once"),
        (MATRIX + "include: [{model: plain}]\n",
         "3:11: include: no backend is given, neither here nor in defaults"),
        (MATRIX + "include: [{model: [plain], backend: cpu}]\n",
         "3:19: include.model: must be the name of a model, not a list"),
        (MATRIX + "include: [{model: staged, backend: cpu, csp: {fusion: none, gamma: 0.5}}]\n",
         "3:68: include.csp.gamma: has no effect without a csp.fusion"),
        # Precision
        ("name: x\ndefaults: {precision: fp16}\nmatrix: {model: [plain], backend: [cpu, cuda]}\n",
         ("2:23: defaults.precision: must be fp32, not fp16: the backend has no other precision "
         "(for cpu)")),
        (matrix("precision", "fp61"), ("5:14: matrix.precision: must be one of fp32, tf32, fp16, "
         "not 'fp61' (did you mean 'fp16'?)")),
        # Measure and gate
        (MATRIX + "measure: {round: 5}\n", ("3:11: measure: unknown key 'round' (did you mean "
         "'rounds'?); valid: rounds, together, target_ratio, warmup, target_ci, max_seconds, "
         "min_seconds, budget_seconds, timeout_seconds, memory, ceilings, device_times, "
         "layers, replay, throughput, energy, trace, sensors, seed")),
        (MATRIX + "measure: {rounds: 2.5}\n",
         "3:19: measure.rounds: must be a whole number, not 2.5"),
        (MATRIX + "measure: {rounds: 0}\n", "3:19: measure.rounds: must be at least 1, not 0"),
        (MATRIX + "measure: {rounds: 1001}\n",
         "3:19: measure.rounds: must be at most 1000, not 1001"),
        (MATRIX + "measure: {memory: 1}\n",
         "3:19: measure.memory: must be true or false, not 1"),
        (MATRIX + "measure: {warmup: soon}\n",
         "3:19: measure.warmup: must be auto or a number of seconds, not 'soon'"),
        (MATRIX + "measure: {target_ci: 2}\n",
         "3:22: measure.target_ci: must be a share such as 2% or 0.02 (0 to 100 %), not 2"),
        (MATRIX + "measure: {target_ci: 0%}\n",
         "3:22: measure.target_ci: must be greater than 0, not 0.0"),
        (MATRIX + "measure: {max_seconds: .inf}\n",
         "3:24: measure.max_seconds: must be a finite number, not inf"),
        (MATRIX + "measure: {max_seconds: 10, timeout_seconds: 5}\n",
         ("3:10: measure: timeout_seconds is 5, but warm-up or sampling may take 10 s; "
         "raise it, or lower warmup or max_seconds")),
        (MATRIX + "measure: 5\n", "3:10: measure: must be a mapping (key: value), not 5"),
        (MATRIX + "gate: {macs: -1%}\n",
         "3:14: gate.macs: must be a share such as 2% or 0.02 (0 to 100 %), not '-1%'"),
        (MATRIX + "gate: {latency: {min_effct: 1%}}\n", ("3:18: gate.latency: unknown key "
         "'min_effct' (did you mean 'min_effect'?); valid: min_effect, tolerance")),
        # YAML itself
        ("name: x\nmatrix:\n\tmodel: [plain]\n",
         "3:1: the line is indented with a tab; YAML allows only spaces"),
        ("name: x\nmatrix:\n  model:\n  \t- plain\n",
         "4:3: the line is indented with a tab; YAML allows only spaces"),
        (b"name: x\nmatrix: {a\xc3\xa4\xff: 1}\n", "2:12: byte 0xff is not UTF-8"),
        ("name: x\nmatrix: \x00\n", "2:9: the character U+0000 is not allowed in YAML"),
        ("name: x\n---\nname: y\n", ("2:1: not valid YAML: expected a single document in the "
         "stream, but found another document")),
        (matrix("batch", "[1]", "csp[gamma=0.5]"), ("3:14: not valid YAML: while parsing a flow "
         "sequence, expected ',' or ']', but got '['; inside [ ] and { } quote a name with "
         'options: "name[key=value]"')),
        ("name: x\nmatrix: &m {model: *m}\n",
         "2:9: matrix.model: an alias refers to a value that contains it"),
        (f"description: {'a' * 1001}\n" + MATRIX,
         "1:14: description: 1,001 characters; at most 1,000 are allowed"),
        ("name: !!python/object:os.system x\n",
         "1:7: name: the tag !!python/object:os.system is not allowed"),
        ("a: &a {model: plain}\ninclude: [{<<: *a}]\n",
         "2:12: merge keys (<<) are not part of YAML 1.2; write the keys"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_sentence(mistakes: Mistakes, text: str | bytes, sentence: str) -> None:
    assert mistakes(text) == [f"x.yaml:{sentence}"]


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(mistakes: Mistakes) -> None:
    found = mistakes("""\
name: a/b
defaults: {thread: 1}
matrix:
  model: [plane, csp]
  gamma: [2, 0.5]
  input: 100
  backend: [cup, cpu]
exclude:
  - {model: pain}
  - 5
include:
  - {model: whole, backend: cpu, batch: 0}
measure: {round: 5}
""")
    places = [problem.split(": ")[0] for problem in found]
    assert places == [f"x.yaml:{place}" for place in (
        "1:7", "2:12", "4:11", "5:11", "6:10", "7:13", "9:13", "10:5", "12:41", "13:11"
    )]  # fmt: skip


def test_one_value_that_several_models_refuse_is_one_sentence(mistakes: Mistakes) -> None:
    found = mistakes(matrix("input", "[100]", "csp, plain, whole, staged"))
    assert found == [
        (
            "x.yaml:5:11: matrix.input: must be a multiple of 32, not 100; nearest: 96 or 128 "
            "(for csp, plain, whole and 1 more)"
        )
    ]


def test_a_large_matrix_is_refused_before_it_is_expanded(mistakes: Mistakes) -> None:
    # 101 x 100 x 1 x 1 = 10,100 is over the bound; 100 x 100 is not.
    many, hundred = list(range(1, 102)), list(range(1, 101))
    text = "name: x\nmatrix:\n  batch: {}\n  threads: {}\n  model: [plain]\n  backend: [cpu]\n"
    assert mistakes(text.format(many, hundred)) == [
        (
            "x.yaml:2:1: matrix: 101 x 100 x 1 x 1 = 10,100 combinations, more than the 10,000 "
            "that a suite may have"
        )
    ]


def test_ten_thousand_cases_are_allowed(load: Callable[..., object]) -> None:
    hundred = list(range(1, 101))
    suite = load(
        f"name: x\nmatrix: {{batch: {hundred}, threads: {hundred}, model: plain, backend: cpu}}\n"
    )
    assert len(suite.cases) == 10_000  # type: ignore[attr-defined]


def test_an_alias_is_fine_and_a_bomb_is_not(
    load: Callable[..., object], mistakes: Mistakes
) -> None:
    assert load("""\
name: x
matrix: {model: [plain], backend: &backends [cpu, cuda]}
exclude: [{backend: *backends, batch: 2}]
""")
    levels = [f"k{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else 'x'] * 10)}]" for i in range(9)]
    found = mistakes("\n".join(levels))
    assert found[-1].endswith("aliases expand to more than 20,000 values")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("none.yaml", "none.yaml: no such suite file; see: cspbench list suites"),
        ("folder", "folder: is a directory; name a suite file in it"),
        ("large.yaml", "large.yaml: larger than 256 KiB; a suite is smaller"),
        ("nu\0ll", "nu\0ll: cannot be read: embedded null byte"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog, name: str, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("large.yaml").write_text("#" * (256 * 1024 + 1))
    with pytest.raises(InputError) as caught:
        load_suite(Path(name), catalog=catalog)
    assert caught.value.problems == (sentence,)
