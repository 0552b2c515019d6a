"""Autocast on shapes: which types its operands take.

Meta tensors pass autocast's own dispatch keys untouched, so the second level of the tracer casts in
their place. The lists are torch's (``aten/src/ATen/autocast_mode.h``), by the ATen operators that
its functions are made of.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_LOWER = frozenset(
    [
        "convolution",
        "_convolution",
        "conv_tbc",
        "mm",
        "bmm",
        "addmm",
        "baddbmm",
        "addbmm",
        "addmv",
        "mv",
        "linalg_vecdot",
        "scaled_dot_product_attention",
    ]
)
_FULL_CPU = frozenset(
    [
        "avg_pool3d",
        "binary_cross_entropy",
        "grid_sampler_2d",
        "grid_sampler_3d",
        "polar",
        "prod",
        "mse_loss",
        "_cdist_forward",
        "_euclidean_dist",
        "nll_loss_forward",
        "smooth_l1_loss",
        "huber_loss",
    ]
)
_FULL_CUDA = frozenset(
    [
        "acos",
        "asin",
        "cosh",
        "erfinv",
        "exp",
        "expm1",
        "log",
        "log10",
        "log2",
        "log1p",
        "reciprocal",
        "rsqrt",
        "sinh",
        "tan",
        "pow",
        "softplus",
        "native_layer_norm",
        "native_group_norm",
        "nll_loss_forward",
        "nll_loss2d_forward",
        "smooth_l1_loss",
        "mse_loss",
        "huber_loss",
        "_cdist_forward",
        "_euclidean_dist",
        "_pdist_forward",
        "renorm",
        "logsumexp",
        "prod",
        "_softmax",
        "_log_softmax",
        "cumprod",
        "cumsum",
        "linalg_vector_norm",
        "sum",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_nearest3d",
        "upsample_linear1d",
        "upsample_bilinear2d",
        "upsample_bicubic2d",
        "upsample_trilinear3d",
    ]
)


class Autocast(NamedTuple):
    """The autocast in force: kind of device and its lower type."""

    device: str
    lower: torch.dtype

    def dtype_of(self, op: str) -> torch.dtype | None:
        """The type that an operator's floating operands are cast to, None for as they are."""
        if op in _LOWER or (op == "_prelu_kernel" and self.device == "cuda"):
            return self.lower
        full = _FULL_CUDA if self.device == "cuda" else _FULL_CPU
        return torch.float32 if op in full else None


def in_force() -> Autocast | None:
    """The autocast that the forward pass has switched on."""
    if not torch._C._is_any_autocast_enabled():
        return None
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            return Autocast(device, torch.get_autocast_dtype(device))
    raise ValueError("autocast is followed for the devices cpu and cuda only")
