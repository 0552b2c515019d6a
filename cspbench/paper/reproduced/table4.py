"""Table 4: detection on COCO."""

from __future__ import annotations

from cspbench import literature
from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced._table import (
    GPU_FIRST,
    SYSTEM,
    Column,
    PaperTable,
    printed,
    quotient,
    row_of,
    speed_of,
    text_of,
)

#: Input of csppeleenet+efm-sam, which no source gives.
ASSUMED_SIDE = 512
#: What speeds are given relative to.
COMMON_TABLE4 = "cspresnext50+panet-spp@512"


def table4(evidence: Evidence) -> PaperTable:
    """Detection on COCO."""
    systems: dict[tuple[str, int | None], str] = {}
    for table in ("detection", "paper_text", "prn", "prn_results", "detection_others"):
        for entry in literature.rows(table):
            name, side = entry["name"], entry["input"]
            # The small systems at 320, and YOLOv3-tiny, are Table 5's.
            if name and side != 320 and not name.startswith("yolov3-tiny"):
                systems.setdefault((name, side), entry["label"])
    rows = []
    common = literature.find(COMMON_TABLE4.partition("@")[0], "fps", input_side=512)
    for (name, side), label in systems.items():
        model = f"{name}@{side or ASSUMED_SIDE}"
        fps = literature.find(name, "fps", input_side=side, device="GTX 1080 Ti")
        row = row_of(evidence, label, model) | {
            "listed": True,
            "input": side or literature.NOT_FOUND,
            "ap_published": printed(name, "ap_pct", side),
            "ap50_published": printed(name, "ap50_pct", side),
            "bflops_published": printed(name, "bflops", side),
            "fps_published": text_of(fps),
            "ratio_published": quotient(fps, common),
        }
        rows.append(row | speed_of(evidence, model, COMMON_TABLE4, GPU_FIRST))
    columns = (
        *SYSTEM,
        Column("input", "input"),
        Column("ap_published", "AP, %", "published"),
        Column("ap50_published", "AP50, %", "published"),
        Column("bflops_published", "BFLOPs", "published"),
        Column("bflops", "BFLOPs", "computed", ".3f"),
        Column("fps_published", "fps, GTX 1080 Ti", "published"),
        Column("ratio_published", "speed against CSPResNeXt50-PANet-SPP", "published", ".2f"),
        Column("ratio", "the same here", "measured", "ratio"),
        Column("fps", "fps", "measured", ".2f"),
        Column("backend", "on", number=False),
    )
    notes = (
        (
            "The detectors of other authors in the paper's Table 4 have no public counts here. "
            f"The size of CSPPeleeNet-EFM (SAM) was not found; it is measured at {ASSUMED_SIDE}."
        ),
    )
    return PaperTable(4, "Detection, COCO", columns, tuple(rows), notes)
