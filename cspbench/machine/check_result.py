"""A line of ``cspbench doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CheckVerdict = Literal["good", "warn", "info"]


@dataclass(frozen=True)
class CheckResult:
    """One line of the doctor: check, value, whether it spoils measurements, and the remedy."""

    check: str
    value: str
    verdict: CheckVerdict
    remedy: str = ""
