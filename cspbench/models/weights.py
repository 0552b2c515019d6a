"""Seeded weights: the same bits on every machine, and scaled so that activations stay in range.

A parameter's values are the raw integers of a Philox generator keyed by the seed and the
parameter's name, mapped to [-1, 1) by exact float32 arithmetic and multiplied by a bound; no
transcendental function and no order of creation enters. The bound of a convolution gives its
output, after the activation that follows, a second moment of about 1 (He et al. 2015). The last
normalisation of a residual branch is damped, so that sums do not grow with depth. Normalisation
statistics differ from 0 and 1, so that a wrong folding of batch normalisation would show.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

#: Gain g with E[act(g z)^2] = 1 for a standard normal z, a little less for swish and mish: these
#: pass large values on unchanged, so a gain that is exact at 1 would let them grow.
GAINS: dict[str, float] = {
    "linear": 1.0,
    "leaky": math.sqrt(2.0 / 1.01),
    "relu": math.sqrt(2.0),
    "relu6": math.sqrt(2.0),
    "swish": 1.5,
    "mish": 1.4,
    "logistic": 1.0,
}
#: Scale of the last normalisation of a residual branch.
DAMPING = 0.25
#: Half width of the interval around 1 of normalisation scales and variances.
SPREAD = 0.2
#: Bound of biases and of running means.
SMALL = 0.1


def set_gain(module: nn.Module, act: str, scale: float = 1.0) -> None:
    """Mark a convolution or linear layer as followed by ``act``; its weights scale with it."""
    module.weight_gain = GAINS[act] * scale  # type: ignore[assignment]


def damp(module: nn.Module, scale: float = DAMPING) -> nn.Module:
    """Mark the last normalisation (or else layer) of a residual branch; returns ``module``.

    A branch that has no layer of its own, because it shares one, stays as it is.
    """
    layers = list(module.modules())
    norms: list[nn.Module] = [m for m in layers if isinstance(m, nn.BatchNorm2d)]
    last = norms or [m for m in layers if isinstance(m, nn.Conv2d)]
    if last:
        last[-1].weight_scale = scale  # type: ignore[assignment]
    return module


def uniform(seed: int, name: str, count: int) -> np.ndarray:
    """Return ``count`` float32 values in [-1, 1), a pure function of the seed and the name."""
    digest = hashlib.sha256(name.encode()).digest()
    key = np.array([seed % 2**64, int.from_bytes(digest[:8], "little")], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw((count + 1) // 2)
    words = raw.astype("<u8").view("<u4")[:count]
    # 24 bits fit a float32 exactly, so neither step rounds.
    return (words >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1.0)


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm))


def _values(module: nn.Module, leaf: str, name: str, shape: torch.Size, seed: int) -> np.ndarray:
    count = math.prod(shape)
    if leaf == "num_batches_tracked":
        return np.zeros(count, np.float32)
    values = uniform(seed, name, count)
    scale = np.float32(getattr(module, "weight_scale", 1.0))
    if leaf == "running_var" or (leaf == "weight" and _is_norm(module)):
        values = np.float32(1.0) + np.float32(SPREAD) * values
        return values * scale if leaf == "weight" else values
    if len(shape) >= 2:
        transposed = isinstance(module, (nn.ConvTranspose2d, nn.ConvTranspose1d))
        fan_in = _transposed_fan_in(module) if transposed else count // shape[0]
        gain = float(getattr(module, "weight_gain", GAINS["leaky"]))
        return values * np.float32(gain * math.sqrt(3.0 / fan_in)) * scale
    return values * np.float32(SMALL) * scale


def _transposed_fan_in(module: nn.Module) -> int:
    """Products that meet in one output of a transposed convolution."""
    weight = module.weight
    assert isinstance(weight, nn.Parameter)
    stride = math.prod(module.stride)  # type: ignore[arg-type]
    return max(1, weight.shape[0] * math.prod(weight.shape[2:]) // stride)


def _own(module: nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def materialize(module: nn.Module, seed: int = 0, device: str = "cpu") -> nn.Module:
    """Give every parameter and buffer on the meta device seeded values on ``device``, in place.

    Those that are already real stay. A shared parameter is filled once, under its first name.
    Another ``seed``, any whole number, gives other weights. Returns the module.
    """
    filled: dict[int, torch.Tensor] = {}
    for prefix, owner in module.named_modules():
        for leaf, old in list(_own(owner)):
            if old.device.type != "meta":
                continue
            if id(old) not in filled:
                name = f"{prefix}.{leaf}" if prefix else leaf
                values = torch.from_numpy(_values(owner, leaf, name, old.shape, seed))
                tensor = values.reshape(old.shape).to(device, old.dtype)
                if isinstance(old, nn.Parameter):
                    tensor = nn.Parameter(tensor, old.requires_grad)
                filled[id(old)] = tensor
            setattr(owner, leaf, filled[id(old)])
    return module
