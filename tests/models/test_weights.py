"""Seeded weights: same bits everywhere, activations in range."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from cspbench.models.build import build
from cspbench.models.weights import materialize, uniform

COMMITTED = [-0.3682980537414551, -0.11388790607452393, 0.011068582534790039]
DIGEST = "d404f92d1766ae3e"


def digest(module: nn.Module) -> str:
    state = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        state.update(name.encode())
        state.update(value.numpy().tobytes())
    return state.hexdigest()[:16]


def test_uniform_is_a_function_of_seed_and_name():
    # Words of Philox4x64-10 for the key (seed, first 8 bytes of SHA-256 of the name): the stream
    # is part of numpy's compatibility promise, so these values hold on every machine.
    assert uniform(0, "a", 4).tolist() == uniform(0, "a", 9)[:4].tolist()
    assert uniform(0, "a", 4).tolist() != uniform(0, "b", 4).tolist()
    assert uniform(0, "a", 4).tolist() != uniform(1, "a", 4).tolist()


def test_uniform_committed_values():
    assert uniform(0, "stem.conv.conv.weight", 3).tolist() == COMMITTED


def test_uniform_covers_the_interval():
    values = uniform(3, "x", 100_000)
    assert values.dtype == np.float32
    assert -1.0 <= values.min() < -0.999
    assert 0.999 < values.max() < 1.0
    # Standard error of the mean: (1/sqrt(3)) / sqrt(1e5) = 0.0018; five of them.
    assert abs(float(values.mean())) < 0.009


def test_committed_digest_of_a_network():
    assert digest(build("peleenet")) == DIGEST
    assert digest(build("peleenet", seed=1)) != DIGEST


def test_real_parameters_stay_and_shared_ones_are_filled_once():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.device("meta"):
                self.a = nn.Conv2d(3, 3, 1)
                self.b = nn.Conv2d(3, 3, 1)
            self.b.weight = self.a.weight
            self.own = nn.Parameter(torch.full((2,), 7.0))

    module = materialize(Shared())
    assert module.a.weight is module.b.weight
    assert module.own.tolist() == [7.0, 7.0]
    assert all(p.device.type == "cpu" for p in module.parameters())


def test_normalisation_differs_from_identity():
    module = build("peleenet")
    norm = module.stem.conv.bn
    for tensor, centre in ((norm.weight, 1.0), (norm.running_var, 1.0), (norm.running_mean, 0.0)):
        assert 0.01 < float((tensor.detach() - centre).abs().mean()) < 0.2
