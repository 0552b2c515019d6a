"""Table 5: detectors for the edge, by device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cspbench import literature
from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced._table import (
    SYSTEM,
    Column,
    PaperTable,
    quotient,
    row_of,
    speed_of,
    text_of,
)

#: What speeds are given relative to.
COMMON_TABLE5 = "yolov3-tiny@416"
#: Published device -> backend that stands for it, and the word for it in columns.
DEVICES: Mapping[str, tuple[str, str]] = {
    "GTX 1080 Ti": ("torch-cuda", "gpu"),
    "i9-9900K, OpenCV DNN": ("opencv-cpu", "cpu"),
    "Jetson TX2": ("jetson", "mobile"),
}
OTHER_CPU = "Xeon E5-2682v4"


def table5(evidence: Evidence) -> PaperTable:
    """Detectors for the edge, by device."""
    entries = literature.rows("table5")
    base_name = COMMON_TABLE5.partition("@")[0]
    rows = []
    for entry in entries:
        name, side = entry["name"], entry["input"]
        model = f"{name}@{side}"
        row = row_of(evidence, entry["label"], model) | {"listed": True, "input": side}
        row["ap50_published"] = entry["ap50_pct"]
        for device, (backend, word) in DEVICES.items():
            base = literature.find(base_name, "fps", device=device)
            fps = next((one for one in literature.published(name, metric="fps")
                        if one.table == "table5" and one.device == device), None)  # fmt: skip
            row[f"{word}_fps_published"] = text_of(fps)
            row[f"{word}_ratio_published"] = quotient(fps, base)
            speed = speed_of(evidence, model, COMMON_TABLE5, (backend,))
            row[f"{word}_ratio"], row[f"{word}_fps"] = speed.get("ratio"), speed.get("fps")
        if row["cpu_fps_published"] is None and entry[f"fps@{OTHER_CPU}"]:
            row["cpu_fps_published"] = f"{entry[f'fps@{OTHER_CPU}']} ({OTHER_CPU})"
        rows.append(row)
    columns = [*SYSTEM, Column("input", "input"), Column("ap50_published", "AP50, %", "published")]
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
