"""CSP as a plug-in for timm's networks: what becomes of each, and what it costs.

Run: ``python benchmarks/csp_zoo.py RESULTS.csv [NAME...]`` with timm importable (docs/metrics.md
says how on a CPU-only torch). One row a network, γ and fusion; rows that are there are not computed
again. Each form is built and analysed by its id, as a user would; for γ 0.5 it also runs once, and
must put out finite values of the plain network's shape. The last lines are a table of networks.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Networks of more than twenty families.
NAMES = (
    "resnet18", "resnet50", "resnet101", "wide_resnet50_2", "resnext50_32x4d", "seresnet50",
    "ecaresnet50d", "res2net50_26w_4s", "resnest50d", "skresnet34", "tresnet_m", "gernet_m",
    "vgg16_bn", "regnetx_032", "regnety_032", "efficientnet_b0", "efficientnet_b3",
    "tf_efficientnetv2_s", "mobilenetv2_100", "mobilenetv3_large_100", "mnasnet_100", "mixnet_s",
    "hardcorenas_a", "lcnet_100", "ghostnet_100", "convnext_tiny", "convnextv2_nano", "darknet53",
    "repvgg_a2", "eca_nfnet_l0", "inception_resnet_v2", "inception_v4", "xception41",
    "poolformer_s12", "mobileone_s1", "fastvit_t8", "starnet_s1", "dla60", "hrnet_w18",
    "densenet121", "dpn68", "ese_vovnet19b_dw", "rexnet_100", "mobilevit_s", "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
)  # fmt: skip
GAMMAS = (0.25, 0.5, 0.75)
FUSIONS = ("csp", "first", "last")
TOTALS = ("params", "macs", "cio_conv", "peak_live_bytes", "max_layer_bflops")
FIELDS = ("model", "gamma", "fusion", *TOTALS, "split", "left", "runs", "answer")


def forms() -> Iterator[tuple[float, str]]:
    """The plain network (0, ""), then each form."""
    yield 0.0, ""
    for gamma in GAMMAS:
        for fusion in FUSIONS:
            yield gamma, fusion


def row(name: str, gamma: float, fusion: str) -> dict[str, Any]:
    """What an analysis says of one form."""
    import cspbench
    from cspbench.errors import InputError

    model = f"timm:{name}[csp.fusion={fusion},csp.gamma={gamma}]" if fusion else f"timm:{name}"
    result: dict[str, Any] = {"model": name, "gamma": gamma, "fusion": fusion}
    try:
        analysis = cspbench.analyze(model)
    except InputError as error:
        return result | {"answer": f"refused: {error}"}
    left = [note for note in analysis.notes if " stays as it is: " in note]
    result |= {total: analysis.totals[total] for total in TOTALS}
    result |= {"split": len(analysis.notes) - len(left), "left": len(left)}
    if gamma == 0.5:
        result["runs"] = runs(model, analysis.input[0])
    return result | {"answer": "; ".join(left) or "all stages"}


def runs(model: str, shape: tuple[int, ...]) -> str:
    """Whether a form computes: finite values, as many as the plain network's."""
    import torch

    import cspbench

    with torch.inference_mode():
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        out = cspbench.build(model)(x)
        plain = cspbench.build(model.partition("[")[0])(x)
    return "yes" if out.shape == plain.shape and bool(torch.isfinite(out).all()) else "no"


def main() -> None:
    """Fill in what the results lack, and print the table."""
    sys.path.insert(0, str(Path(__file__).parent))
    from torchvision_alone import import_torchvision

    import_torchvision()
    import timm  # noqa: F401 - what is imported here is asked here, not in a new process

    path, names = Path((sys.argv[1:] or ["csp_zoo.csv"])[0]), sys.argv[2:] or NAMES
    known: dict[tuple[str, str, str], dict[str, Any]] = {}
    if path.exists():
        with path.open(encoding="utf-8") as file:
            known = {
                (one["model"], one["gamma"], one["fusion"]): one for one in csv.DictReader(file)
            }
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS)
        if not file.tell():
            writer.writeheader()
        for name in names:
            for gamma, fusion in forms():
                key = name, str(gamma), fusion
                if key not in known:
                    known[key] = {
                        field: str(value) for field, value in row(name, gamma, fusion).items()
                    }
                    writer.writerow(known[key])
                    file.flush()
    table(known, names)


def table(rows: dict[tuple[str, str, str], dict[str, Any]], names: Any) -> None:
    """One line a network: stages, and what γ 0.5 with fusion csp makes of its costs."""
    print(
        "| network | stages split | left | params | MACs | CIO | live peak | largest layer | "
        "what is left |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    split = 0
    for name in names:
        plain, form = rows[name, "0.0", ""], rows[name, "0.5", "csp"]
        if form["answer"].startswith("refused"):
            print(f"| {name} | 0 | | | | | | | {form['answer']} |")
            continue
        split += 1
        changes = [f"{float(form[one]) / float(plain[one]) - 1:+.0%}" for one in TOTALS]
        left = "" if form["left"] == "0" else form["answer"]
        print(f"| {name} | {form['split']} | {form['left']} | {' | '.join(changes)} | {left} |")
    print(f"{split} of {len(names)} networks have a form")


if __name__ == "__main__":
    main()
