"""The paper's Tables 1 to 5 with what was computed and measured here beside the published numbers.

Pure functions from :class:`~cspbench.paper.evidence.Evidence`. Every column says where its numbers
come from. Speeds of another device stand in columns of their own; what is compared are ratios to a
network that both measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cspbench import paper
from cspbench.ids import parse_model_id
from cspbench.measure.statistics import Interval
from cspbench.paper import Published
from cspbench.paper.evidence import Evidence, Measured, speed_ratio
from cspbench.paper.outcome import times

if TYPE_CHECKING:
    import pandas as pd

Origin = Literal["published", "computed", "measured", ""]
Row = dict[str, Any]

#: Input of csppeleenet+efm-sam in Table 4, which no source gives.
ASSUMED_SIDE = 512
#: Input at which Table 2's heads are compared: that of Fig. 7.
TABLE2_SIDE = 416
#: What speeds are given relative to.
COMMON_TABLE4 = "cspresnext50+panet-spp@512"
COMMON_TABLE5 = "yolov3-tiny@416"
#: Published device of Table 5 -> backend that stands for it, and the word for it in columns.
DEVICES: Mapping[str, tuple[str, str]] = {
    "GTX 1080 Ti": ("torch-cuda", "gpu"),
    "i9-9900K, OpenCV DNN": ("opencv-cpu", "cpu"),
    "Jetson TX2": ("jetson", "mobile"),
}
OTHER_CPU = "Xeon E5-2682v4"
#: Published on a GTX 1080 Ti; without a GPU the CPU's ratio is all that we have.
GPU_FIRST = ("torch-cuda", "opencv-cpu")


@dataclass(frozen=True)
class Column:
    """A column: its key in the rows, its heading, where its numbers come from, a format spec.

    The format ``ratio`` is for an Interval; an empty one for text. ``number`` says that it holds
    numbers, as text or not.
    """

    key: str
    title: str
    origin: Origin = ""
    form: str = ""
    number: bool = True


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, beside ours. Missing numbers are None in ``rows``."""

    number: int
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def models(self) -> list[str]:
        """Ids of the networks in it that cspbench builds."""
        return [row["model"] for row in self.rows if row["model"]]

    def frame(self) -> pd.DataFrame:
        """One row a system, plain values; an interval is three columns (``_low``, ``_high``)."""
        import pandas as pd

        return pd.DataFrame([self._flat(row) for row in self.rows])

    def _flat(self, row: Row) -> Row:
        flat: Row = {}
        for column in self.columns:
            value = row.get(column.key)
            if column.form == "ratio":
                found = value or Interval(float("nan"), None, None)
                flat[column.key] = None if value is None else found.estimate
                flat[f"{column.key}_low"], flat[f"{column.key}_high"] = found.low, found.high
            else:
                flat[column.key] = value
        return flat

    def readable(self) -> pd.DataFrame:
        """The same as text, under headings that say where each number comes from."""
        import pandas as pd

        headings = [
            f"{column.title} ({column.origin})" if column.origin else column.title
            for column in self.columns
        ]
        cells = [[self.cell(row, column) for column in self.columns] for row in self.rows]
        return pd.DataFrame(cells, columns=headings)

    def cell(self, row: Row, column: Column) -> str:
        """A value as text: a number that no source prints reads "not found", others are empty."""
        value = row.get(column.key)
        if value is None:
            printed = column.origin == "published" and not column.form
            return paper.NOT_FOUND if printed and row.get("listed") else ""
        if column.form == "ratio":
            return times(value)
        if column.form:
            return format(value, column.form).replace("-", "−")
        text = str(value)
        return text.replace("-", "−", 1) if column.number and text.startswith("-") else text


def all_tables(evidence: Evidence) -> list[PaperTable]:
    """Tables 1 to 5."""
    return [make(evidence) for make in TABLES.values()]


def _row(evidence: Evidence, label: str, model: str | None) -> Row:
    """What every table has: the system, its label, its counts."""
    analysed = model is not None and model in evidence.analyses
    return {
        "system": label,
        "model": model,
        "definition": evidence.label(model) if model else "not built here",
        "bflops": evidence.total(model, "bflops") if analysed and model else None,
    }


def _find(name: str | None, metric: str, side: int | None) -> Published | None:
    if name is None:
        return None
    return paper.find(name, metric, input_side=side)


def _text(found: Published | None) -> str | None:
    return found.text if found else None


def _change(new: float | None, old: float | None) -> float | None:
    """Change in percent."""
    return 100 * (new / old - 1) if new and old else None


def _speed(evidence: Evidence, model: str | None, base: str, backends: Sequence[str]) -> Row:
    """``latency_ms``, ``fps`` and ``ratio``: how many times as fast as ``base`` in the same run."""
    if model is None:
        return {}
    found, backend, _ = evidence.measured(list(dict.fromkeys([model, base])), backends)
    if model not in found:
        found, backend, _ = evidence.measured([model], backends)
    if model not in found:
        return {}
    mine: Measured = found[model]
    row: Row = {"latency_ms": mine.latency_ms.estimate, "fps": mine.fps, "backend": backend}
    if base in found and base != model:
        row["ratio"] = speed_ratio(mine.latency_ms, found[base].latency_ms)
    return row


_SYSTEM = (
    Column("system", "system", number=False),
    Column("definition", "definition", number=False),
)


def table1(evidence: Evidence) -> PaperTable:
    """Partial ratio and fusion of CSPPeleeNet on ImageNet."""
    side, base = 224, "peleenet@224"
    entries = [*paper.rows("figure4"), *paper.rows("gamma_text")]
    plain_labels = {entry["name"]: entry["label"] for entry in entries}
    rows = []
    for name in sorted(plain_labels, key=_ablation_order):
        model = f"{name}@{side}"
        row = _row(evidence, _ablation_label(name) or plain_labels[name], model)
        row["listed"] = True
        row |= {
            "bflops_published": _text(_find(name, "bflops", side)),
            "change_published": _text(_find(name, "bflops_change_pct", side)),
            "change": _change(row["bflops"], evidence.total(base, "bflops"))
            if model != base
            else None,
            "top1_published": _text(_find(name, "top1_pct", side)),
        }
        rows.append(row | _speed(evidence, model, base, ("opencv-cpu",)))
    columns = (
        *_SYSTEM,
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
    options = dict(parse_model_id(name).model.options)
    fusion = str(options.get("fusion", ""))
    head = f"CSP (fusion {fusion})" if fusion else "CSPPeleeNet"
    return f"{head}, γ {options.get('gamma', 0.5)}"


def _ablation_order(name: str) -> tuple[bool, str, float]:
    options = dict(parse_model_id(name).model.options)
    fusion = {"first": "0", "last": "1", "csp": "2"}[str(options.get("fusion", "csp"))]
    return name.startswith("csp"), fusion, -float(options.get("gamma", 0.5))


def table2(evidence: Evidence) -> PaperTable:
    """Feature fusion on CSPPeleeNet."""
    base = f"csppeleenet+efm@{TABLE2_SIDE}"
    rows = []
    for entry in paper.rows("table2"):
        model = f"{entry['name']}@{TABLE2_SIDE}" if entry["name"] else None
        row = _row(evidence, entry["label"], model)
        if model is None:
            row["definition"] = ""
        written = evidence.total(model, "pyramid_written_bytes") if model else None
        row |= {
            "fps_published": entry["fps_relation"],
            "accuracy_published": entry["accuracy_relation"],
            "pyramid_mb": written / 1e6 if written else None,
        }
        rows.append(row | _speed(evidence, model, base, GPU_FIRST))
    columns = (
        *_SYSTEM,
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


#: Published metric of parameters -> our total that counts the same.
_PARAMS = {"params_conv_m": "params_conv", "params_m": "params"}


def table3(evidence: Evidence) -> PaperTable:
    """Classification on ImageNet."""
    tables = ("classification", "classification_pytorch", "classification_others")
    entries = [(table, entry) for table in tables for entry in paper.rows(table)]
    names = {entry["name"] for _, entry in entries}
    rows = []
    for table, entry in entries:
        name, side = entry["name"], entry["input"]
        metric = "params_conv_m" if table == "classification" else "params_m"
        model = f"{name}@{side}" if name else None
        row = _row(evidence, entry["label"], model) | {"listed": True, "input": side}
        params = evidence.total(model, _PARAMS[metric]) if model else None
        plain = name.removeprefix("csp") if name else ""
        other = f"{plain}@{side}" if plain != name and plain in names else None
        row |= {
            "params_published": entry[metric],
            "params_m": params / 1e6 if params else None,
            "bflops_published": entry["bflops"],
            "change": _change(row["bflops"], evidence.total(other, "bflops") if other else None),
            "top1_published": entry["top1_pct"],
        }
        speed = _speed(evidence, model, other or model or "", ("opencv-cpu",))
        rows.append(row | speed)
    columns = (
        *_SYSTEM,
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


def table4(evidence: Evidence) -> PaperTable:
    """Detection on COCO."""
    systems: dict[tuple[str, int | None], str] = {}
    for table in ("detection", "paper_text", "prn", "prn_results", "detection_others"):
        for entry in paper.rows(table):
            name, side = entry["name"], entry["input"]
            # The small systems at 320, and YOLOv3-tiny, are Table 5's.
            if name and side != 320 and not name.startswith("yolov3-tiny"):
                systems.setdefault((name, side), entry["label"])
    rows = []
    common = paper.find(COMMON_TABLE4.partition("@")[0], "fps", input_side=512)
    for (name, side), label in systems.items():
        model = f"{name}@{side or ASSUMED_SIDE}"
        fps = paper.find(name, "fps", input_side=side, device="GTX 1080 Ti")
        row = _row(evidence, label, model) | {"listed": True, "input": side or paper.NOT_FOUND}
        row |= {
            "ap_published": _text(_find(name, "ap_pct", side)),
            "ap50_published": _text(_find(name, "ap50_pct", side)),
            "bflops_published": _text(_find(name, "bflops", side)),
            "fps_published": _text(fps),
            "ratio_published": _quotient(fps, common),
        }
        rows.append(row | _speed(evidence, model, COMMON_TABLE4, GPU_FIRST))
    columns = (
        *_SYSTEM,
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


def _quotient(fps: Published | None, base: Published | None) -> float | None:
    if fps is None or base is None or not fps.value or not base.value or fps is base:
        return None
    return fps.value / base.value


def table5(evidence: Evidence) -> PaperTable:
    """Detectors for the edge, by device."""
    entries = paper.rows("table5")
    base_name = COMMON_TABLE5.partition("@")[0]
    rows = []
    for entry in entries:
        name, side = entry["name"], entry["input"]
        model = f"{name}@{side}"
        row = _row(evidence, entry["label"], model) | {"listed": True, "input": side}
        row["ap50_published"] = entry["ap50_pct"]
        for device, (backend, word) in DEVICES.items():
            base = paper.find(base_name, "fps", device=device)
            fps = next((one for one in paper.published(name, metric="fps")
                        if one.table == "table5" and one.device == device), None)  # fmt: skip
            row[f"{word}_fps_published"] = _text(fps)
            row[f"{word}_ratio_published"] = _quotient(fps, base)
            speed = _speed(evidence, model, COMMON_TABLE5, (backend,))
            row[f"{word}_ratio"], row[f"{word}_fps"] = speed.get("ratio"), speed.get("fps")
        if row["cpu_fps_published"] is None and entry[f"fps@{OTHER_CPU}"]:
            row["cpu_fps_published"] = f"{entry[f'fps@{OTHER_CPU}']} ({OTHER_CPU})"
        rows.append(row)
    columns = [*_SYSTEM, Column("input", "input"), Column("ap50_published", "AP50, %", "published")]
    notes = [
        (
            "Speeds are relative to YOLOv3-tiny on the same device, because fps of different "
            "devices cannot be compared. ThunderNet's CPU numbers are its authors', on another "
            "processor: they have no ratio."
        )
    ]
    for device, (backend, word) in DEVICES.items():
        columns += [
            Column(f"{word}_fps_published", f"fps, {device}", "published"),
            Column(f"{word}_ratio_published", f"against YOLOv3-tiny, {device}", "published", ".2f"),
        ]
        if any(row[f"{word}_fps"] for row in rows):
            columns += [
                Column(f"{word}_ratio", f"against YOLOv3-tiny, {backend}", "measured", "ratio"),
                Column(f"{word}_fps", f"fps, {backend}", "measured", ".1f"),
            ]
        else:
            models = [f"{entry['name']}@{entry['input']}" for entry in entries]
            notes.append(f"Beside {device}: {_why(evidence, models, backend)}.")
    return PaperTable(
        5, "Real-time detectors for the edge", tuple(columns), tuple(rows), tuple(notes)
    )


def _why(evidence: Evidence, models: Sequence[str], backend: str) -> str:
    """Why a backend has no number for any of the models."""
    reasons = {evidence.measured([model], (backend,))[2].partition(": ")[2] for model in models}
    return "; ".join(sorted(reasons))


TABLES: Mapping[int, Callable[[Evidence], PaperTable]] = {
    1: table1,
    2: table2,
    3: table3,
    4: table4,
    5: table5,
}
