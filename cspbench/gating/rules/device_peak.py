"""Peak memory of an inference on a device; 1 byte where there is none, such as on a processor."""

from __future__ import annotations

from cspbench.suite.rules import RULES, MeasuredRule

RULES.add(
    MeasuredRule(
        "device_peak_bytes",
        "bytes",
        "peak of the tensors on the device in an inference after the first",
        job="memory",
        value=lambda result: max(result.memory.device_peak_bytes or 0, 1),
        reason="peak_memory",
    )
)
