"""Text in Markdown: read by a real parser, it shows what it is and is nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.markdown import code, markdown
from cspbench.core.text import printable
from tests.inertness import ATTACKS, GOOD, alive, hidden, text_of

#: More likely than among all characters: signs of markup.
SIGNS = st.text(alphabet="ab1 @#`*_[]()!<>|\\~$:&/.-+=^{}\n\u202e\u00a0w", max_size=40)
TEXTS = st.one_of(st.text(max_size=40), SIGNS)
#: Where text stands in our Markdown.
ROW = "| a | b |\n| --- | --- |\n| {} | x |"
PLACES = ("{}", "- {}", "### {}", ROW, "- `a`: {}", "**a**\n\n{}")


def same(shown, text):
    """Whether all of a text is shown; a pipe in a code span is its escape."""
    return "".join(printable(text).split()).replace("|", "\\u007c") == shown.replace("|", "\\u007c")


@pytest.mark.parametrize("render", [markdown, code])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("text", [*ATTACKS, *GOOD])
def test_no_attack_is_alive(text, place, render):
    made = place.format(render(text))
    assert (alive(made), hidden(made)) == ([], [])


@given(TEXTS, st.sampled_from([markdown, code]), st.sampled_from(PLACES))
def test_no_text_is_alive(text, render, place):
    made = place.format(render(text))
    assert (alive(made), hidden(made)) == ([], [])


@given(TEXTS, st.sampled_from([markdown, code]))
def test_all_of_a_text_is_shown(text, render):
    assert same(text_of(render(text)), text)


@given(TEXTS, st.sampled_from([markdown, code]))
def test_a_text_is_one_cell_of_its_row(text, render):
    made = ROW.format(render(text))
    assert text_of(made).endswith("x")
    assert same(text_of(made).removeprefix("ab").removesuffix("x"), text)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        (GOOD[0], f"`{GOOD[0]}`"),
        ("slower by +5.1 % (95 % interval)", "slower by +5.1 % (95 % interval)"),
        (f"{GOOD[0]} is slower", f"`{GOOD[0]}` is slower"),
        ("latency_ms of γ 3×3", "latency_ms of γ 3×3"),
        ("[2.1, 3.2]", r"\[2.1, 3.2\]"),
        ("a `b` c", "a `` `b` `` c"),
    ],
)
def test_ids_can_be_copied_and_sentences_read(text, made):
    assert markdown(text) == made
