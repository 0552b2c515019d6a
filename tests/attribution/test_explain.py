"""``explain`` on a stored run: which cases are meant, what is said, what is missing."""

import json

import pytest

import cspbench
from cspbench.attribution import explain_measured
from cspbench.attribution.engines import APART
from cspbench.attribution.pair import case_of, plan_pair
from cspbench.attribution.text import as_dict, frame, sentences, signed
from cspbench.errors import InputError
from tests.attribution.stored import PARTIAL, PLAIN, case, pair_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pair_run(tmp_path_factory.mktemp("results"))


def test_cases_may_be_named_by_id_model_or_pattern(run):
    whole = cspbench.explain(case(PLAIN), case(PARTIAL), run)
    assert cspbench.explain("peleenet*b1/*", "csp*b1/*", run.path).parts == whole.parts
    assert (whole.a.case, whole.b.case) == (case(PLAIN), case(PARTIAL))


def test_the_words_hold_the_numbers(run):
    it = explain_measured(run, case(PLAIN), case(PARTIAL))
    said = sentences(it)
    # 10 -> 12 ms; 9 -> 7 million MACs: -22 %.
    assert said[0].startswith("B is slower by 2.00 ms (+20 %; ")
    assert said[1] == (
        "B has 22 % fewer MACs and 22 % less memory traffic, yet takes 2.00 ms longer."
    )
    assert said[2] == APART
    assert " make" in said[3]
    assert "1x1 convolution of stages." in said[3]
    assert said[4].startswith("Unexplained: ")
    # Outside the layers: (12 - 11) - (10 - 9) = 0 ms.
    assert "+0.000 ms of time outside the layers" in said[4]
    assert said[5].startswith("Verdict: ")


def test_another_batch_says_what_moves(run):
    it = explain_measured(run, case(PLAIN), case(PARTIAL))
    [other] = it.others
    assert other.a.batch == 8
    assert other.a.macs == 8 * it.a.macs
    # -20 ms for 8 images are -2.5 an image; from +2.0 that is -4.5.
    last = sentences(it)[-1]
    assert last.startswith("At batch 8 B is faster by 2.50 ms an image; at batch 1 the difference")
    assert "From 1 to 8 it moves by -4.50 ms an image: " in last


def test_the_lists_of_the_json_add_up(run):
    found = as_dict(explain_measured(run, case(PLAIN), case(PARTIAL)))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for rows in (found["parts"], found["groups"]):
        assert sum(row["difference_ms"] for row in rows) == pytest.approx(found["difference_ms"])
    assert sum(row["share"] for row in found["parts"]) == pytest.approx(1.0)
    assert found["other_batches"][0]["difference_ms"] == pytest.approx(-20.0)


def test_frames_by_cause_group_and_layer(run):
    it = explain_measured(run, case(PLAIN), case(PARTIAL))
    assert frame(it)["difference_ms"].sum() == pytest.approx(it.difference_ms)
    assert frame(it, "groups")["b_ms"].sum() == pytest.approx(it.b.latency.estimate)
    layers = frame(it, "layers")
    assert layers.groupby("case")["ms"].sum().to_dict() == {case(PLAIN): 9, case(PARTIAL): 11}


def test_what_else_differs_is_said(run):
    it = explain_measured(run, case(PLAIN, 1), case(PARTIAL, 8))
    assert it.notes == (
        "A and B differ in batch too: the causes do not separate that from the network.",
        APART,
    )


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        ("pelenet@224/opencv-cpu/b1/t1", "csp*b1/*", r"no case of run .* \(did you mean 'peleenet"),
        ("peleenet", "csp*b1/*", r"'peleenet' matches 2 cases of run .*: write more of its id"),
        ("peleenet*b1/*", "peleenet*b1/*", r"A and B are the same case, peleenet@224/opencv"),
    ],
)
def test_a_wrong_name_is_one_sentence(run, a, b, sentence):
    with pytest.raises(InputError, match=sentence):
        cspbench.explain(a, b, run)


def test_a_case_without_layer_times_says_which_command_measures_them(tmp_path):
    run = pair_run(tmp_path, layers=False)
    with pytest.raises(InputError, match=r"no layer times; .*cspbench run .* measure.layers=true"):
        explain_measured(run, case(PLAIN), case(PARTIAL))


def test_a_run_without_ceilings_says_which_command_measures_them(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    run = pair_run(tmp_path, ceilings=False)
    with pytest.raises(InputError, match=r"run cspbench ceilings --device cpu --threads 1"):
        explain_measured(run, case(PLAIN), case(PARTIAL))


@pytest.mark.parametrize(
    ("ids", "settings", "sentence"),
    [
        (("pelenet", "peleenet"), {}, "unknown model 'pelenet'"),
        (("peleenet@64", "peleenet[fusion=x]@64"), {}, "unknown option 'fusion'"),
        (("peleenet@64", "peleenet@65"), {}, "must be a multiple of 32, not 65"),
        (("peleenet@64", "peleenet@64"), {}, "A and B are the same case"),
        (("peleenet@64", "csppeleenet@64"), {"backend": "opencv"}, "unknown backend 'opencv'"),
        (("peleenet@64", "csppeleenet@64"), {"backend": "opencv-cpu[engine=x]"}, "engine must be"),
        (("peleenet@64/", "csppeleenet@64"), {}, "the end of a model id was expected"),
    ],
)
def test_what_is_to_be_measured_is_checked_first(ids, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        plan_pair(*ids, **settings)


def test_case_ids_carry_their_own_settings():
    given = case_of("peleenet[se=false]@64/torch-cpu[mode=fused]/b2/t2", "opencv-cpu", 1, 1)
    assert given.id == "peleenet@64/torch-cpu[mode=fused]/b2/t2"
    assert case_of("peleenet", "opencv-cpu", 8, 2).id == "peleenet@224/opencv-cpu/b8/t2"


def test_numbers():
    assert [signed(value) for value in (3.14159, -12.34, 0.0512, -250.0)] == [
        "+3.14", "-12.3", "+0.051", "-250.0",
    ]  # fmt: skip


def test_launches_that_were_disturbed_are_said(tmp_path):
    run = pair_run(tmp_path, flags=["contended", "not_steady"])
    it = explain_measured(run, case(PLAIN), case(PARTIAL))
    assert it.notes[0].startswith("The timed launches were contended and not steady. ")
    assert it.notes[0] in sentences(it)
