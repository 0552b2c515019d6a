"""Parameters by convention, and memory."""

from __future__ import annotations

from cspbench.analysis.metric import TOTAL_METRICS, TotalMetric
from cspbench.analysis.ops import CONV_KINDS

for _total in (
    TotalMetric(
        "params",
        "parameters",
        "all parameters as PyTorch counts them, a shared one once",
        "definition",
        lambda _, facts: facts.params,
    ),
    TotalMetric(
        "params_conv",
        "parameters",
        "weights of convolution and linear layers; no norm, no bias",
        "CSPNet's tables, arXiv 1911.11929",
        lambda layers, _: sum(layer.params_conv for layer in layers),
        CONV_KINDS,
    ),
    TotalMetric(
        "params_file",
        "parameters",
        "floats in a Darknet weights file: parameters and running statistics",
        "PartialResidualNetworks README; AlexeyAB/darknet",
        lambda _, facts: facts.params + facts.running_statistics,
    ),
    TotalMetric(
        "weight_bytes",
        "bytes",
        "parameters and buffers in their own types",
        "definition",
        lambda _, facts: facts.weight_bytes,
    ),
    TotalMetric(
        "peak_live_bytes",
        "bytes",
        "largest sum of live activations, input included, weights not",
        "definition; equals the allocator's events in eager PyTorch",
        lambda _, facts: facts.peak_live_bytes,
    ),
    TotalMetric(
        "saved_for_backward_bytes",
        "bytes",
        "activations that training keeps for the backward pass",
        "torch.autograd's own formulas",
        lambda layers, _: sum(layer.saved_for_backward_bytes for layer in layers),
    ),
):
    TOTAL_METRICS.add(_total)
