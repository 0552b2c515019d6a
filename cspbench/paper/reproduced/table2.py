"""Table 2: feature fusion on CSPPeleeNet."""

from __future__ import annotations

from cspbench import literature
from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced._table import GPU_FIRST, SYSTEM, Column, PaperTable, row_of, speed_of

#: Input at which the heads are compared: that of Fig. 7.
TABLE2_SIDE = 416


def table2(evidence: Evidence) -> PaperTable:
    """Feature fusion on CSPPeleeNet."""
    base = f"csppeleenet+efm@{TABLE2_SIDE}"
    rows = []
    for entry in literature.rows("table2"):
        model = f"{entry['name']}@{TABLE2_SIDE}" if entry["name"] else None
        row = row_of(evidence, entry["label"], model)
        if model is None:
            row["definition"] = ""
        written = evidence.total(model, "pyramid_written_bytes") if model else None
        row |= {
            "fps_published": entry["fps_relation"],
            "accuracy_published": entry["accuracy_relation"],
            "pyramid_mb": written / 1e6 if written else None,
        }
        rows.append(row | speed_of(evidence, model, base, GPU_FIRST))
    columns = (
        *SYSTEM,
        Column("fps_published", "speed", "published", number=False),
        Column("accuracy_published", "accuracy", "published", number=False),
        Column("bflops", "BFLOPs", "computed", ".3f"),
        Column("pyramid_mb", "written by neck and heads, MB", "computed", ".1f"),
        Column("fps", "fps", "measured", ".1f"),
        Column("ratio", "speed against EFM", "measured", "ratio"),
        Column("backend", "on", number=False),
    )
    notes = (
        (
            "The absolute numbers of the paper's Table 2 and its input size were not found; its "
            f"text gives relations. Here all are measured at {TABLE2_SIDE}, the input of Fig. 7."
        ),
    )
    return PaperTable(2, "Feature fusion on CSPPeleeNet, COCO", columns, tuple(rows), notes)
