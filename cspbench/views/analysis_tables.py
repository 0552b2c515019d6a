"""Tables of analyses, as ``cspbench analyze`` prints them: rows from analyses, nothing printed.

Which totals a table shows, and how, the metrics say themselves (``cspbench.analysis.metric``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from cspbench.analysis.metric import shown_in
from cspbench.analysis.record import Analysis
from cspbench.core.text import fixed, number_of
from cspbench.errors import InputError
from cspbench.views.formats import text_table

Row: TypeAlias = dict[str, Any]


def _short(value: object) -> object:
    """Six significant digits of a broken number; other forms hold all of them."""
    if not isinstance(value, float):
        return value
    return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}"


@dataclass(frozen=True)
class Block:
    """One table for people, with the lines before and after it."""

    rows: Sequence[Row]
    before: str = ""
    after: str = ""

    def __str__(self) -> str:
        rows = [{key: _short(value) for key, value in row.items()} for row in self.rows]
        table = text_table(rows, list(rows[0]) if rows else [])
        return "\n".join(part for part in (self.before, table, self.after) if part)


@dataclass(frozen=True)
class Tables:
    """What a view shows: ``objects`` as JSON, ``blocks`` on a terminal, ``rows`` in other forms."""

    objects: Sequence[Row]
    rows: Sequence[Row]
    blocks: Sequence[Block]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Tables:
        """The same rows in every form."""
        return cls(rows, rows, [Block(rows)])

    def __str__(self) -> str:
        return "\n".join(map(str, self.blocks))


def with_id(analysis: Analysis, rows: Sequence[Row]) -> list[Row]:
    """The rows of one analysis, each with its id in front."""
    return [{"id": analysis.id} | row for row in rows]


def totals(analyses: Sequence[Analysis], view: str, layers: bool, readable: bool) -> Tables:
    """One row an analysis: the totals of a view (``overview``, ``memory``, ``balance``).

    With ``layers`` each JSON object lists its layers. ``readable`` rows are for people: headings,
    units and rounded numbers.
    """
    rows = []
    for analysis in analyses:
        row: Row = {"id": analysis.id}
        for metric, place in shown_in(view):
            value = analysis.totals[metric.name]
            if readable:
                heading = metric.heading or metric.name
                row[heading] = fixed(value / metric.divisor, place.decimals)
            else:
                row[metric.name] = value
        row["coverage (%)" if readable else "coverage"] = analysis.coverage
        rows.append(row)
    return Tables([analysis.as_dict(layers) for analysis in analyses], rows, [Block(rows)])


def conventions(analyses: Sequence[Analysis]) -> Tables:
    """Every convention of every analysis, what it leaves out, and why conventions differ."""
    from cspbench.analysis.conventions import REASONS, rows

    shown = ("convention", "value", "unit", "counts", "ignored")
    objects: list[Row] = []
    flat: list[Row] = []
    blocks = []
    for analysis in analyses:
        own = rows(analysis)
        objects += [row | {"reason": REASONS[row["group"]]} for row in own]
        for row in own:
            row["ignored"] = ", ".join(f"{op} {calls}" for op, calls in row["ignored"].items())
            del row["unsupported"], row["coverage"]
        flat += own
        heading = f"{analysis.id} (coverage {analysis.coverage:.1f} %)"
        blocks.append(Block([{name: row[name] for name in shown} for row in own], heading))
    groups = {row["group"] for row in flat}
    why = "".join(f"\n\n{group}: {text}" for group, text in REASONS.items() if group in groups)
    return Tables(objects, flat, [*blocks[:-1], Block(blocks[-1].rows, blocks[-1].before, why[1:])])


def changes(analyses: Sequence[Analysis], layers: bool) -> Tables:
    """What changes from the first analysis to each other one, by total or by layer.

    Raises:
        InputError: there are not two.
    """
    from cspbench.analysis import compare

    if len(analyses) < 2:
        raise InputError("--compare needs two ids: the first is compared with each other one")
    first, *others = analyses
    rows: list[Row] = []
    blocks = []
    for second in others:
        changed = compare.layer_rows(first, second) if layers else compare.totals(first, second)
        rows += [{"from": first.id, "to": second.id} | row for row in changed]
        blocks.append(
            Block(list(map(_readable_change, changed)), f"first: {first.id}, second: {second.id}")
        )
    return Tables(rows, rows, blocks)


def _readable_change(row: Row) -> Row:
    return row | {"change": f"{row['change']:+.1%}"} if row.get("change") is not None else row


def rooflines(analyses: Sequence[Analysis], device: str, threads: int) -> Tables:
    """Predicted time of every layer and what bounds it.

    Raises:
        InputError: this machine's ceilings were not measured.
    """
    from cspbench.analysis import roofline
    from cspbench.store.ceilings import known_ceilings

    ceilings = known_ceilings(device, threads)
    if ceilings is None:
        command = f"cspbench ceilings --device {device} --threads {threads}"
        raise InputError(f"the ceilings of {device}/t{threads} are not known here: run {command}")
    peak = roofline.peak_of(asdict(ceilings))
    objects: list[Row] = []
    flat: list[Row] = []
    blocks = []
    for analysis in analyses:
        rows = roofline.layer_rows(analysis, peak)
        total, shares = roofline.total_ms(rows), roofline.shares(rows)
        about = {"id": analysis.id, "device": device, "threads": threads, **asdict(peak)}
        objects.append(about | {"predicted_ms": total, "bound_share": shares, "layers": rows})
        flat += with_id(analysis, rows)
        text = (
            f"{analysis.id} on {device}, {number_of(threads, 'thread')}: predicted "
            f"{fixed(total, 3)} ms, of which bound by "
            f"{', '.join(f'{name} {part:.0%}' for name, part in shares.items())}"
        )
        blocks.append(Block(list(map(_readable_layer, rows)), after=text))
    return Tables(objects, flat, blocks)


def _readable_layer(row: Row) -> Row:
    return {
        "layer": row["name"] or row["op"],
        "op": row["op"],
        "MFLOPs": fixed(row["flops"] / 1e6, 2),
        "fused MB": fixed(row["traffic_bytes_fused"] / 1e6, 3),
        "FLOP/byte": f"{row['intensity']:.2f}",
        "predicted ms": fixed(row["predicted_ms"], 4),
        "bound by": row["bound"],
    }


def uncounted(analysis: Analysis) -> str:
    """A warning that names the operators whose cost is not in the totals; empty without any."""
    if not analysis.unsupported:
        return ""
    names = ", ".join(f"{op} ({calls})" for op, calls in analysis.unsupported.items())
    return (
        f"warning: {analysis.id}: coverage {analysis.coverage:.1f} %; the cost of these "
        f"operators is unknown and not in the totals: {names}"
    )
