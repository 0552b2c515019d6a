"""Text that several packages need."""

import re
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.text import inert, matches, number_of, percent, printable
from tests.inertness import GOOD, hidden


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


# Inert text --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x\x1b[2Jy\n", r"x\u001b[2Jy\n"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u200b\u200d\ufeffb", r"a\u200b\u200d\ufeffb"),
        ("\ud800\ue000\U000e0001", r"\ud800\ue000\U000e0001"),
        ("\u3164\ufe0f", r"\u3164\ufe0f"),
        (GOOD[0], GOOD[0]),
        (GOOD[1], GOOD[1]),
        ("[bold] \\u202e 1\u00a0000", "[bold] \\u202e 1\u00a0000"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_its_escape(text, shown):
    assert printable(text) == shown


def test_every_character_that_is_hidden_and_no_other_is_escaped():
    """All of Unicode, as this Python knows it, 256 at a time.

    Of the planes 4 to 13, which hold no character yet, the first 256.
    """
    empty = range(0x40000, 0xE0000)
    assert {unicodedata.category(chr(number)) for number in empty} == {"Cn"}
    for first in range(0, 0x110000, 0x100):
        if first in empty and first % 0x10000:
            continue
        row = [chr(number) for number in range(first, first + 0x100)]
        unseen = {character for character in row if hidden(character, kept="")}
        seen = "".join(character for character in row if character not in unseen)
        assert printable(seen) == seen
        assert not unseen & set(printable("".join(row)))


@given(st.text())
def test_inert_text_is_printable_line_by_line(text):
    assert inert(text).split("\n") == [printable(line) for line in text.split("\n")]
    assert printable(printable(text)) == printable(text)


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


def test_one_thread_and_two_threads_one_launch_and_two_launches():
    assert [number_of(count, "thread") for count in (0, 1, 2)] == [
        "0 threads", "1 thread", "2 threads",
    ]  # fmt: skip
    assert [number_of(count, "launch") for count in (0, 1, 2)] == [
        "0 launches", "1 launch", "2 launches",
    ]  # fmt: skip
