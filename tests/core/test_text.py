"""Text that several packages need."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.text import matches, percent


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.243), "24 %"),
        (percent(0.0312, 1), "3.1 %"),
        (percent(-0.243, signed=True), "-24 %"),
        (percent(0.051, 1, signed=True), "+5.1 %"),
        (percent(-0.4375, 1, signed=True, minus="−"), "−43.8 %"),
    ],
)
def test_shares_and_changes_in_percent(text, expected):
    assert text == expected


def as_regex(pattern):
    """The same pattern for Python's matcher, which may take exponential time."""
    signs = {"*": ".*", "?": "."}
    return "".join(signs.get(char, re.escape(char)) for char in pattern)


@given(
    pattern=st.text("ab*?\n.", max_size=8),
    text=st.text("ab\n.", max_size=8),
)
def test_patterns_mean_what_the_same_regular_expression_means(pattern, text):
    expected = re.fullmatch(as_regex(pattern), text, re.DOTALL) is not None
    assert matches(pattern, text) is expected


@pytest.mark.parametrize("part", ["a*", "*a?", "?*", "*"])
def test_a_pattern_of_many_stars_costs_no_more_than_one(part):
    text = "a" * 2000  # ids are no longer
    begin = time.process_time()
    assert not matches(part * 1000 + "b", text)
    assert time.process_time() - begin < 0.5
