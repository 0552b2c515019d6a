"""Peak memory of an inference: peaks repeat within a few percent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cspbench.suite.rules import RULES, MeasuredRule


def peak_memory_bytes(answer: Mapping[str, Any]) -> int:
    """The peak that a launch of the job ``memory`` tells."""
    return max(int(answer["memory"]["peak_memory_bytes"]), 1)


RULES.add(
    MeasuredRule(
        "peak_memory_bytes",
        "bytes",
        "peak memory of the worker above its level before the model was loaded",
        job="memory",
        value=peak_memory_bytes,
        reason="peak_memory",
    )
)
