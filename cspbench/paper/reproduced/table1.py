"""Table 1: partial ratio and fusion of CSPPeleeNet on ImageNet."""

from __future__ import annotations

from cspbench import literature
from cspbench.core.case import ModelId
from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced._table import (
    SYSTEM,
    Column,
    PaperTable,
    change_pct,
    printed,
    row_of,
    speed_of,
)


def table1(evidence: Evidence) -> PaperTable:
    """Partial ratio and fusion of CSPPeleeNet on ImageNet."""
    side, base = 224, "peleenet@224"
    entries = [*literature.rows("figure4"), *literature.rows("gamma_text")]
    plain_labels = {entry["name"]: entry["label"] for entry in entries}
    rows = []
    for name in sorted(plain_labels, key=_ablation_order):
        model = f"{name}@{side}"
        row = row_of(evidence, _ablation_label(name) or plain_labels[name], model)
        row |= {
            "listed": True,
            "bflops_published": printed(name, "bflops", side),
            "change_published": printed(name, "bflops_change_pct", side),
            "change": change_pct(row["bflops"], evidence.total(base, "bflops"))
            if model != base
            else None,
            "top1_published": printed(name, "top1_pct", side),
        }
        rows.append(row | speed_of(evidence, model, base, ("opencv-cpu",)))
    columns = (
        *SYSTEM,
        Column("bflops_published", "BFLOPs", "published"),
        Column("bflops", "BFLOPs", "computed", ".3f"),
        Column("change_published", "against PeleeNet, %", "published"),
        Column("change", "against PeleeNet, %", "computed", "+.1f"),
        Column("top1_published", "top-1, %", "published"),
        Column("latency_ms", "latency, ms", "measured", ".1f"),
        Column("ratio", "speed against PeleeNet", "measured", "ratio"),
    )
    notes = ("The paper's Table 1 gives no times: the speeds are ours, on opencv-cpu.",)
    return PaperTable(1, "Partial ratio γ and fusion, ImageNet", columns, tuple(rows), notes)


def _ablation_label(name: str) -> str:
    """``CSP (fusion last), γ 0.5``; empty for a network that is not split."""
    if not name.startswith("csp"):
        return ""
    options = dict(ModelId.parse(name).model.options)
    fusion = str(options.get("fusion", ""))
    head = f"CSP (fusion {fusion})" if fusion else "CSPPeleeNet"
    return f"{head}, γ {options.get('gamma', 0.5)}"


def _ablation_order(name: str) -> tuple[bool, str, float]:
    options = dict(ModelId.parse(name).model.options)
    fusion = {"first": "0", "last": "1", "csp": "2"}[str(options.get("fusion", "csp"))]
    return name.startswith("csp"), fusion, -float(options.get("gamma", 0.5))
