"""One case in two runs, and two networks in two runs: by hand on small stored ones."""

import json
from dataclasses import replace

import pytest

import cspbench
from cspbench.attribution import Explanation, LayerComparison
from cspbench.attribution.engines import as_dict, sentences
from cspbench.attribution.runs import explain_runs
from cspbench.cli.main import main
from cspbench.errors import InputError
from tests.attribution.stored import CEILINGS, PARTIAL, PLAIN, case, profiled
from tests.report.runs import analysis, good, write_run

CASE = case(PLAIN)
MILLION = 1_000_000


def stored(folder, name, ms, times=(1, 4, 2, 1), model=PLAIN, environment=None):
    """A run of one case with a launch of layer times: so many ms, and a quarter more in all."""
    id_ = case(model)
    return write_run(
        folder, {id_: [*good(id_, ms), profiled(id_, times)]}, name,
        analyses={model: analysis(model, [MILLION] * (4 if model == PLAIN else 3))},
        environment=environment, ceilings=CEILINGS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return stored(tmp_path_factory.mktemp("results"), "old", 10.0)


@pytest.fixture(scope="module")
def new(old):
    """The second convolution takes 7 instead of 4 ms, by another torch."""
    other = {"libraries": {"torch": "3.0"}}
    return stored(old.path.parent, "new", 13.75, (1, 7, 2, 1), environment=other)


def test_the_layer_that_became_slower_is_named(old, new):
    # Profiled 10 ms are the latency of 10 ms, and 13.75 those of 13.75: each ms stays what it is.
    it = cspbench.explain(CASE, run=(old, new))
    assert isinstance(it, LayerComparison)
    assert it.difference_ms == pytest.approx(3.75, abs=0.1)
    changed = [(pair.a_ms, pair.b_ms) for pair in it.pairs if abs(pair.difference_ms) > 0.8]
    assert changed == [(pytest.approx(4.0, rel=0.02), pytest.approx(7.0, rel=0.02))]
    said = sentences(it)
    assert said[0].startswith("B is slower by 3.7")
    assert said[0].endswith("ms in run old, 13.8 ms in run new.")
    assert f": {CASE} takes 10" in said[0]
    assert "By layer: +3.01 ms 1x1 convolution" in said[1]
    assert "Layer times are of one launch in each run, scaled to the latency." in said
    assert "Not the same conditions: libraries.torch was '2.9.0' and is '3.0'." in said
    assert json.loads(json.dumps(as_dict(it), allow_nan=False)) == as_dict(it)


def test_the_interval_is_that_of_separate_runs(old, new):
    it = cspbench.explain(CASE, run=(old.path, new.path))
    row = cspbench.compare(old, new).table.iloc[0]
    assert it.low == pytest.approx(row["base_ms"] * (row["ratio_low"] - 1))
    assert it.high == pytest.approx(row["base_ms"] * (row["ratio_high"] - 1))


def test_nothing_that_differs_is_a_sentence(old):
    same = stored(old.path.parent, "same", 10.0)
    said = sentences(cspbench.explain(CASE, run=(old, same)))
    assert said[0].startswith("A and B are indistinguishable: ")
    assert said[-1] == "No difference between the machines, their load or their clocks is known."


def test_flags_and_page_faults_are_told(old, new):
    from cspbench.store.records import KernelWork

    first, second = old.records[0], new.records[0]
    faulting = replace(second, flags=("contended", "few_samples"),
                       kernel_work=KernelWork(5282.0, 0.22))  # fmt: skip
    from cspbench.attribution.runs import _notes

    notes = _notes(old, new, (first, faulting))
    assert notes[0] == "B's launches in run new are flagged: contended and few samples."
    assert notes[1] == (
        "A takes 0 page faults an inference, and 0 % of its time in the kernel; "
        "B takes 5,282 page faults an inference, and 22 % of its time in the kernel."
    )


def test_two_networks_in_two_runs_are_explained_by_causes(old):
    other = stored(old.path.parent, "partial", 12.0, (2, 4, 3, 1), model=PARTIAL)
    it = cspbench.explain("peleenet", "csppeleenet", (old, other))
    assert isinstance(it, Explanation)
    assert it.difference_ms == pytest.approx(2.0, abs=0.1)
    assert any("No difference between the machines" in note for note in it.notes)


def test_what_cannot_be_explained_is_refused(old):
    with pytest.raises(InputError, match="both runs are old"):
        explain_runs(old, old, CASE, CASE)
    with pytest.raises(InputError, match="B is missing"):
        cspbench.explain(CASE, run=old)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["peleenet*", "--run", "old", "--run", "new"], 0, "ms in run old"),
        (["peleenet*", "--run", "old"], 2, "B is missing: name it, or name two runs"),
        (["peleenet*"], 2, "B is missing"),
        (["peleenet*", *["--run", "old"] * 3], 2, "--run was given 3 times"),
        (["peleenet*", "--run", "old", "--run", "new", "--rounds", "3"], 2, "--rounds"),
    ],
)
def test_the_command_line(old, new, monkeypatch, capsys, arguments, code, sentence):
    monkeypatch.chdir(old.path.parent.parent)
    with pytest.raises(SystemExit) as end:
        main(["explain", *arguments, "--results", str(old.path.parent)])
    assert end.value.code == code
    captured = capsys.readouterr()
    assert sentence in captured.out + captured.err
