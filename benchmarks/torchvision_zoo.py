"""Counts of torchvision's networks, held against its own tables and a real count of each.

Run: ``python benchmarks/torchvision_zoo.py RESULTS.csv [MODEL...]`` with torchvision importable
(docs/metrics.md says how on a CPU-only torch). Each network is built as its published weights want
it, which are not read: they decide about auxiliary heads and frozen norms. Its input is what the
weights' own preprocessing makes of the image that torchvision counts by.

Every set of weights states ``num_params`` and ``_ops`` (multiply-accumulates / 1e9, to three
decimals). FlopCounterMode's count on the meta device, halved, is the same number as an integer.

A detector is counted until its forward pass asks for values, and so is FlopCounterMode's number;
what follows is named and lowers the coverage. torchvision's number of a two-stage one also holds
its heads for the boxes and detections that torchvision's own run had: the column ``rest`` tells how
many those were. Quantised networks are built before their quantisation, since that is what
``num_params`` counts.

Rows that are in the results are not computed again.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

from resumable import Row, answers

FIELDS = (
    *("model", "weights", "params", "macs", "counted", "published", "rest", "coverage"),
    "answer",
)
#: The table counts the auxiliary head, the builder drops it.
OPTIONS = {"quantized_inception_v3": {"aux_logits": True}}
#: Two numbers of 1e9 operations to three decimals are the same.
ROUNDING = 500_001
#: What torchvision's own count feeds: an image of this side, or as many frames.
SIDE, FRAMES = 512, 16


def rows(models: list[str]) -> list[Row]:
    """Networks and weights with different numbers, one row each."""
    from torchvision_alone import import_torchvision

    import_torchvision()
    from torchvision.models import get_model_weights, list_models

    listed = []
    for name in models or list_models():
        known = set()
        for entry in get_model_weights(name):
            size = tuple(_input(entry, name)[0].shape)
            numbers = (entry.meta["num_params"], entry.meta["_ops"], size)
            if numbers not in known:
                known.add(numbers)
                listed.append({"model": name, "weights": entry.name})
    return listed


def is_detector(name: str) -> bool:
    """True for a network of ``torchvision.models.detection``."""
    from torchvision.models import get_model_builder

    return ".detection." in get_model_builder(name).__module__


def _input(entry: Any, name: str) -> tuple[Any, ...]:
    """What the network is called with, by the preprocessing of its weights."""
    import torch
    from torchvision.models import get_model_builder

    package = get_model_builder(name).__module__
    preprocess = entry.transforms()
    if ".detection." in package:
        return (preprocess(torch.zeros(3, SIDE, SIDE)),)
    if ".video." in package:
        return (preprocess(torch.zeros(1, FRAMES, 3, SIDE, SIDE)),)
    image = torch.zeros(1, 3, SIDE, SIDE)
    if ".optical_flow." in package:
        return tuple(preprocess(image, image))
    return (preprocess(image),)


@contextlib.contextmanager
def without_reading() -> Iterator[None]:
    """Weights are neither downloaded nor read, but decide how a network is built."""
    from torch import nn
    from torchvision.models import WeightsEnum

    with (
        patch.object(WeightsEnum, "get_state_dict", lambda *_, **__: {}),
        patch.object(nn.Module, "load_state_dict", lambda *_, **__: None),
    ):
        yield


def built(name: str, weights: str) -> tuple[Any, tuple[Any, ...]]:
    """A network as its weights want it, on meta, and the arguments of its forward pass."""
    import torch
    from torchvision.models import get_model, get_model_weights

    entry = get_model_weights(name)[weights]
    as_trained = entry.meta.get("unquantized", entry)
    options = OPTIONS.get(name, {})
    with without_reading():
        try:
            with torch.device("meta"):
                model = get_model(name, weights=as_trained, **options)
        except NotImplementedError:  # some compute their widths by tensors
            model = get_model(name, weights=as_trained, **options).to("meta")
    tensors = tuple(tensor.to("meta") for tensor in _input(entry, name))
    return model.eval(), ([tensors[0]],) if is_detector(name) else tensors


def counted_by_torch(model: Any, args: tuple[Any, ...]) -> int:
    """Multiply-accumulates by FlopCounterMode, as far as the forward pass runs on meta."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    # Without gradients attention would take its fused path, which FlopCounterMode does not know.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            with contextlib.suppress(RuntimeError):  # values are asked for
                model(*args)
            return int(counter.get_total_flops()) // 2
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def second_stage(model: Any, rest: int) -> str:
    """Boxes and detections for which a two-stage detector's heads take ``rest``; "" if none do.

    The first stage proposes as many boxes as it may, or none whose score is high enough.
    """
    from torch import nn

    from cspbench import analyze

    def macs(*parts: nn.Module, pool: Any) -> int:
        shape = (1, model.backbone.out_channels, *pool.output_size)
        return int(analyze(nn.Sequential(*parts), shape).macs)

    heads = model.roi_heads
    box = macs(heads.box_head, heads.box_predictor, pool=heads.box_roi_pool)
    detection = 0
    if heads.has_mask():
        detection = macs(heads.mask_head, heads.mask_predictor, pool=heads.mask_roi_pool)
    elif heads.has_keypoint():
        parts = heads.keypoint_head, heads.keypoint_predictor.kps_score_lowres
        detection = macs(*parts, pool=heads.keypoint_roi_pool)
    for boxes in (0, model.rpn._post_nms_top_n["testing"]):
        left = rest - boxes * box
        detections = round(left / detection) if detection else 0
        within = 0 <= detections <= heads.detections_per_img
        if within and abs(left - detections * detection) < ROUNDING:
            return f"{boxes} boxes, {detections} detections"
    return ""


def counted(row: Row) -> dict[str, Any]:
    """What an analysis says of one network, and whether that is right."""
    from torchvision.models import get_model_weights

    from cspbench import analyze
    from cspbench.errors import InputError

    name = row["model"]
    meta = get_model_weights(name)[row["weights"]].meta
    result: dict[str, Any] = dict(row)
    model, args = built(name, row["weights"])
    try:
        analysis = analyze(model, args, cache=False)
    except InputError as error:
        return result | {"answer": f"refused: {error}"}
    result |= {
        "params": analysis.params,
        "macs": analysis.macs,
        "counted": counted_by_torch(model, args),
        "published": meta["_ops"],
        "coverage": analysis.coverage,
    }
    rest = round(meta["_ops"] * 1e9) - analysis.macs
    same = abs(rest) < ROUNDING
    if hasattr(model, "roi_heads"):
        result["rest"] = second_stage(model, rest)
        same = bool(result["rest"])
    differs = [
        text
        for text, holds in (
            ("params", analysis.params == meta["num_params"]),
            ("FlopCounterMode", analysis.macs == result["counted"]),
            ("published", same),
            ("coverage", analysis.coverage == 100 or is_detector(name)),
        )
        if not holds
    ]
    equal = "equal" if analysis.coverage == 100 else "equal as far as known without data"
    return result | {"answer": f"differs: {', '.join(differs)}" if differs else equal}


def main() -> None:
    """Count what is not in the results yet, and say how many are equal."""
    results, *models = sys.argv[1:] or ["torchvision_zoo.csv"]
    counts = answers(Path(results), FIELDS, rows(models), ("model", "weights"), counted)
    differ = [row for row in counts if not row["answer"].startswith("equal")]
    print(f"{len(counts) - len(differ)} of {len(counts)} networks are equal")
    for row in counts:
        if row["answer"] != "equal":
            print(f"  {row['model']} {row['weights']}: {row['answer']}")


if __name__ == "__main__":
    main()
