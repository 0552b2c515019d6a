"""Whether a branch depends on the inputs is seen while torch runs a module once.

``tests/models/test_own_inputs.py`` measures a network with such a branch.
"""

import subprocess
import sys

import pytest
import torch
from torch import nn

from cspbench.artifacts.branches import BranchWatch


class Signed(nn.Module):
    """Decides by what it reads; a part of it may be compiled."""

    def __init__(self, absolute=torch.abs):
        super().__init__()
        self.absolute = absolute

    def forward(self, x):
        x = self.absolute(x)
        return x if x.sum() > 3 else -x


class Sized(nn.Module):
    """Decides by a size, which is the same for every input."""

    def forward(self, x):
        return x if x.shape[0] > 3 else -x


def _compiled(function):
    return torch.compile(function, backend="eager")


@pytest.mark.parametrize(
    ("module", "depends"),
    [
        (Signed(), True),
        (Signed(_compiled(torch.abs)), True),
        (_compiled(Signed()), True),
        (Sized(), False),
        (_compiled(Sized()), False),
    ],
    ids=["values", "a compiled part", "a compiled whole", "a size", "a size, compiled"],
)
def test_a_branch_on_values_is_seen_and_one_on_a_size_is_none(module, depends):
    inputs = torch.ones(2)
    with torch.inference_mode(), BranchWatch([inputs]) as watch:
        assert module(inputs).tolist() == [-1, -1]
    assert watch.depends is depends


def test_watching_does_not_import_the_compiler():
    code = (
        "import sys, torch; from cspbench.artifacts.branches import BranchWatch\n"
        "inputs = torch.ones(1, 3, 4, 4)\n"
        "with torch.inference_mode(), BranchWatch([inputs]): torch.nn.Conv2d(3, 2, 3)(inputs)\n"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
