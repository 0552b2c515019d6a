"""An analysis held against PyTorch itself: counts of a real run, refusals of a real run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cspbench.analysis.api import analyze
from cspbench.analysis.record import Analysis
from cspbench.errors import InputError


class Call(nn.Module):
    """A module that is one function of itself, with its parts, and of its inputs."""

    def __init__(self, function, buffers=None, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)
        for name, buffer in (buffers or {}).items():
            self.register_buffer(name, buffer)

    def forward(self, *inputs):
        return self.function(self, *inputs)


def param(*shape):
    return nn.Parameter(torch.rand(*shape))


def real_macs(module, *inputs) -> int:
    """Half of what FlopCounterMode counts in a real run."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(*inputs)
    return counter.get_total_flops() // 2


def assert_counted(module, *inputs, macs=None) -> Analysis:
    """The analysis is complete and counts what a real run counts, or ``macs`` where that cannot."""
    expected = real_macs(module, *inputs) if macs is None else macs
    assert expected > 0 or macs == 0
    analysis = analyze(module, inputs, cache=False)
    assert analysis.unsupported == {}
    assert analysis.coverage == 100.0
    assert analysis.macs == expected
    assert analysis.params == sum(parameter.numel() for parameter in module.parameters())
    return analysis


def assert_refused(module, *inputs) -> str:
    """PyTorch itself refuses these inputs, and the analysis does; returns its reason."""
    reasons = (RuntimeError, ValueError, IndexError, NotImplementedError, TypeError)
    with torch.no_grad(), pytest.raises(reasons):
        module.eval()(*inputs)
    with pytest.raises(InputError) as refusal:
        analyze(module, inputs, cache=False)
    return str(refusal.value)
