"""Energy of an inference, where a sensor gives the power of the device."""

from __future__ import annotations

from cspbench.suite.rules import RULES, MeasuredRule

RULES.add(
    MeasuredRule(
        "energy",
        "J",
        "energy of an inference, from launches that infer back to back for 5 s",
        job="energy",
        note="energy",
        value=lambda energy: energy["energy_per_inference_j"],
    )
)
