"""Published numbers as data, with their sources. Nothing here is computed or measured by us.

The tables lie in ``data/*.json``: a source, columns, rows. A number is kept as it was printed, so
its digits are known; a cell that no source gives is None and reads "not found".

A system is named by the model part of a case id (``csppeleenet[gamma=0.25]``, ``peleenet+prn``);
systems that cspbench does not build have only a label.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

#: What a missing cell reads.
NOT_FOUND = "not found"

_DATA = importlib.resources.files(__package__).joinpath("data")
#: Columns of a table that describe its row.
_KEYS = ("name", "label", "input")
#: Tables whose rows are not systems.
_OTHER = ("claims", "figure1", "figure7", "table2", "timm")


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        name: the system as a model id, or None if cspbench does not build it.
        label: the system's name in the source.
        metric: what it is, unit included (``params_conv_m``, ``bflops``, ``top1_pct``,
            ``ap50_pct``, ``fps``, ``bflops_change_pct``, ``cio_paper_m``, ...).
        text: the number as printed; None where the source has no value.
        input: side of the square input, or None.
        device: what it was measured on, for ``fps``.
        table: the data file.
        source: where it was published.
        note: anything odd about it.
    """

    name: str | None
    label: str
    metric: str
    text: str | None
    input: int | None
    device: str | None
    table: str
    source: str
    note: str = ""

    @property
    def value(self) -> float | None:
        """The number, or None."""
        return None if self.text is None else float(self.text)

    @property
    def digits(self) -> int:
        """Printed decimals."""
        return len(self.text.partition(".")[2]) if self.text else 0

    def agrees(self, computed: float) -> bool:
        """True if ``computed`` rounds to the printed digits."""
        if self.value is None:
            return False
        half_digit = 0.5 * 10.0 ** (-self.digits)
        return abs(computed - self.value) <= half_digit * (1 + 1e-9)

    def residual(self, computed: float) -> float | None:
        """``computed`` over the published value, minus 1; None without one."""
        return computed / self.value - 1.0 if self.value else None

    def __str__(self) -> str:
        return NOT_FOUND if self.text is None else self.text


@dataclass(frozen=True)
class Claim:
    """A statement of the paper with the numbers in it.

    Attributes:
        name: a word or two, unique.
        text: what the paper says.
        numbers: the numbers in it, by metric.
        source: where it was published.
        place: where in it.
        group: ``computation``, ``memory``, ``speed`` or ``accuracy``.
        test: how it is checked: ``kind`` names a rule of :mod:`cspbench.paper.claims`, the rest
            is what that rule reads.
    """

    name: str
    text: str
    numbers: dict[str, float]
    source: str
    place: str = ""
    group: str = ""
    test: dict[str, Any] = field(default_factory=dict)


@functools.cache
def _table(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(_DATA.joinpath(f"{name}.json").read_text("utf-8"))
    return loaded


def tables() -> list[str]:
    """Names of all data files."""
    return sorted(item.name[:-5] for item in _DATA.iterdir() if item.name.endswith(".json"))


def rows(table: str) -> list[dict[str, Any]]:
    """Rows of a table as dictionaries by column; numbers are still text.

    Raises:
        FileNotFoundError: no such table.
    """
    data = _table(table)
    return [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]


def source(table: str) -> str:
    """Where the table was published."""
    return str(_table(table)["source"])


def _entries(table: str) -> Iterator[Published]:
    notes = _table(table).get("notes", {})
    for row in rows(table):
        for column, text in row.items():
            if column in _KEYS:
                continue
            metric, _, device = column.partition("@")
            yield Published(
                name=row["name"],
                label=row["label"],
                metric=metric,
                text=text,
                input=row["input"],
                device=device or None,
                table=table,
                source=source(table),
                note=notes.get(f"{row['label']}@{row['input']}", "") if metric == "bflops" else "",
            )


@functools.cache
def everything() -> tuple[Published, ...]:
    """Every published number of every system, empty cells included."""
    return tuple(entry for table in tables() if table not in _OTHER for entry in _entries(table))


def published(name: str, *, metric: str | None = None) -> list[Published]:
    """Published numbers of a system, without the empty cells; of one ``metric``, or of all.

    ``name`` is a model id without input (``peleenet+prn``), or the label of a system that is not
    built here.
    """
    return [
        entry
        for entry in everything()
        if name in (entry.name, entry.label)
        and entry.text is not None
        and metric in (None, entry.metric)
    ]


def find(
    name: str, metric: str, *, input_side: int | None = None, device: str | None = None
) -> Published | None:
    """The first number of :func:`published` at this input and device, or None ("not found")."""
    for entry in published(name, metric=metric):
        if input_side in (None, entry.input) and device in (None, entry.device):
            return entry
    return None


def claims() -> list[Claim]:
    """Statements of the paper that can be checked."""
    where = source("claims")
    return [
        Claim(r["claim"], r["text"], r["numbers"], where, r["place"], r["group"], r["test"])
        for r in rows("claims")
    ]


def figure1() -> dict[str, list[tuple[float, float]]]:
    """Points of Fig. 1 by family: fps on a GTX 1080 Ti, AP50 in percent."""
    families: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows("figure1"):
        families[row["family"]].append((float(row["fps@GTX 1080 Ti"]), float(row["ap50_pct"])))
    return dict(families)


def figure7(system: str) -> list[float]:
    """BFLOPs of the head's bars in Fig. 7 (416), in order.

    The systems are ``peleenet+yolov3``, ``peleenet+prn`` and ``csppeleenet+efm``.
    """
    return [float(height) for _, height, _ in _table("figure7")[system]]


def figure7_facts() -> dict[str, Any]:
    """What Fig. 7 says beside its bars: largest layers, changes, sums, the index rule."""
    data = _table("figure7")
    keys = ("source", "index_rule", "input", "max_layer_bflops", "changes")
    return {key: data[key] for key in (*keys, "backbone_bflops", "head_bflops")}
