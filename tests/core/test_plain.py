"""Plain values: JSON of others that can be stored, copied, compared and printed."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.plain import MAX_DEPTH, MAX_NUMBER, check_plain, parse_plain

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("NaN", "not finite"),
        ('{"a": [Infinity]}', "not finite"),
        ("[-1e999]", "not finite"),
        (str(10**30), "over 64 bits"),
        (f"[1, {10**30}, 2]", "over 64 bits"),
        (f"[1, {-(10**30)}, 2]", "over 64 bits"),
        ("[1, NaN]", "not finite"),
        ("1e300", "over 64 bits"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 50 + "]" * 50, "nested too deeply"),
        ("{", "Expecting"),
    ],
)
def test_what_is_not_plain_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_plain(text)


def test_bounds_themselves_are_plain():
    edge = [MAX_NUMBER, -float(MAX_NUMBER)]
    for _ in range(MAX_DEPTH - 2):
        edge = [edge]
    check_plain(edge)
    with pytest.raises(ValueError, match="nested"):
        check_plain([edge])


@given(st.one_of(ANY, ANY.map(lambda value: {"\ud800": value})))
def test_what_is_plain_can_be_stored_and_shown(value):
    try:
        plain = parse_plain(json.dumps(value))
    except ValueError:
        return
    assert plain == copy.deepcopy(plain)
    json.dumps(plain, allow_nan=False, ensure_ascii=False).encode()


def test_half_a_pair_of_surrogates_is_replaced_and_a_whole_one_stays():
    assert parse_plain(r'{"\ud800": ["\ud83d\ude00", "\\ud800"]}') == {
        "\\ud800": ["\U0001f600", "\\ud800"]
    }
