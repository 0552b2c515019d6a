"""Twenty kills -9 at random moments; thousands by hand: ``python -m tests.soak``."""

import pytest

from tests.soak import Soak


@pytest.mark.slow
def test_twenty_kills_lose_no_launch_and_leave_no_process_behind(tmp_path):
    tally = Soak(tmp_path).run(20)
    assert tally.kills >= 20
    assert tally.found > 0
    assert (tally.lost, tally.left_behind) == (0, 0)
