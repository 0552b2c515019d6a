"""What a matrix means: expand, collapse, exclude, include, merge."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspbench.core.case import Case
from cspbench.suite.catalog import Catalog
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Suite

Load = Callable[..., Suite]


def ids(suite: Suite) -> list[str]:
    return [case.id for case in suite.cases]


def test_the_first_axis_varies_slowest(load: Load) -> None:
    suite = load("name: x\nmatrix: {model: [plain], batch: [1, 2], backend: [cpu, cuda]}\n")
    assert ids(suite) == [
        "plain@224/cpu/b1/t1",
        "plain@224/cuda/b1/t1",
        "plain@224/cpu/b2/t1",
        "plain@224/cuda/b2/t1",
    ]
    assert suite.notes == ()


def test_without_an_input_each_model_gets_its_own(load: Load) -> None:
    suite = load("name: x\nmatrix: {model: [plain, whole], backend: [cpu]}\n")
    assert [case.input for case in suite.cases] == [(224, 224), (416, 416)]


def test_an_input_is_height_then_width(load: Load) -> None:
    suite = load(
        "name: x\nmatrix: {model: [plain], input: [96, 96x128, [64, 96]], backend: [cpu]}\n"
    )
    assert [case.input for case in suite.cases] == [(96, 96), (96, 128), (64, 96)]
    assert suite.cases[1].input_shape == (1, 3, 96, 128)


def test_an_axis_that_a_model_does_not_have_gives_one_case_not_many(load: Load) -> None:
    # plain has neither gamma nor fusion: 3 x 2 combinations are one case a backend.
    # csp has both: 3 x 2 cases a backend, of which the exclude takes one. 2 x 1 + 2 x 5 = 12.
    suite = load("""\
name: x
matrix:
  model: [plain, csp]
  gamma: [0.25, 0.5, 0.75]
  fusion: [csp, last]
  backend: [cpu, cuda]
exclude:
  - {gamma: 0.75, fusion: last}
""")
    assert len(suite.cases) == 12
    assert ids(suite)[:2] == ["plain@224/cpu/b1/t1", "plain@224/cuda/b1/t1"]
    assert "csp[fusion=last,gamma=0.75]@224/cpu/b1/t1" not in ids(suite)
    assert suite.notes == (
        (
            "collapsed: no effect of gamma, fusion on plain@224/cpu, plain@224/cuda: "
            "12 combinations gave 2 cases"
        ),
        "excluded: 2 cases by the item on line 8",
    )


def test_a_backend_without_an_axis_collapses_too(load: Load) -> None:
    suite = load(
        "name: x\nmatrix: {model: [plain], engine: [classic, new], backend: [cpu, cuda]}\n"
    )
    assert ids(suite) == [
        "plain@224/cpu[engine=classic]/b1/t1",
        "plain@224/cuda/b1/t1",
        "plain@224/cpu[engine=new]/b1/t1",
    ]


def test_a_whole_network_takes_no_neck(load: Load) -> None:
    suite = load("name: x\nmatrix: {model: [plain, whole], neck: [none, prn], backend: [cpu]}\n")
    assert ids(suite) == [
        "plain@224/cpu/b1/t1",
        "plain+prn@224/cpu/b1/t1",
        "whole@416/cpu/b1/t1",
    ]


def test_what_a_model_id_fixes_wins_over_matrix_and_defaults(load: Load) -> None:
    suite = load("""\
name: x
defaults: {input: 320, gamma: 0.25}
matrix:
  model: [plain, plain+prn@416, "csp[gamma=0.75]"]
  neck: [prn-3l]
  backend: [cpu]
""")
    assert ids(suite) == [
        "plain+prn-3l@320/cpu/b1/t1",
        "plain+prn@416/cpu/b1/t1",
        "csp[gamma=0.75]+prn-3l@320/cpu/b1/t1",
    ]


def test_an_option_goes_to_every_part_that_has_it(load: Load) -> None:
    suite = load(
        "name: x\nmatrix: {model: [plain+prn, whole, plain], act: [swish], backend: [cpu]}"
    )
    assert ids(suite) == [
        "plain+prn[act=swish]@224/cpu/b1/t1",
        "whole[act=swish]@416/cpu/b1/t1",
        "plain@224/cpu/b1/t1",
    ]


def test_options_at_their_default_are_left_out_of_ids(load: Load) -> None:
    suite = load(
        'name: x\nmatrix: {model: ["csp[gamma=0.5,fusion=csp]"], backend: ["cpu[engine=auto]"]}\n'
    )
    assert ids(suite) == ["csp@224/cpu/b1/t1"]


def test_equal_cases_are_merged_with_a_note(load: Load) -> None:
    suite = load("name: x\nmatrix: {model: [csp, 'csp[gamma=0.5]', csp@224], backend: [cpu]}\n")
    assert ids(suite) == ["csp@224/cpu/b1/t1"]
    assert suite.notes == ("merged: csp@224/cpu/b1/t1 was given 3 times",)


def test_include_adds_a_case_with_the_defaults_even_if_it_was_excluded(load: Load) -> None:
    suite = load("""\
name: x
defaults: {batch: 4}
matrix: {model: [plain], backend: [cpu, cuda]}
exclude: [{backend: cuda}]
include:
  - {model: whole, backend: cpu}
  - {model: plain, backend: cuda}
""")
    assert ids(suite) == ["plain@224/cpu/b4/t1", "whole@416/cpu/b4/t1", "plain@224/cuda/b4/t1"]


def test_a_suite_of_include_alone(load: Load) -> None:
    suite = load("name: x\ninclude: [{model: plain, backend: cpu}]\n")
    assert ids(suite) == ["plain@224/cpu/b1/t1"]


def test_exclude_compares_with_what_the_case_is_not_with_what_was_written(load: Load) -> None:
    # 224 is plain's own input and 0.5 csp's own gamma: unwritten here, they still match.
    suite = load("""\
name: x
matrix: {model: [plain, csp, whole], backend: [cpu]}
exclude: [{model: plain, input: 224}, {gamma: 0.5}]
""")
    assert ids(suite) == ["whole@416/cpu/b1/t1"]


def test_an_excluded_name_matches_with_any_options_and_a_list_matches_any(load: Load) -> None:
    suite = load("""\
name: x
matrix:
  model: [csp, "csp[gamma=0.25]", csp+prn, "plain+prn[act=swish]"]
  batch: [1, 2, 3]
  backend: [cpu]
exclude:
  - {model: csp, neck: none}
  - {model: "csp+prn", batch: [2, 3]}
  - {neck: "prn[act=swish]", batch: 1}
""")
    assert ids(suite) == [
        "csp+prn@224/cpu/b1/t1",
        "plain+prn[act=swish]@224/cpu/b2/t1",
        "plain+prn[act=swish]@224/cpu/b3/t1",
    ]


def test_an_exclude_that_matches_nothing_is_told(load: Load) -> None:
    suite = load("name: x\nmatrix: {model: [plain], backend: [cpu]}\nexclude: [{batch: 7}]\n")
    assert suite.notes == ("excluded: 0 cases by the item on line 3",)


def test_defaults_that_no_case_has_are_told(load: Load) -> None:
    suite = load(
        "name: x\ndefaults: {gamma: 0.25, batch: 2, neck: prn}\n"
        "matrix: {model: [whole], batch: [1], backend: [cpu]}\n"
    )
    assert suite.notes == (
        "defaults: no case uses gamma",
        "defaults: no case uses batch",
        "defaults: no case uses neck",
    )


def test_csp_options_imply_the_fusion(load: Load) -> None:
    suite = load("""\
name: x
matrix:
  model: [staged, plain]
  csp: [none, {gamma: 0.25}, {fusion: last, split: slice}]
  backend: [cpu]
""")
    assert ids(suite) == [
        "staged@224/cpu/b1/t1",
        "staged[csp.fusion=csp,csp.gamma=0.25]@224/cpu/b1/t1",
        "staged[csp.fusion=last,csp.split=slice]@224/cpu/b1/t1",
        "plain@224/cpu/b1/t1",
    ]
    assert suite.notes == (
        "collapsed: no effect of csp on plain@224/cpu: 3 combinations gave 1 case",
    )


def test_csp_as_axes_of_its_own(load: Load) -> None:
    # Without a fusion gamma means nothing: none x 2 gammas is one case, csp x 2 gammas are two.
    nested = load("""\
name: x
matrix:
  model: [staged]
  csp: {fusion: [none, csp], gamma: [0.25, 0.5]}
  backend: [cpu]
""")
    dotted = load("""\
name: x
matrix: {model: [staged], csp.fusion: [none, csp], csp.gamma: [0.25, 0.5], backend: [cpu]}
""")
    assert nested.cases == dotted.cases
    assert nested.notes == (
        "collapsed: no effect of csp.gamma on staged@224/cpu: 2 combinations gave 1 case",
    )
    assert ids(nested) == [
        "staged@224/cpu/b1/t1",
        "staged[csp.fusion=csp,csp.gamma=0.25]@224/cpu/b1/t1",
        "staged[csp.fusion=csp]@224/cpu/b1/t1",
    ]


def test_precision_fp32_is_what_every_backend_has(load: Load) -> None:
    suite = load("""\
name: x
defaults: {precision: fp32}
matrix: {model: [plain], backend: [cpu, cuda]}
include: [{model: whole, backend: cpu, precision: fp32}]
""")
    assert ids(suite) == ["plain@224/cpu/b1/t1", "plain@224/cuda/b1/t1", "whole@416/cpu/b1/t1"]


def test_a_backend_without_another_precision_is_never_measured_under_its_name(load: Load) -> None:
    suite = load(
        "name: x\nmatrix: {model: [plain], precision: [fp32, fp16], backend: [cpu, cuda]}\n"
    )
    assert ids(suite) == [
        "plain@224/cpu/b1/t1",
        "plain@224/cuda/b1/t1",
        "plain@224/cuda[precision=fp16]/b1/t1",
    ]
    assert suite.notes == ("left out: 1 combination, because cpu computes in fp32 only",)


AXES = {
    "model": ["plain", "csp", "csp[gamma=0.25]"],
    "backend": ["cpu", "cuda"],
    "batch": [1, 2, 3],
    "threads": [1, 4],
    "input": [64, "64x96", 224],
}


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_where_all_axes_apply_the_cases_are_the_product_less_the_excluded(
    tmp_path: Path, catalog: Catalog, data: st.DataObject
) -> None:
    chosen = {
        axis: data.draw(st.lists(st.sampled_from(values), min_size=1, unique=True), label=axis)
        for axis, values in data.draw(st.permutations(list(AXES.items())))
    }
    axes = data.draw(st.lists(st.sampled_from(list(chosen)), min_size=1, unique=True))
    exclude = {axis: data.draw(st.sampled_from(chosen[axis])) for axis in axes}
    lines = [f"  {axis}: {values}" for axis, values in chosen.items()]
    items = ", ".join(f"{axis}: {value!r}" for axis, value in exclude.items())
    lines += ["exclude:", f"  - {{{items}}}", "include: [{model: whole, backend: cpu}]"]
    path = tmp_path / "x.yaml"
    path.write_text("\n".join(["name: x", "matrix:", *lines]))

    suite = load_suite(path, catalog=catalog)

    # A name excludes with any options, so excluding csp takes csp[gamma=0.25] too.
    kept = [
        values
        for values in itertools.product(*chosen.values())
        if not all(
            value == exclude[axis] or (exclude[axis] == "csp" and str(value).startswith("csp["))
            for axis, value in zip(chosen, values, strict=True)
            if axis in exclude
        )
    ]
    assert len(suite.cases) == len(kept) + 1
    assert len(set(ids(suite))) == len(suite.cases)
    assert load_suite(path, catalog=catalog) == suite
    for case in suite.cases:
        parsed = Case.parse(case.id)
        assert parsed == case
        assert (parsed.batch, parsed.threads) == (case.batch, case.threads)
