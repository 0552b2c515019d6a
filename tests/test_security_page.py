"""docs/security.md names tests: they exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+(?:::\w+)?)`", PAGE.read_text(encoding="utf-8"))))


def test_the_page_names_tests():
    assert len(NAMED) > 15


@pytest.mark.parametrize("name", NAMED)
def test_what_holds_a_promise_exists(name):
    path, _, test = name.partition("::")
    assert (ROOT / path).exists()
    assert not test or f"def {test}(" in (ROOT / path).read_text(encoding="utf-8")
