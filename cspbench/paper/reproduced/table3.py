"""Table 3: classification on ImageNet."""

from __future__ import annotations

from cspbench import literature
from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced._table import (
    SYSTEM,
    Column,
    PaperTable,
    change_pct,
    row_of,
    speed_of,
)

#: Published metric of parameters -> our total that counts the same.
_PARAMS = {"params_conv_m": "params_conv", "params_m": "params"}


def table3(evidence: Evidence) -> PaperTable:
    """Classification on ImageNet."""
    tables = ("classification", "classification_pytorch", "classification_others")
    entries = [(table, entry) for table in tables for entry in literature.rows(table)]
    names = {entry["name"] for _, entry in entries}
    rows = []
    for table, entry in entries:
        name, side = entry["name"], entry["input"]
        metric = "params_conv_m" if table == "classification" else "params_m"
        model = f"{name}@{side}" if name else None
        row = row_of(evidence, entry["label"], model) | {"listed": True, "input": side}
        params = evidence.total(model, _PARAMS[metric]) if model else None
        plain = name.removeprefix("csp") if name else ""
        other = f"{plain}@{side}" if plain != name and plain in names else None
        row |= {
            "params_published": entry[metric],
            "params_m": params / 1e6 if params else None,
            "bflops_published": entry["bflops"],
            "change": change_pct(row["bflops"], evidence.total(other, "bflops") if other else None),
            "top1_published": entry["top1_pct"],
        }
        speed = speed_of(evidence, model, other or model or "", ("opencv-cpu",))
        rows.append(row | speed)
    columns = (
        *SYSTEM,
        Column("input", "input"),
        Column("params_published", "params, M", "published"),
        Column("params_m", "params, M", "computed", ".3f"),
        Column("bflops_published", "BFLOPs", "published"),
        Column("bflops", "BFLOPs", "computed", ".3f"),
        Column("change", "against the plain form, %", "computed", "+.1f"),
        Column("top1_published", "top-1, %", "published"),
        Column("latency_ms", "latency, ms", "measured", ".1f"),
        Column("ratio", "speed against the plain form", "measured", "ratio"),
    )
    notes = (
        (
            "Parameters are counted as the source counts them: weights of convolutions, but all "
            "parameters for the elastic DenseNets. The paper's Table 3 gives no times."
        ),
    )
    return PaperTable(3, "Classification, ImageNet", columns, tuple(rows), notes)
