"""What the tables share: columns that say where their numbers come from, and the look-ups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cspbench import literature
from cspbench.literature import Published
from cspbench.measure.statistics import Interval
from cspbench.paper.comparison import times
from cspbench.paper.evidence import Evidence, MeasuredCase, speed_ratio

if TYPE_CHECKING:
    import pandas as pd

Origin = Literal["published", "computed", "measured", ""]
Row = dict[str, Any]

#: Published on a GTX 1080 Ti; without a GPU the CPU's ratio is all that we have.
GPU_FIRST = ("torch-cuda", "opencv-cpu")


@dataclass(frozen=True)
class Column:
    """A column: its key in the rows, its heading, where its numbers come from, a format spec.

    The format ``ratio`` is for a SpeedRatio; an empty one for text. ``number`` says that it holds
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
        """One row a system, plain values; a ratio is four columns.

        ``_low`` and ``_high`` are its interval, ``_in_turn`` says whether the two took turns.
        """
        import pandas as pd

        return pd.DataFrame([self._flat(row) for row in self.rows])

    def _flat(self, row: Row) -> Row:
        flat: Row = {}
        for column in self.columns:
            value = row.get(column.key)
            if column.form == "ratio":
                interval = value or Interval(float("nan"), None, None)
                flat[column.key] = None if value is None else interval.estimate
                flat[f"{column.key}_low"], flat[f"{column.key}_high"] = interval.low, interval.high
                flat[f"{column.key}_in_turn"] = None if value is None else value.in_turn
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
            return literature.NOT_FOUND if printed and row.get("listed") else ""
        if column.form == "ratio":
            return times(value)
        if column.form:
            return format(value, column.form).replace("-", "−")
        text = str(value)
        return text.replace("-", "−", 1) if column.number and text.startswith("-") else text


def row_of(evidence: Evidence, label: str, model: str | None) -> Row:
    """What every table has: the system, its label, its counts."""
    analysed = model is not None and model in evidence.analyses
    return {
        "system": label,
        "model": model,
        "definition": evidence.label(model) if model else "not built here",
        "bflops": evidence.total(model, "bflops") if analysed and model else None,
    }


def text_of(number: Published | None) -> str | None:
    """As its source prints it."""
    return number.text if number else None


def printed(name: str, metric: str, side: int | None) -> str | None:
    """A published number as its source prints it; None where no source has it."""
    return text_of(literature.find(name, metric, input_side=side))


def change_pct(new: float | None, old: float | None) -> float | None:
    """Change in percent."""
    return 100 * (new / old - 1) if new and old else None


def speed_of(evidence: Evidence, model: str | None, base: str, backends: Sequence[str]) -> Row:
    """``latency_ms``, ``fps`` and ``ratio``: how many times as fast as ``base`` in the same run."""
    if model is None:
        return {}
    cases, backend, _ = evidence.measured(list(dict.fromkeys([model, base])), backends)
    if model not in cases:
        cases, backend, _ = evidence.measured([model], backends)
    if model not in cases:
        return {}
    case: MeasuredCase = cases[model]
    row: Row = {"latency_ms": case.latency_ms.estimate, "fps": case.fps, "backend": backend}
    if base in cases and base != model:
        row["ratio"] = speed_ratio(case, cases[base])
    return row


SYSTEM = (
    Column("system", "system", number=False),
    Column("definition", "definition", number=False),
)


def quotient(fps: Published | None, base: Published | None) -> float | None:
    """How many times as fast as the base; None for the base itself and where either is missing."""
    if fps is None or base is None or not fps.value or not base.value or fps is base:
        return None
    return fps.value / base.value
