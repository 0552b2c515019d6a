"""What a self-test of the gate found on this machine, kept for the verdicts that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cspbench.store.kept import keep, kept_file, read_kept

#: Of the user's cache.
_FOLDER = "self-tests"


@dataclass(frozen=True)
class Sensitivity:
    """The smallest slowdown (a share) that a gate finds 19 times in 20, and what a case costs.

    ``case`` is the one that was measured, ``created`` when, in ISO 8601. It holds for gates with
    this ``min_effect`` and ``tolerance``.
    """

    case: str
    smallest_effect: float
    seconds: float
    created: str
    min_effect: float
    tolerance: float

    @property
    def sentence(self) -> str:
        """For the notes of a gate."""
        return (
            f"a self-test of {self.created[:10]} on this machine found that the gate finds a "
            f"slowdown of {self.smallest_effect * 100:.1f} % 19 times in 20, in "
            f"{self.seconds:.0f} s a case ({self.case})"
        )


def known_sensitivity(facts: Mapping[str, Any] | None = None) -> Sensitivity | None:
    """What the newest saved self-test on a machine found, by default on this one; None without."""
    return read_kept(kept_file(_FOLDER, facts=facts), Sensitivity)


def keep_sensitivity(found: Sensitivity) -> Path:
    """Write it to the cache for this machine; return the file."""
    return keep(kept_file(_FOLDER), found)
