"""What a self-test of the gate found on this machine, kept for the verdicts that follow."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.core.files import open_input, write_whole
from cspbench.machine.comparability import Use, identity
from cspbench.machine.facts import fingerprint


@dataclass(frozen=True)
class Sensitivity:
    """The smallest slowdown (a share) that a gate finds 19 times in 20, and what a case costs.

    ``case`` is the one that was measured, ``created`` when, in ISO 8601.
    """

    case: str
    smallest_effect: float
    seconds: float
    created: str

    @property
    def sentence(self) -> str:
        """For the notes of a gate."""
        return (
            f"a self-test of {self.created[:10]} on this machine found that the gate finds a "
            f"slowdown of {self.smallest_effect * 100:.1f} % 19 times in 20, in "
            f"{self.seconds:.0f} s a case ({self.case})"
        )


def entry() -> Path:
    """Path of this machine's file, whether it exists or not."""
    text = json.dumps(identity(fingerprint(()), Use.CEILINGS))
    return cache_folder("self-tests") / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def known_sensitivity() -> Sensitivity | None:
    """What the newest saved self-test on this machine found; None without any."""
    try:
        with open_input(entry()) as file:
            return Sensitivity(**json.load(file))
    except (OSError, ValueError, TypeError):
        return None


def keep_sensitivity(found: Sensitivity) -> Path:
    """Write it to the cache; return the file."""
    path = entry()
    make_cache_folder(path.parent)
    write_whole(path, json.dumps(asdict(found)).encode(), shared=True)
    return path
