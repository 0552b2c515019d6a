"""Parameters by convention, and memory."""

from __future__ import annotations

from cspbench.analysis.metric import TOTAL_METRICS, TotalMetric, at
from cspbench.analysis.ops import CONV_KINDS

for _total in (
    TotalMetric(
        "params",
        "parameters",
        "all parameters as PyTorch counts them, a shared one once",
        "definition",
        lambda _, facts: facts.params,
        sum_of="params",
        heading="params (M)",
        divisor=1e6,
        column="params_m",
        group="params",
        places=at(overview=1, cases=1, compare=4, conventions=1, gate=2),
    ),
    TotalMetric(
        "params_conv",
        "parameters",
        "weights of convolution and linear layers; no norm, no bias",
        "CSPNet's tables, arXiv 1911.11929",
        lambda layers, _: sum(layer.params_conv for layer in layers),
        CONV_KINDS,
        sum_of="params_conv",
        heading="conv params (M)",
        divisor=1e6,
        group="params",
        places=at(overview=2, compare=5, conventions=2),
    ),
    TotalMetric(
        "params_file",
        "parameters",
        "floats in a Darknet weights file: parameters and running statistics",
        "PartialResidualNetworks README; AlexeyAB/darknet",
        lambda _, facts: facts.params + facts.running_statistics,
        group="params",
        places=at(conventions=3),
    ),
    TotalMetric(
        "weight_bytes",
        "bytes",
        "parameters and buffers in their own types",
        "definition",
        lambda _, facts: facts.weight_bytes,
        heading="weights (MB)",
        divisor=1e6,
        group="memory",
        places=at(memory=2, conventions=33),
    ),
    TotalMetric(
        "peak_live_bytes",
        "bytes",
        "largest sum of live activations, input included, weights not",
        "definition; equals the allocator's events in eager PyTorch",
        lambda _, facts: facts.peak_live_bytes,
        largest="live_bytes",
        heading="peak live (MB)",
        divisor=1e6,
        group="memory",
        places=at(overview=(11, 2), memory=1, compare=12, conventions=31, gate=5),
    ),
    TotalMetric(
        "saved_for_backward_bytes",
        "bytes",
        "activations that training keeps for the backward pass",
        "torch.autograd's own formulas",
        lambda layers, _: sum(layer.saved_for_backward_bytes for layer in layers),
        sum_of="saved_for_backward_bytes",
        heading="kept for backward (MB)",
        divisor=1e6,
        group="memory",
        places=at(memory=(3, 2), compare=13, conventions=32),
    ),
):
    TOTAL_METRICS.add(_total)
