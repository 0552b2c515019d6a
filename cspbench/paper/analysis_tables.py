"""Tables of ``cspbench analyze`` that hold the papers' numbers beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.analysis.record import Analysis
from cspbench.views.analysis_tables import Block, Row, Tables, with_id

#: Published numbers that make a table worth printing.
_COMPARISONS = ("params", "bflops", "cio_paper", "max_layer_bflops", "bflops_change")


def closed_forms(analyses: Sequence[Analysis]) -> Tables:
    """The papers' closed forms beside counted values: dense blocks, 1x1 convolutions."""
    from cspbench.models.build import build
    from cspbench.paper import theory

    blocks: list[Row] = []
    bounds: list[Row] = []
    for analysis in analyses:
        if analysis.source == "torch":
            module = build(analysis.id, weights=False)
            blocks += with_id(analysis, theory.block_rows(analysis, module))
        bounds += with_id(analysis, theory.bound_rows(analysis))
    dense = "CIO per pixel of dense blocks: closed form, counted, the network's real layers"
    lowest = "ShuffleNetV2's lower bound of the memory access cost of 1x1 convolutions"
    return Tables(
        [{"dense_blocks": blocks, "memory_access_bounds": bounds}],
        [*blocks, *bounds],
        [*([Block(blocks, dense)] if blocks else []), Block(bounds, f"\n{lowest}")],
    )


def published(analyses: Sequence[Analysis]) -> Tables:
    """Published counts, ours, and the difference."""
    from cspbench.analysis.api import analyze_id
    from cspbench.paper import published_counts

    rows = []
    for analysis in analyses:
        against = published_counts.needs_baseline(analysis)
        baseline = analyze_id(against) if against else None
        rows.append(published_counts.published_row(analysis, baseline))
    table, sentences = published_counts.readable(rows)
    sentences += [
        f"largest layer, {change['from']} to {change['to']}: "
        f"published {change['published']:+.2%}, ours {change['ours']:+.2%}"
        for change in published_counts.bottleneck_rows(analyses)
    ]
    heading = '\npublished and computed; "equal" means in every printed digit'
    return Tables(rows, table, [Block(table, heading, "\n".join(sentences))])


def has_published(tables: Tables) -> bool:
    """True if any of the models has a published count."""
    return any(row[name]["published"] for row in tables.objects for name in _COMPARISONS)
