"""What other tools count for single layers, beside this package's count.

Run: ``python benchmarks/conventions.py`` with the tools importable that are to be compared; those
that are not are left out. Each layer stands alone, so that a number is that layer's and no other's.
Numbers are what the tool says divided by what it says of one multiply-accumulate (1 or 2), so that
a column is multiply-accumulates by that tool's convention. docs/metrics.md holds the differences.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Count = Callable[[nn.Module, torch.Tensor], float]


class Function(nn.Module):
    """A module that is one function."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def _attention(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.scaled_dot_product_attention(x, x, x)


class Attention(nn.Module):
    """nn.MultiheadAttention of one input."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> Any:
        return self.attention(x, x, x, need_weights=False)[0]


IMAGE, TOKENS, HEADS = (1, 8, 16, 16), (1, 20, 32), (1, 4, 20, 8)
LAYERS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "conv2d": (nn.Conv2d(8, 16, 3, padding=1, bias=False), IMAGE),
    "conv2d with bias": (nn.Conv2d(8, 16, 3, padding=1), IMAGE),
    "transposed conv2d": (nn.ConvTranspose2d(8, 16, 2, stride=2, bias=False), IMAGE),
    "linear": (nn.Linear(32, 64, bias=False), TOKENS),
    "linear with bias": (nn.Linear(32, 64), TOKENS),
    "batch norm": (nn.BatchNorm2d(8), IMAGE),
    "layer norm": (nn.LayerNorm(32), TOKENS),
    "relu": (nn.ReLU(), IMAGE),
    "gelu": (nn.GELU(), IMAGE),
    "max pool": (nn.MaxPool2d(2), IMAGE),
    "average pool": (nn.AvgPool2d(2), IMAGE),
    "global average pool": (nn.AdaptiveAvgPool2d(1), IMAGE),
    "upsample nearest": (nn.Upsample(scale_factor=2), IMAGE),
    "upsample bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "softmax": (nn.Softmax(-1), TOKENS),
    "addition": (Function(lambda x: x + x), IMAGE),
    "matmul": (Function(lambda x: x @ x.transpose(-1, -2)), TOKENS),
    "einsum": (Function(lambda x: torch.einsum("bij,bkj->bik", x, x)), TOKENS),
    "scaled_dot_product_attention": (Function(_attention), HEADS),
    "nn.MultiheadAttention": (Attention(), TOKENS),
    "nn.LSTM": (nn.LSTM(32, 16, batch_first=True), TOKENS),
    "nn.Bilinear": (Function(lambda x: BILINEAR(x, x)), TOKENS),
}
BILINEAR = nn.Bilinear(32, 32, 4, bias=False)


def _cspbench(module: nn.Module, x: torch.Tensor) -> float:
    from cspbench import analyze

    return float(analyze(module, x, cache=False).macs)


def _flop_counter(module: nn.Module, x: torch.Tensor) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / 2


def _fvcore(module: nn.Module, x: torch.Tensor) -> float:
    from fvcore.nn import FlopCountAnalysis

    return float(FlopCountAnalysis(module, x).unsupported_ops_warnings(False).total())


def _torchinfo(module: nn.Module, x: torch.Tensor) -> float:
    import torchinfo

    return float(torchinfo.summary(module, input_data=x, verbose=0).total_mult_adds)


def _ptflops(backend: str) -> Count:
    def count(module: nn.Module, x: torch.Tensor) -> float:
        import ptflops

        macs, _ = ptflops.get_model_complexity_info(
            module,
            tuple(x.shape[1:]),
            backend=backend,
            as_strings=False,
            print_per_layer_stat=False,
        )
        return float(macs or 0)

    return count


def _calflops(module: nn.Module, x: torch.Tensor) -> float:
    import calflops

    if next(module.parameters(), None) is None:  # by a parameter it finds the device
        module = nn.Sequential(module)
        module.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    flops, _, _ = calflops.calculate_flops(
        module, args=[x], output_as_string=False, print_results=False, print_detailed=False
    )
    return float(flops) / 2


TOOLS: dict[str, Count] = {
    "cspbench": _cspbench,
    "FlopCounterMode": _flop_counter,
    "fvcore": _fvcore,
    "torchinfo": _torchinfo,
    "ptflops modules": _ptflops("pytorch"),
    "ptflops operators": _ptflops("aten"),
    "calflops": _calflops,
}


def counted(tool: Count, module: nn.Module, x: torch.Tensor) -> str:
    """One cell: the number, or why there is none."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            return f"{tool(module.eval(), x):g}"
        except Exception as error:  # each tool has failures of its own
            return type(error).__name__


def main() -> None:
    """Print one row a layer."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tools = {name: tool for name, tool in TOOLS.items()
             if counted(tool, *_example()) != "ModuleNotFoundError"}  # fmt: skip
    print("| layer | " + " | ".join(tools) + " |")
    print("| --- " * (1 + len(tools)) + "|")
    for layer, (module, shape) in LAYERS.items():
        cells = [counted(tool, module, torch.rand(shape)) for tool in tools.values()]
        print(f"| {layer} | " + " | ".join(cells) + " |")


def _example() -> tuple[nn.Module, torch.Tensor]:
    module, shape = LAYERS["conv2d"]
    return module, torch.rand(shape)


if __name__ == "__main__":
    main()
