"""Live bytes of an analysis against torch.profiler's account of a real forward pass.

Run: ``python benchmarks/live_memory.py RESULTS.csv [MODEL...]`` with timm importable
(docs/metrics.md says how). For each network ``peak_live_bytes`` stands beside the largest sum of
what the allocator had given out, with and without what a kernel takes and gives back within its own
call. Rows that are in the results are not computed again. Other load does not change the numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from resumable import Row, answers

sys.path.insert(0, str(Path(__file__).parents[1]))

FIELDS = ("model", "live", "profiler_live", "profiler", "apart", "temporaries", "answer")
LIMIT = 0.01
#: Of timm: convolutional, attention with and without fused kernels, recurrent, mixers, detectors.
TIMM = (
    *("resnet50", "resnext50_32x4d", "densenet121", "mobilenetv3_large_100"),
    *("efficientnet_b0", "regnety_016", "convnext_tiny", "convnextv2_nano", "nf_resnet50"),
    *("resnetv2_50x1_bit", "resnetblur50", "hrnet_w18", "dla34", "cspresnet50"),
    *("cspdarknet53", "inception_v3", "xception41", "ghostnet_100", "repvgg_a2", "vgg11"),
    *("dpn68", "res2net50_26w_4s", "vit_small_patch16_224", "deit_tiny_patch16_224"),
    *("beit_base_patch16_224", "cait_xxs24_224", "swin_tiny_patch4_window7_224"),
    *("swinv2_tiny_window8_256", "levit_128", "coatnet_0_rw_224", "maxvit_tiny_tf_224"),
    *("mvitv2_tiny", "pvt_v2_b1", "twins_svt_small", "xcit_tiny_12_p16_224"),
    *("crossvit_tiny_240", "edgenext_small", "mobilevit_s", "poolformer_s12"),
    *("mixer_s32_224", "gmlp_s16_224", "resmlp_12_224", "sequencer2d_s", "volo_d1_224"),
    *("focalnet_tiny_srf", "davit_tiny", "gcvit_xxtiny", "halonet26t", "eca_botnext26ts_256"),
    *("lambda_resnet26t",),
)


def counted(row: Row) -> dict[str, Any]:
    """Both numbers of one network, and whether they are the same."""
    import torch
    from torchvision_alone import import_torchvision

    from cspbench import analyze
    from tests.analysis.profiled import profiled

    import_torchvision()
    import timm

    torch.manual_seed(0)
    model = timm.create_model(row["model"]).eval()
    size = model.default_cfg["input_size"]
    x = torch.zeros(1, *size)
    analyze(model, x, cache=False)  # some networks keep tensors of the first pass
    live = int(analyze(model, x, cache=False).peak_live_bytes) - x.nbytes
    memory = profiled(model, x)
    apart = live / memory.live_peak - 1
    largest = ", ".join(f"{name} {size}" for name, size in memory.temporaries.most_common(4))
    return {
        "model": row["model"],
        "live": live,
        "profiler_live": memory.live_peak,
        "profiler": memory.peak,
        "apart": f"{apart:+.2%}",
        "temporaries": largest,
        "answer": "equal" if abs(apart) <= LIMIT else "differs",
    }


def main() -> None:
    """Compare what is not in the results yet, and say how many are equal."""
    import torch

    torch.set_num_threads(1)
    results, *models = sys.argv[1:] or ["live_memory.csv"]
    asked = [{"model": name} for name in models or TIMM]
    rows = answers(Path(results), FIELDS, asked, ("model",), counted)
    wrong = [row for row in rows if row["answer"] != "equal"]
    print(f"{len(rows) - len(wrong)} of {len(rows)} networks within {LIMIT:.0%}")
    for row in rows:
        print(f"  {row['model']:30s} {row['apart']:>8s}  kernels: {row['temporaries']}")


if __name__ == "__main__":
    main()
