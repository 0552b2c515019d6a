"""Time of a whole analysis against the tools that count FLOPs.

Six built models from 0.1 to 10 GMACs with real weights, or (``--timm``) thirty networks of timm of
all kinds, all tools in turn in one process, order rotated each round, one thread. Goals: at most a
fifteenth of fvcore's time for FLOPs alone (geometric mean), a tenth of FlopCounterMode's on the
meta device, and never slower than any tool.

    python benchmarks/analysis.py [--rounds N] [--timm [NAME...]]

torchinfo, ptflops and timm are not dependencies. The output names the tools that are not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import gc
import io
import json
import logging
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from cspbench.analysis.api import analyze
from cspbench.models.build import build, default_input

MODELS = ("snet146", "mobilenet-v2", "peleenet", "yolov3-tiny", "cspresnext50", "darknet53")
#: Convolutional, recurrent, mixing and attending networks, small and large.
TIMM = (
    *("resnet50", "resnext50_32x4d", "densenet121", "mobilenetv3_large_100"),
    *("efficientnet_b0", "regnety_016", "vgg16", "convnext_tiny", "nf_resnet50", "hrnet_w18"),
    *("dla34", "cspresnet50", "ghostnet_100", "repvgg_a2", "inception_v3"),
    *("vit_small_patch16_224", "deit_tiny_patch16_224", "beit_base_patch16_224"),
    *("cait_xxs24_224", "swin_tiny_patch4_window7_224", "levit_128", "coatnet_0_rw_224"),
    *("maxvit_tiny_tf_224", "mvitv2_tiny", "xcit_tiny_12_p16_224", "mobilevit_s"),
    *("poolformer_s12", "mixer_s32_224", "sequencer2d_s", "lambda_resnet26t"),
)
#: Tools that are to be so many times slower, in the geometric mean.
GOALS = {"fvcore": 15, "FlopCounterMode (meta)": 10}
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

    def on_meta(module: nn.Module, x: torch.Tensor) -> object:
        return flop_counter(_on_meta(module), x.to("meta"))

    tools: dict[str, Tool] = {"cspbench": _cspbench, "fvcore": fvcore}
    tools["FlopCounterMode"] = flop_counter
    tools["FlopCounterMode (meta)"] = on_meta
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


@functools.lru_cache(maxsize=1)
def _on_meta(module: nn.Module) -> nn.Module:
    """The module without values; the copy is made before the time is taken."""
    return copy.deepcopy(module).to("meta")


def _networks(names: Sequence[str] | None) -> Iterator[tuple[str, nn.Module, torch.Tensor]]:
    """Networks by name, each with its input: ours, or those of timm."""
    if names is None:
        for name in MODELS:
            yield name, build(name), torch.randn(1, 3, *default_input(name))
        return
    from torchvision_alone import import_torchvision

    import_torchvision()
    import timm

    for name in names or TIMM:
        module = timm.create_model(name).eval()
        yield name, module, torch.randn(1, *module.default_cfg["input_size"])


def _milliseconds(tool: Tool, module: nn.Module, x: torch.Tensor) -> float:
    """Time of one count; infinite where the tool fails on the network."""
    gc.collect()
    _on_meta(module)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        try:
            tool(module, x)
        except Exception:  # each tool has failures of its own
            return math.inf
        return (time.perf_counter() - start) * 1e3


def _ratio(row: dict[str, Any], tool: str) -> float:
    return float(row["median_ms"][tool] / row["median_ms"]["cspbench"])


def _geometric_mean(ratios: Sequence[float]) -> float:
    """Over the networks that the tool can count."""
    return math.exp(statistics.fmean(math.log(ratio) for ratio in ratios if ratio < math.inf))


def main() -> None:
    """Measure and print one row a model, and the geometric means of the other tools' ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timm", nargs="*", metavar="NAME", help="networks of timm (thirty)")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    tools, missing = _tools()
    rows = []
    for name, module, x in _networks(options.timm):
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
    ratios = {
        tool: _geometric_mean([_ratio(row, tool) for row in rows])
        for tool in tools
        if tool != "cspbench"
    }
    slower = [
        f"{row['model']}: {tool}"
        for row in rows
        for tool, value in row["median_ms"].items()
        if value < row["median_ms"]["cspbench"]
    ]
    if options.json:
        print(json.dumps({"rows": rows, "ratios": ratios, "slower_than": slower}))
        return
    for tool, ratio in ratios.items():
        goal = f", goal {GOALS[tool]}" if tool in GOALS else ""
        print(f"{tool} / cspbench, geometric mean: {ratio:.1f}{goal}")
    print(f"slower than: {', '.join(slower) or 'none'}")
    if missing:
        print(f"not installed, left out: {', '.join(missing)}")


if __name__ == "__main__":
    main()
