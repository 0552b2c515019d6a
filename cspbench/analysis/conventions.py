"""The conventions side by side: value, unit, what each leaves out, why they differ."""

from __future__ import annotations

from typing import Any

from cspbench.analysis.metric import shown_in
from cspbench.analysis.record import Analysis

#: Why conventions of one quantity differ, in one sentence a group.
REASONS: dict[str, str] = {
    "params": (
        "params counts every trainable number, params_conv the weights of convolution and linear "
        "layers only (the paper's tables), params_file also the running statistics that a Darknet "
        "file stores."
    ),
    "compute": (
        "flops is 2 x macs; bflops counts convolutions and linear layers as 2 x MACs and adds one "
        "operation per element of every max-pool window, as Darknet and the paper do, and leaves "
        "out products of activations (attention)."
    ),
    "traffic": (
        "CIO and memory access cost count elements of convolutions (cio_paper also pools and "
        "softmax, memory_access_cost also weights); traffic_bytes counts bytes of every operator "
        "on its own; the fused form drops what norm and activation would read and write again."
    ),
    "memory": (
        "peak_live_bytes is the largest sum of activations alive at once in inference; "
        "saved_for_backward_bytes is what training keeps until the backward pass; weights are in "
        "neither."
    ),
    "other": "these count quantities of their own.",
}


def rows(analysis: Analysis) -> list[dict[str, Any]]:
    """One row a convention, by group; ``ignored`` lists the operators that count nothing in it."""
    return [
        {
            "id": analysis.id,
            "group": metric.group,
            "convention": metric.name,
            "value": analysis.totals.get(metric.name),
            "unit": metric.unit,
            "counts": metric.summary,
            "source": metric.source,
            "ignored": analysis.ignored.get(metric.name, {}),
            "unsupported": analysis.unsupported,
            "coverage": analysis.coverage,
        }
        for metric, _ in shown_in("conventions")
    ]
