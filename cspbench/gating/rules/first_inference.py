"""Start-up: from loading the model to the end of its first inference."""

from __future__ import annotations

from cspbench.suite.rules import RULES, MeasuredRule

RULES.add(
    MeasuredRule(
        "first_inference",
        "ns",
        "time to load the model and to run it once, in a fresh process",
        job="load",
        value=lambda result: result.load_ns + result.first_ns,
        launches=5,
    )
)
