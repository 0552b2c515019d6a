"""Size of the file that the backend loads."""

from __future__ import annotations

from cspbench.suite.rules import RULES, MeasuredRule

RULES.add(
    MeasuredRule(
        "model_bytes",
        "bytes",
        "size of the artifact that the backend loads",
        job="load",
        value=lambda result: result.model_bytes or None,
        launches=1,
    )
)
