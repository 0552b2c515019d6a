"""Peak memory of an inference. Repeated peaks agree within a few percent."""

from __future__ import annotations

from cspbench.suite.rules import RULES, MeasuredRule

RULES.add(
    MeasuredRule(
        "peak_memory_bytes",
        "bytes",
        "peak memory of the worker above its level before the model was loaded",
        job="memory",
        value=lambda result: max(result.memory.peak_memory_bytes or 0, 1),
        reason="peak_memory",
    )
)
