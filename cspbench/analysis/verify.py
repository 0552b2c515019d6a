"""Other tools on the same model, reconciled with ours operator by operator.

fvcore traces the network with real numbers and reports multiply-accumulates; PyTorch's
FlopCounterMode reports 2 x MACs. Both execute the network, so this takes a while.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cspbench.analysis.record import Analysis
from cspbench.errors import InputError

if TYPE_CHECKING:
    from torch import nn

#: Our family -> the operators by which each tool counts it.
FVCORE: dict[str, tuple[str, ...]] = {
    "conv": ("conv",),
    "linear": ("linear", "addmm"),
    "matmul": ("matmul", "bmm", "einsum", "scaled_dot_product_attention"),
}
TORCH: dict[str, tuple[str, ...]] = {
    "conv": ("convolution", "_convolution"),
    "linear": ("addmm", "mm"),
    "matmul": ("bmm", "baddbmm", "_scaled_dot_product"),
}
#: Batched products, which the tools count as such even where one factor is a weight.
_BATCHED = ("bmm", "baddbmm")


def fvcore_counts(module: nn.Module, args: tuple[Any, ...]) -> tuple[Counter[str], Counter[str]]:
    """Operations by operator as fvcore has them, and the calls of operators that it skips."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fvcore.nn import FlopCountAnalysis

        logging.getLogger("fvcore.nn.jit_analysis").setLevel(logging.ERROR)
        counter = FlopCountAnalysis(module.eval(), args)
        return counter.by_operator(), counter.unsupported_ops()


def torch_counts(module: nn.Module, args: tuple[Any, ...]) -> dict[str, int]:
    """Operations (2 x MACs) by ATen operator as FlopCounterMode has them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # FlopCounterMode counts nothing for the native kernels of transformers.
    native = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(*args)
    finally:
        torch.backends.mha.set_fastpath_enabled(native)
    found: dict[str, int] = {}
    for packet, count in counter.get_flop_counts().get("Global", {}).items():
        found[str(packet).rpartition(".")[2]] = int(count)
    return found


def reconcile(analysis: Analysis, module: nn.Module, args: tuple[Any, ...]) -> list[dict[str, Any]]:
    """One row an operator family: our MACs, fvcore's, FlopCounterMode's / 2, and a verdict.

    Args:
        analysis: of the module.
        module: with real weights; it is executed.
        args: real inputs.
    """
    ours: Counter[str] = Counter()
    for layer in analysis.layers:
        family = "matmul" if layer.kind == "attention" or layer.op in _BATCHED else layer.kind
        ours[family] += int(layer.values["macs"])
    by_fvcore, skipped = fvcore_counts(module, args)
    by_torch = torch_counts(module, args)
    rows = [_family(family, ours[family], by_fvcore, by_torch, skipped) for family in FVCORE]
    named = {name for names in FVCORE.values() for name in names}
    rows.extend(
        {
            "operator": name,
            "cspbench_macs": 0,
            "fvcore": int(count),
            "flop_counter_half": 0,
            "verdict": "fvcore only: not a multiply-accumulate by our definition",
        }
        for name, count in sorted(by_fvcore.items())
        if name not in named and count
    )
    rows.extend(
        {
            "operator": name.removeprefix("aten::"),
            "cspbench_macs": 0,
            "fvcore": None,
            "flop_counter_half": 0,
            "verdict": f"fvcore skips it ({calls} calls)",
        }
        for name, calls in sorted(skipped.items())
    )
    return rows


def reconcile_all(analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """The rows of `reconcile` for models by their ids, which are built and executed.

    Raises:
        InputError: one is not a model that PyTorch can run.
    """
    import torch

    from cspbench.models.build import build

    rows: list[dict[str, Any]] = []
    for analysis in analyses:
        if analysis.source != "torch":
            raise InputError(f"{analysis.id}: only a model that PyTorch can run can be verified")
        inputs = tuple(torch.zeros(shape) for shape in analysis.input)
        reconciled = reconcile(analysis, build(analysis.id), inputs)
        rows.extend({"id": analysis.id} | row for row in reconciled)
    return rows


def _family(
    family: str,
    ours: int,
    by_fvcore: Counter[str],
    by_torch: dict[str, int],
    skipped: Counter[str],
) -> dict[str, Any]:
    fvcore = int(sum(by_fvcore.get(name, 0) for name in FVCORE[family]))
    half = sum(count for name, count in by_torch.items() if name.startswith(TORCH[family])) / 2
    differs = [
        text for text, other in (("fvcore", fvcore), ("FlopCounterMode", half)) if other != ours
    ]
    verdict = "equal" if not differs else f"differs from {' and '.join(differs)}"
    if differs and any("attention" in name or "matmul" in name for name in skipped):
        verdict += " (which skips attention's products)"
    return {
        "operator": family,
        "cspbench_macs": ours,
        "fvcore": fvcore,
        "flop_counter_half": int(half) if half == int(half) else half,
        "verdict": verdict,
    }
