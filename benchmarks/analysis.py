"""Time of a whole analysis against the tools that count FLOPs.

Six built models from 0.1 to 10 GMACs with real weights, all tools in turn in one process, order
rotated each round, one thread. Goal: at most a tenth of fvcore's time for FLOPs alone (geometric
mean) and never slower than any tool.

    python benchmarks/analysis.py [--rounds N]

torchinfo and ptflops are not dependencies. The output names the tools that are not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.models.build import build, default_input

MODELS = ("snet146", "mobilenet-v2", "peleenet", "yolov3-tiny", "cspresnext50", "darknet53")
Tool = Callable[[nn.Module, torch.Tensor], object]


def _cspbench(module: nn.Module, x: torch.Tensor) -> object:
    return analyze(module, x, cache=False).totals


def _tools() -> tuple[dict[str, Tool], list[str]]:
    from fvcore.nn import FlopCountAnalysis
    from torch.utils.flop_counter import FlopCounterMode

    def fvcore(module: nn.Module, x: torch.Tensor) -> object:
        return FlopCountAnalysis(module, x).unsupported_ops_warnings(False).total()

    def flop_counter(module: nn.Module, x: torch.Tensor) -> object:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(x)
        return counter.get_total_flops()

    tools: dict[str, Tool] = {"cspbench": _cspbench, "fvcore": fvcore}
    tools["FlopCounterMode"] = flop_counter
    missing = []
    try:
        import torchinfo

        tools["torchinfo"] = lambda module, x: torchinfo.summary(module, input_data=x, verbose=0)
    except ImportError:
        missing.append("torchinfo")
    try:
        import ptflops

        def by_ptflops(backend: str) -> Tool:
            return lambda module, x: ptflops.get_model_complexity_info(
                module,
                tuple(x.shape[1:]),
                backend=backend,
                print_per_layer_stat=False,
                as_strings=False,
            )

        tools["ptflops (pytorch)"] = by_ptflops("pytorch")
        tools["ptflops (aten)"] = by_ptflops("aten")
    except ImportError:
        missing.append("ptflops")
    return tools, missing


def _milliseconds(tool: Tool, module: nn.Module, x: torch.Tensor) -> float:
    gc.collect()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        tool(module, x)
        return (time.perf_counter() - start) * 1e3


def main() -> None:
    """Measure and print one row a model, and the geometric mean of the ratios to fvcore."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tools, missing = _tools()
    rows = []
    for name in MODELS:
        module = build(name)
        x = torch.randn(1, 3, *default_input(name))
        times: dict[str, list[float]] = {tool: [] for tool in tools}
        for round_ in range(options.rounds + 1):
            names = list(tools)
            shift = round_ % len(names)
            for tool in names[shift:] + names[:shift]:
                taken = _milliseconds(tools[tool], module, x)
                if round_:  # the first round warms up
                    times[tool].append(taken)
        medians = {tool: statistics.median(values) for tool, values in times.items()}
        gmacs = analyze(module, x).macs / 1e9
        rows.append({"model": name, "gmacs": gmacs, "median_ms": medians})
        if not options.json:
            cells = "  ".join(f"{tool} {value:.1f}" for tool, value in medians.items())
            print(f"{name:14s} {gmacs:6.2f} GMACs   {cells}  ms", flush=True)
    logs = [math.log(r["median_ms"]["fvcore"] / r["median_ms"]["cspbench"]) for r in rows]
    mean = math.exp(statistics.fmean(logs))
    slower = [
        f"{row['model']}: {tool}"
        for row in rows
        for tool, value in row["median_ms"].items()
        if value < row["median_ms"]["cspbench"]
    ]
    if options.json:
        print(json.dumps({"rows": rows, "fvcore_ratio": mean, "slower_than": slower}))
        return
    print(f"fvcore / cspbench, geometric mean: {mean:.1f}")
    print(f"slower than: {', '.join(slower) or 'none'}")
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")


if __name__ == "__main__":
    main()
