from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.gating.prepare import Prepared, not_here, pair_cases, runnable


def side(*ids):
    return [Prepared(Case.parse(text)) for text in ids]


def names(base, head, *loose):
    pairs, notes = pair_cases(base, head, frozenset(loose))
    return [pair.name for pair in pairs], notes


def test_equal_ids_are_partners_whatever_their_order():
    a, b = "a@64/x/b1/t1", "b@64/x/b1/t1"
    assert names(side(a, b), side(b, a)) == ([b, a], [])


def test_cases_of_one_side_only_are_noted():
    a, b, c = (f"{name}@64/x/b1/t1" for name in "abc")
    pair_names, notes = names(side(a, b), side(b, c))
    assert pair_names == [b]
    assert notes == [
        f"{c} is only on the head's side: not compared",
        f"{a} is only on the base's side: not compared",
    ]


def test_an_option_that_a_side_sets_does_not_part_partners():
    base = side("a@64/x[engine=new]/b1/t1", "b@64/x[engine=new]/b1/t1")
    head = side("a@64/x/b1/t1", "b@64/x/b1/t1")
    assert names(base, head, "engine") == (["a@64/x/b1/t1", "b@64/x/b1/t1"], [])


def test_settings_that_shape_the_id_name_both():
    pair_names, _ = names(
        side("a@64/x/b1/t1", "b@64/x/b1/t1"), side("a@64/x/b1/t2", "b@64/x/b1/t2"), "threads"
    )
    assert pair_names[0] == "a@64/x/b1/t1 -> a@64/x/b1/t2"


def test_csp_options_go_by_their_short_names_too():
    base = side("a[csp.gamma=0.25]@64/x/b1/t1", "b@64/x/b1/t1")
    head = side("a[csp.gamma=0.75]@64/x/b1/t1", "b@64/x/b1/t1")
    assert names(base, head, "csp.gamma")[0] == ["a@64/x/b1/t1", "b@64/x/b1/t1"]


def test_another_model_is_a_partner_if_the_model_was_set():
    pair_names, notes = names(side("a@64/x/b1/t1"), side("b@96/y/b1/t1"), "model", "backend")
    assert (pair_names, notes) == (["a@64/x/b1/t1 -> b@96/y/b1/t1"], [])


def test_several_cases_of_one_key_are_paired_in_their_order():
    base = side("a@64/x/b1/t1", "b@64/x/b1/t1")
    head = side("c@64/x/b1/t1", "d@64/x/b1/t1")
    assert names(base, head, "model")[0] == [
        "a@64/x/b1/t1 -> c@64/x/b1/t1", "b@64/x/b1/t1 -> d@64/x/b1/t1",
    ]  # fmt: skip


def test_what_neither_side_can_run_is_no_failure():
    case = Case.parse("a@64/x/b1/t1")
    gone = Prepared(case, status=Status.UNAVAILABLE, reason="no GPU")
    broken = Prepared(case, status=Status.FAILED, reason="does not build")
    (good,), _ = pair_cases([Prepared(case)], [Prepared(case)], frozenset())
    (bad,), _ = pair_cases([gone], [gone], frozenset())
    (half,), _ = pair_cases([Prepared(case)], [broken], frozenset())
    assert [runnable(p) for p in (good, bad, half)] == [True, False, False]
    assert [not_here(p) for p in (bad, half)] == [True, False]
