"""Whatever the file holds, the answer is a suite or an InputError, and soon."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspbench.errors import InputError
from cspbench.suite.catalog import Catalog
from cspbench.suite.load import load_suite
from cspbench.suite.tree import MAX_BYTES

SETTINGS = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

GOOD = """\
name: x
description: all sections
defaults: {input: 224, batch: 1, precision: fp32, threads: 1}
matrix:
  model: [plain, csp, "csp[gamma=0.25]", staged+prn@64]
  gamma: [0.25, 0.5]
  csp: [none, {gamma: 0.5, fusion: last}]
  backend: [cpu, cuda]
exclude:
  - {gamma: 0.5, backend: cpu}
include:
  - {model: whole, backend: cpu, input: 416}
measure: {rounds: 5, warmup: auto, target_ci: 2%, max_seconds: 6}
gate: {macs: 0%, latency: {min_effect: 3%, tolerance: 5%}}
"""

WORDS = [
    *("name", "matrix", "defaults", "exclude", "include", "measure", "gate", "model", "neck"),
    *("input", "batch", "threads", "backend", "precision", "gamma", "csp", "csp.gamma", "rounds"),
    *("plain", "csp", "staged", "whole", "prn", "cpu", "cuda", "none", "fp16", "auto", "2%"),
    *("&a", "*a", "<<", "!!str", "!x", "|", ">", "---", "...", "%YAML 1.1", "? ", ": ", "- "),
    *("[", "]", "{", "}", ",", "'", '"', "#", "\n", "\n  ", "\n    ", "\t", " ", "\0", "\ufeff"),
    *("0", "-1", "0.5", ".nan", ".inf", "1e999", "0x", "0o8", "+_", "1_0", "12:30", "2020-13-45"),
    *("true", "null", "~", "=", "224", "320x416", "plain@64", "csp[gamma=0.25]", "9" * 1200),
]


def problems(path: Path, catalog: Catalog, **overrides: object) -> tuple[str, ...]:
    """Mistakes of a suite; any other exception than InputError fails the test."""
    try:
        assert load_suite(path, overrides, catalog).cases
    except InputError as error:
        return error.problems or ("an InputError without a sentence",)
    return ()


def either(path: Path, content: bytes, catalog: Catalog) -> None:
    """The suite is good, or every sentence says where and is bounded."""
    path.write_bytes(content)
    for sentence in problems(path, catalog):
        assert sentence.startswith((str(path), "there may be more mistakes"))
        assert len(sentence) < 5000
        assert sentence.isprintable()


@SETTINGS
@given(content=st.binary(max_size=300))
def test_any_bytes(tmp_path: Path, catalog: Catalog, content: bytes) -> None:
    either(tmp_path / "x.yaml", content, catalog)


@SETTINGS
@given(content=st.text(max_size=300))
def test_any_text(tmp_path: Path, catalog: Catalog, content: str) -> None:
    either(tmp_path / "x.yaml", content.encode("utf-8", "surrogatepass"), catalog)


@SETTINGS
@given(words=st.lists(st.sampled_from(WORDS), max_size=60))
def test_any_sequence_of_the_words_of_suites(
    tmp_path: Path, catalog: Catalog, words: list[str]
) -> None:
    either(tmp_path / "x.yaml", "".join(words).encode(), catalog)


@SETTINGS
@given(
    at=st.integers(0, len(GOOD)),
    remove=st.integers(0, 12),
    word=st.sampled_from(WORDS) | st.text(string.printable, max_size=4),
)
def test_any_edit_of_a_good_suite(
    tmp_path: Path, catalog: Catalog, at: int, remove: int, word: str
) -> None:
    either(tmp_path / "x.yaml", (GOOD[:at] + word + GOOD[at + remove :]).encode(), catalog)


@SETTINGS
@given(
    key=st.sampled_from([*WORDS, "measure.rounds", "defaults.model", "matrix.gamma", "include.x"]),
    value=st.sampled_from(WORDS) | st.text(max_size=8) | st.integers() | st.floats() | st.none(),
)
def test_any_override(tmp_path: Path, catalog: Catalog, key: str, value: object) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GOOD)
    assert all(len(sentence) < 5000 for sentence in problems(path, catalog, **{key: value}))


#: Each would take seconds to hours without a bound.
HOSTILE = {
    "aliases": "".join(
        f"k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(12)
    ),
    "deep": "name: " + "[" * 100_000,
    "deep block": "- " * 100_000,
    "deep by aliases": "".join(f"k{i}: &a{i} [{f'*a{i - 1}' if i else 'x'}]\n" for i in range(900)),
    "many values": "name: x\nmatrix: {batch: [" + "1," * 60_000 + "]}",
    "many wrong names": "name: x\nmatrix: {backend: [cpu], model: ["
    + ",".join(f"plai{i}" for i in range(4_000)) + "]}",
    "many unknown keys": "".join(f"k{i}: 1\n" for i in range(3_000)),
    "many duplicates": "name: x\n" * 3_000,
    "large product": "name: x\nmatrix:\n"
    + "".join(f"  {axis}: {list(range(1, 999))}\n" for axis in ("batch", "threads", "input"))
    + "  model: [plain]\n  backend: [cpu]\n",
    "many includes": "name: x\ninclude:\n" + "  - {model: plane, backend: cpu}\n" * 1_000,
    "large": "#" * (MAX_BYTES + 1),
    "long keys": "".join(f"{' ' * i}{chr(97 + i) * 900}:\n" for i in range(26)),
    "many excludes": "name: x\nmatrix:\n"
    + "".join(f"  {axis}: {list(range(1, 101))}\n" for axis in ("batch", "threads"))
    + "  model: [plain]\n  backend: [cpu]\nexclude:\n" + "  - {batch: 999}\n" * 4_000,
    "long text": f"name: {'a' * 200_000}",
    "long number": f"name: x\nmatrix: {{model: [plain], backend: [cpu], batch: [{'9' * 999}]}}",
}  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(tmp_path: Path, catalog: Catalog, text: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_suite(path, catalog=catalog)
    assert len(caught.value.problems) <= 101
    assert all(len(problem) < 2000 for problem in caught.value.problems)
