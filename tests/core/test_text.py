"""Text that several packages need."""

import pytest

from cspbench.core.text import percent


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
