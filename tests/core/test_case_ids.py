"""Case and model ids: what they look like, that they survive a round trip, how patterns match."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.case import (
    Case,
    ModelId,
    Ref,
    format_input,
    format_value,
    parse_input,
    parse_value,
)
from cspbench.core.text import matches, select
from cspbench.errors import InputError

CASE = "csppeleenet-ref+prn@320/opencv-cpu/b1/t1"


def test_the_id_of_the_design_has_these_parts():
    assert Case.parse(CASE) == Case(
        model=Ref("csppeleenet-ref"),
        neck=Ref("prn"),
        input=(320, 320),
        backend=Ref("opencv-cpu"),
        batch=1,
        threads=1,
    )


def test_options_are_typed_and_their_keys_sorted():
    text = "csppeleenet[csp.fusion=last,gamma=0.25]@224x192/torch-cpu[layout=channels_last]/b8/t2"
    case = Case.parse(text)
    assert case.model.options == (("csp.fusion", "last"), ("gamma", 0.25))
    assert case.input == (224, 192)  # height x width
    assert case.backend.options == (("layout", "channels_last"),)
    assert str(case) == text
    assert str(Ref.of("m", {"b": 2, "a": True})) == "m[a=true,b=2]"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("darknet:csp.cfg", "darknet:csp.cfg"),  # a colon alone needs no quotes
        ("darknet:cfg/csp+x.cfg", '"darknet:cfg/csp+x.cfg"'),
        ("onnx:my model[1].onnx", '"onnx:my model[1].onnx"'),
        ("a@b", '"a@b"'),
    ],
)
def test_a_name_is_quoted_only_where_it_must_be(name, text):
    assert str(Ref(name)) == text
    assert ModelId.parse(f"{text}@64") == ModelId(Ref(name), None, (64, 64))


# Whatever a suite can hold in an id: names and texts without a double quote, finite numbers.
_names = st.text(st.characters(exclude_characters='"', exclude_categories=("Cs",)), min_size=1)
_keys = st.from_regex(r"[a-z][a-z_.]{0,8}", fullmatch=True)
_values = st.one_of(
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters='"', exclude_categories=("Cs",)), max_size=20),
)
_refs = st.builds(Ref.of, _names, st.dictionaries(_keys, _values, max_size=3))
_sizes = st.tuples(st.integers(1, 999_999), st.integers(1, 999_999))
_models = st.builds(ModelId, _refs, st.none() | _refs, st.none() | _sizes)
_cases = st.builds(
    Case,
    model=_refs,
    input=_sizes,
    backend=_refs,
    neck=st.none() | _refs,
    batch=st.integers(1, 999_999),
    threads=st.integers(1, 999_999),
    board=st.none() | st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True),
)


@given(_models)
def test_a_model_id_survives_a_round_trip(model):
    assert ModelId.parse(str(model)) == model


@given(_cases)
def test_a_case_id_survives_a_round_trip(case):
    assert Case.parse(str(case)) == case


@given(st.text(max_size=60) | st.text(alphabet='am[]=,+@/"bt1x.', max_size=40))
def test_any_text_is_an_id_or_an_input_error(text):
    for parse in (ModelId.parse, Case.parse):
        with contextlib.suppress(InputError):
            parsed = parse(text)
            # What was accepted means the same when printed and read again.
            assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "a name was expected"),
        ("@224", "a name was expected"),
        ("a[gamma=0.5", "a closing ]"),
        ("a[gamma]", "key=value"),
        ("a[gamma=0.5,]", "key=value"),
        ("a[=1]", "key=value"),
        ("a[k=1,k=2]", "'k' is given twice"),
        ("a[k=]", "a value of letters"),
        ("a[k=x y]", "a value of letters"),
        ('a[k="x]', 'a closing "'),
        ('"a', 'a closing "'),
        ("a+@224", "a name was expected"),
        ("a@huge", "'huge' is not an input size"),
        ("a@0", "must be at least 1"),
        ("a@32x", "'32x' is not an input size"),
        ("a@٣٢٠", "is not an input size"),  # digits, but not the ten of ids
        ("a@224/opencv-cpu/b1/t1", "the end of a model id"),
        ("a" * 2001, "2001 characters is too long (at most 2000)"),
    ],
)
def test_a_malformed_model_id_is_one_sentence(text, said):
    with pytest.raises(InputError) as caught:
        ModelId.parse(text)
    assert len(caught.value.problems) == 1
    assert said in caught.value.problems[0]


@pytest.mark.parametrize(
    "text",
    [
        "a@224",  # no backend
        "a/opencv-cpu/b1/t1",  # no input
        "a@224/opencv-cpu",  # neither batch nor threads
        "a@224/opencv-cpu/t1/b1",  # the other way round
        "a@224/opencv-cpu/b0/t1",  # no image
        "a@224/opencv-cpu/b1/t0",  # no thread
        "a@224/opencv-cpu/b1/t1/x/y",  # one board
        "a@224/opencv-cpu/b1/t1/",
        "a@224/opencv-cpu/b1/t1\n",
        "a@224//b1/t1",  # an empty name of the backend
    ],
)
def test_a_malformed_case_id_is_an_input_error(text):
    with pytest.raises(InputError):
        Case.parse(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (0.25, "0.25"),
        (0.1 + 0.2, "0.30000000000000004"),  # exact, not pretty: an id must mean one number
        (1e-7, "1e-07"),
        (1e20, "1e20"),  # no plus sign: it would start a neck
        ("swish", "swish"),
    ],
)
def test_values_are_written_short_and_exact(value, text):
    assert format_value(value) == text
    assert parse_value(text) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_number_is_written_exactly(number):
    assert math.isclose(float(parse_value(format_value(number))), number, rel_tol=0, abs_tol=0)


def test_text_that_reads_as_another_type_is_quoted():
    ref = Ref.of("m", {"a": "true", "b": "3", "c": "plain", "d": ""})
    assert str(ref) == 'm[a="true",b="3",c=plain,d=""]'
    assert ModelId.parse(str(ref)).model == ref


@pytest.mark.parametrize(("text", "size"), [("320", (320, 320)), ("320x416", (320, 416))])
def test_input_sizes(text, size):
    assert parse_input(text) == size
    assert format_input(size) == text


def test_in_patterns_only_star_and_question_mark_are_special():
    case = "csppeleenet[gamma=0.25]+prn@320/opencv-cpu/b1/t1"
    assert matches("*", case)
    assert matches("csp*opencv*", case)
    assert matches("*/b?/t?", case)
    assert matches("csppeleenet[gamma=0.25]+prn@320/*", case)  # brackets, plus, dot: themselves
    assert not matches("csppeleenet[gamma=0?]*", case)  # one character, not three
    assert not matches("[c]sppeleenet*", case)  # not a set of characters
    assert not matches("csppeleenet", case)  # the whole id, not a part of it
    assert matches("*cpu*", "two\nlines/opencv-cpu")


@given(st.text(max_size=30))
def test_text_without_wildcards_matches_itself_only(text):
    plain = text.replace("*", "").replace("?", "")
    assert matches(plain, plain)
    assert not matches(plain, plain + "x")


def test_select_keeps_the_order_of_the_ids_and_takes_all_without_patterns():
    ids = ["b/x", "a/y", "c/x"]
    assert select((), ids) == ids
    assert select(["*/x"], ids) == ["b/x", "c/x"]
    assert select(["a*", "b*"], ids) == ["b/x", "a/y"]
