"""Folding of batch norms into the convolutions before them, on an exported graph.

With scale s = gamma / sqrt(running_var + eps) of each output channel (Ioffe and Szegedy, 2015,
inference form): weight' = s * weight, bias' = beta + s * (bias - running_mean). The scale and the
bias are worked out in double precision.
"""

from __future__ import annotations

from typing import Any

import torch

_CONVOLUTIONS = (torch.ops.aten.conv2d.default, torch.ops.aten.conv2d.padding)
_BATCH_NORM = torch.ops.aten.batch_norm.default


def fold_batch_norms(graph: torch.fx.GraphModule) -> int:
    """Fold in place; return how many were.

    Only where nothing but the batch norm reads the convolution. What is left (before an activation
    that comes first, as in DenseNet) stays a batch norm.
    """
    folded = 0
    for node in list(graph.graph.nodes):
        if node.target is _BATCH_NORM and _fold(graph, node, folded):
            folded += 1
    graph.graph.eliminate_dead_code()
    graph.recompile()
    graph.delete_all_unused_submodules()
    return folded


def _fold(graph: torch.fx.GraphModule, norm: torch.fx.Node, number: int) -> bool:
    """Fold one batch norm; False if its input is not a convolution that it alone reads."""
    source, gamma, beta, mean, variance = norm.args[:5]
    if not isinstance(source, torch.fx.Node) or source.target not in _CONVOLUTIONS:
        return False
    if len(source.users) != 1:
        return False
    epsilon = float(norm.args[7])  # type: ignore[arg-type]
    weight = _tensor(graph, source.args[1], torch.float32)  # large: no copy in double precision
    bias = _tensor(graph, source.args[2] if len(source.args) > 2 else None)
    centre, spread = _tensor(graph, mean), _tensor(graph, variance)
    if weight is None or centre is None or spread is None:
        return False
    scale = (spread + epsilon).rsqrt()
    scale = scale * _or(_tensor(graph, gamma), 1.0, scale)
    shift = _or(_tensor(graph, beta), 0.0, scale)
    new_weight = weight * scale.float().reshape(-1, *[1] * (weight.dim() - 1))
    new_bias = shift + scale * (_or(bias, 0.0, scale) - centre)
    with graph.graph.inserting_before(source):
        names = [f"folded_{number}_{part}" for part in ("weight", "bias")]
        for name, tensor in zip(names, (new_weight, new_bias), strict=True):
            parameter = torch.nn.Parameter(tensor.float(), requires_grad=False)
            graph.register_parameter(name, parameter)
        nodes = [graph.graph.get_attr(name) for name in names]
    source.args = (source.args[0], *nodes, *source.args[3:])
    norm.replace_all_uses_with(source)
    graph.graph.erase_node(norm)
    return True


def _tensor(
    graph: torch.fx.GraphModule, argument: Any, dtype: torch.dtype = torch.float64
) -> torch.Tensor | None:
    """The parameter or buffer that an argument names; None if it names something else."""
    if not isinstance(argument, torch.fx.Node) or argument.op != "get_attr":
        return None
    value: Any = graph
    for part in str(argument.target).split("."):
        value = getattr(value, part)
    tensor: torch.Tensor = value.detach().to(dtype)
    return tensor


def _or(tensor: torch.Tensor | None, value: float, like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, value) if tensor is None else tensor
