"""Counts beside the published ones, each in the convention that its source uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cspbench import literature
from cspbench.analysis.layer import Number
from cspbench.analysis.record import Analysis
from cspbench.core.case import ModelId
from cspbench.literature import Published
from cspbench.models.spec import NECKS
from cspbench.paper.evidence import weakest

#: What the ablation's percentages are relative to.
BASELINE = "peleenet"
#: Published accuracy, printed as it is: nothing here is trained.
ACCURACY = ("top1_pct", "ap50_pct")


class Quantity(NamedTuple):
    """A published metric, our total that counts the same, its unit, and how both are counted."""

    metric: str
    total: str
    unit: float
    convention: str


#: Parameters in the convention that the source prints: the first with a published number counts.
PARAMS = (
    Quantity("params_conv_m", "params_conv", 1e6, "weights of convolutions"),
    Quantity("params_file_m", "params_file", 1e6, "floats of a Darknet file"),
    Quantity("params_m", "params", 1e6, "PyTorch"),
)
BFLOPS = Quantity("bflops", "bflops", 1.0, "CSPNet paper")
CIO = Quantity("cio_paper_m", "cio_paper", 1e6, "CSPNet paper, Fig. 8")
LARGEST = Quantity("max_layer_bflops", "max_layer_bflops", 1.0, "CSPNet paper, Fig. 7")
CHANGE = Quantity("bflops_change_pct", "bflops", 1.0, f"against {BASELINE} at the same input")


def published_row(analysis: Analysis, baseline: Analysis | None = None) -> dict[str, Any]:
    """A model's counts beside the published ones.

    Args:
        analysis: of a model by its id, at batch 1.
        baseline: `BASELINE` at the same input, for the ablation's percentages.

    Returns:
        ``id``, ``confidence``, a comparison (see `compare`) each under ``params``, ``bflops``,
        ``cio_paper``, ``max_layer_bflops`` and ``bflops_change``, the PyTorch count
        (``params_pytorch``, ``macs``), and the published accuracy as printed or None.
    """
    model = ModelId.parse(analysis.id)
    totals = analysis.totals
    counted = next((q for q in PARAMS if _find(model, q.metric)), PARAMS[0])
    change = 100 * (totals["bflops"] / baseline.totals["bflops"] - 1) if baseline else None
    row: dict[str, Any] = {
        "id": analysis.id,
        "params": compare(counted, _find(model, counted.metric), totals[counted.total]),
        "bflops": compare(BFLOPS, _find(model, "bflops"), totals["bflops"]),
        "cio_paper": compare(CIO, _find(model, CIO.metric), totals["cio_paper"]),
        "max_layer_bflops": compare(LARGEST, _largest(model), totals["max_layer_bflops"]),
        "bflops_change": compare(CHANGE, _find(model, CHANGE.metric), change),
        "params_pytorch": totals["params"],
        "macs": totals["macs"],
    }
    accuracy = {metric: _find(model, metric) for metric in ACCURACY}
    row |= {metric: number.text if number else None for metric, number in accuracy.items()}
    return row | {"confidence": _confidence(model, row)}


def compare(
    quantity: Quantity, published: Published | None, count: Number | None
) -> dict[str, Any]:
    """Published number and ours in its unit.

    ``equal`` says that ours rounds to the printed digits, ``difference`` is ours / published - 1
    (for a change in percent: ours - published); both None without a published number.
    """
    ours = None if count is None else count / quantity.unit
    compared: dict[str, Any] = {
        "convention": quantity.convention,
        "published": None if published is None else published.text,
        "ours": ours,
        "difference": None,
        "equal": None,
        "source": None if published is None else published.source,
        "note": None if published is None else published.note or None,
    }
    if published is not None and published.value is not None and ours is not None:
        compared["equal"] = published.agrees(ours)
        relative = quantity is not CHANGE
        compared["difference"] = published.residual(ours) if relative else ours - published.value
    return compared


def needs_baseline(analysis: Analysis) -> str | None:
    """Id of the model that the published change of this one is relative to, if there is one."""
    model = ModelId.parse(analysis.id)
    if _find(model, CHANGE.metric) is None:
        return None
    return str(ModelId(ModelId.parse(BASELINE).model, None, model.input))


def bottleneck_rows(analyses: Sequence[Analysis]) -> list[dict[str, Any]]:
    """Published changes of the largest layer (Fig. 7) between models that are both given.

    Fractions: -0.4375 is 43.75 % less.
    """
    facts = literature.figure7_facts()
    side = facts["input"]
    known = {analysis.id: analysis for analysis in analyses}
    rows = []
    for pair, published in facts["changes"].items():
        of, against = pair.removesuffix(" - 1").split(" / ")
        first, second = known.get(f"{against}@{side}"), known.get(f"{of}@{side}")
        if first is not None and second is not None:
            ours = second.totals["max_layer_bflops"] / first.totals["max_layer_bflops"] - 1
            rows.append({"from": first.id, "to": second.id, "published": published, "ours": ours})
    return rows


def _name(model: ModelId) -> str:
    return str(ModelId(model.model, model.neck))


def _find(model: ModelId, metric: str) -> Published | None:
    """The published number at this input; of parameters, which have none, at any."""
    entries = literature.published(_name(model), metric=metric)
    if metric.startswith("params"):
        return entries[0] if entries else None
    sides = {(entry.input, entry.input): entry for entry in reversed(entries)}
    return sides.get(model.input or (None, None))


def _largest(model: ModelId) -> Published | None:
    facts = literature.figure7_facts()
    value = facts["max_layer_bflops"].get(_name(model))
    side = facts["input"]
    if value is None or model.input != (side, side):
        return None
    name = _name(model)
    return Published(name, name, LARGEST.metric, str(value), side, None, "figure7", facts["source"])


def _confidence(model: ModelId, row: dict[str, Any]) -> str | None:
    """The weaker label of model and neck; ``open`` for a variant that misses its counts.

    A label is given to the published form of a model. None for models that are not of the zoo.
    """
    if ":" in model.model.name:
        return None
    from cspbench.models.build import spec_of

    labels = [spec_of(model).confidence]
    if model.neck is not None:
        labels.append(NECKS.get(model.neck.name).confidence)
    counts = [row[name]["equal"] for name in ("params", "bflops", "bflops_change")]
    known = any(count is not None for count in counts) or any(row[name] for name in ACCURACY)
    if model.model.options and (not known or False in counts):
        return "open"
    return weakest(labels)


def readable(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, str]], list[str]]:
    """Rows of `published_row` as text: a table of parameters and BFLOPs, and sentences below it.

    The sentences give what only some models have: further published counts, and notes.
    """
    table = []
    sentences: list[str] = []
    for row in rows:
        cells = {"id": row["id"], "label": row["confidence"] or ""}
        for name, heading in (("params", "params (M)"), ("bflops", "BFLOPs")):
            compared, short = row[name], heading.partition(" ")[0]
            cells[f"published {heading}"] = compared["published"] or literature.NOT_FOUND
            cells[f"our {short}"] = _ours(compared)
            cells[f"{short} difference"] = _difference(compared)
            if name == "params":
                cells["counted as"] = compared["convention"]
            if compared["note"]:
                sentences.append(
                    f"{row['id']}: {heading} {compared['published']}: {compared['note']}"
                )
        cells["PyTorch params (M)"] = f"{row['params_pytorch'] / 1e6:.3f}"
        cells["GMACs"] = f"{row['macs'] / 1e9:.3f}"
        for metric, heading in zip(ACCURACY, ("top-1 (%)", "AP50 (%)"), strict=True):
            if any(other[metric] for other in rows):
                cells[heading] = row[metric] or literature.NOT_FOUND
        table.append(cells)
        for name, what in _FURTHER.items():
            if row[name]["published"]:
                sentences.append(
                    f"{row['id']}: {what} {row[name]['published']} published, "
                    f"{_ours(row[name])} ours, {_difference(row[name])}"
                )
    return table, sentences


_FURTHER = {
    "cio_paper": "convolutional inputs and outputs (M)",
    "max_layer_bflops": "largest layer (BFLOPs)",
    "bflops_change": f"BFLOPs against {BASELINE} (%)",
}


def _ours(compared: dict[str, Any]) -> str:
    """Ours with at least three decimals, and no fewer than were printed."""
    digits = max(3, len((compared["published"] or "").partition(".")[2]))
    return "" if compared["ours"] is None else f"{compared['ours']:.{digits}f}"


def _difference(compared: dict[str, Any]) -> str:
    if compared["difference"] is None:
        return ""
    if compared["equal"]:
        return "equal"
    if compared["convention"] == CHANGE.convention:
        return f"{compared['difference']:+.1f} points"
    return f"{compared['difference']:+.1%}"
