"""Cross-stage-partial forms of networks beside the plain ones: counts, and measured ratios."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cspbench.core.case import Case, ModelId, Ref
from cspbench.views.answer import beside, no_interval
from cspbench.views.formats import text_table

if TYPE_CHECKING:
    from cspbench.store.records import Record
    from cspbench.views.frames import Run

#: Totals that a form may change, with what they are divided by and their heading.
_TOTALS = {
    "params": (1e6, "params (M)"),
    "macs": (1e9, "MACs (G)"),
    "cio_conv": (1e6, "CIO (M)"),
    "peak_live_bytes": (1e6, "live peak (MB)"),
    "max_layer_bflops": (1, "largest layer (BFLOPs)"),
}


def plain_of(ref: Ref) -> Ref | None:
    """The plain network of a form; None if it is plain itself."""
    options = {name: value for name, value in ref.options if not name.startswith("csp.")}
    return None if len(options) == len(ref.options) else Ref.of(ref.name, options)


def form_rows(run: Run) -> list[dict[str, Any]]:
    """One row a measured case of each network of which a form was measured, too.

    Columns: ``case``, ``latency_ms``, ``ratio`` to the plain network with the same settings, with
    ``ratio_low`` and ``ratio_high`` (95 % for all forms of that setting together; missing where the
    two never took turns) and ``ratio_of`` (as in the frame of cases), ``peak_memory_bytes``, and
    the totals of the analysis: ``params``, ``macs``, ``cio_conv``, ``peak_live_bytes``,
    ``max_layer_bflops``.
    """
    measured = {record.case: record for record in run.records if record.latency_ms is not None}
    groups: dict[str, list[Record]] = {}
    for name, record in measured.items():
        case = Case.parse(name)
        plain = plain_of(case.model)
        groups.setdefault(str(case if plain is None else replace(case, model=plain)), []).append(
            record
        )
    rows = []
    for plain_id, group in groups.items():
        base = measured.get(plain_id)
        forms = [record for record in group if record.case != plain_id]
        if forms:
            rows += [_row(run, record, base, len(forms)) for record in group]
    return rows


def _row(run: Run, record: Record, base: Record | None, forms: int) -> dict[str, Any]:
    latency, memory = record.latency_ms, record.memory
    assert latency is not None, "only measured cases are compared"
    row: dict[str, Any] = {"case": record.case, "latency_ms": latency.estimate}
    row |= _ratio(run, record, base, forms)
    row["peak_memory_bytes"] = memory.peak_memory_bytes if memory else None
    totals = run.totals(record.case)
    return row | {name: totals.get(name) for name in _TOTALS}


def _ratio(run: Run, record: Record, base: Record | None, forms: int) -> dict[str, Any]:
    ratio: dict[str, Any] = dict.fromkeys(("ratio", "ratio_low", "ratio_high", "ratio_of"))
    if base is None or base is record:
        return ratio | {"ratio": None if base is None else 1.0}
    one = beside(record, base, run.in_turn, forms)
    return {"ratio": one.ratio, "ratio_low": one.low, "ratio_high": one.high,
            "ratio_of": one.ratio_of}  # fmt: skip


def form_text(run: Run) -> Iterator[str]:
    """Lines for people: the counts of each form, what was measured, what became of the stages."""
    rows = form_rows(run)
    if not rows:
        return
    cases = [Case.parse(row["case"]) for row in rows]
    models = list(dict.fromkeys(case.model_id for case in cases))
    yield "cross-stage-partial forms beside the plain network, computed:"
    heads = ["model", *(heading for _, heading in _TOTALS.values())]
    yield from text_table(_counts(models, cases, rows), heads).splitlines()
    yield "measured, ratio to the plain network with the same settings:"
    measured = [_measured(case, row) for case, row in zip(cases, rows, strict=True)]
    yield from text_table(measured, list(measured[0])).splitlines()
    for model in models:
        analysis = run.analyses.get(str(model))
        if analysis is not None and analysis.notes:
            yield f"{model}:"
            yield from (f"  {note}" for note in analysis.notes)


def _counts(
    models: Sequence[ModelId], cases: Sequence[Case], rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    of_model = {case.model_id: row for case, row in zip(cases, rows, strict=True)}
    return [
        {"model": str(model)} | {
            heading: "-" if of_model[model][name] is None
            else f"{of_model[model][name] / divisor:.4g}"
            for name, (divisor, heading) in _TOTALS.items()
        }
        for model in models
    ]  # fmt: skip


def _measured(case: Case, row: dict[str, Any]) -> dict[str, str]:
    known = row["ratio_low"] is not None and row["ratio_high"] is not None
    bounds = f" ({row['ratio_low']:.3f} to {row['ratio_high']:.3f})" if known else ""
    if not bounds and row["ratio_of"] is not None:
        bounds = f" ({no_interval(row['ratio_of'])})"
    memory = row["peak_memory_bytes"]
    return {
        "model": str(case.model),
        "setting": f"{case.backend}, batch {case.batch}, threads {case.threads}",
        "latency (ms)": f"{row['latency_ms']:.4g}",
        "ratio": "-" if row["ratio"] is None else f"{row['ratio']:.3f}{bounds}",
        "memory (MiB)": "-" if memory is None else f"{memory / 2**20:.0f}",
    }
