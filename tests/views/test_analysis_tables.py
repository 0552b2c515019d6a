"""Tables of analyses: people get six digits, programs get all of them."""

import pytest

from cspbench.views.analysis_tables import Block, Tables

ROWS = [{"layer": "stem", "macs": 34922496, "ratio": 1.0606055103418874, "bound": 1568188.637}]


@pytest.mark.parametrize("cell", ["34922496", "1.06061", "1568189"])
def test_a_terminal_shows_whole_counts_and_six_digits_of_the_rest(cell):
    assert cell in str(Block(ROWS)).splitlines()[1].split()


def test_other_forms_hold_all_digits():
    tables = Tables.of(ROWS)
    assert tables.rows == tables.objects == ROWS


def test_a_table_stands_between_its_lines():
    lines = str(Block(ROWS, "before", "after")).splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert str(Block([], "nothing")).strip() == "nothing"
