"""Which runs are of the suites of ``suites/paper``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: How the names of the suites of ``suites/paper`` begin.
PREFIX = "paper-"


def suite_of(run: Run) -> str:
    """Name of the suite of a run."""
    return str(run.stored.meta["suite"]["name"])


def is_paper(run: Run) -> bool:
    """True if the run is of a suite of the paper."""
    return suite_of(run).startswith(PREFIX)


def has_paper(runs: Sequence[Run]) -> bool:
    """True if one of the runs is of a suite of the paper."""
    return any(map(is_paper, runs))
