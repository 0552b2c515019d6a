"""Columns that metrics bring to ``Run.cases``: those of today stand where they stood, others last.

A run that was stored without a metric lacks its value, which is missing there and never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cspbench.analysis.metric import TotalMetric, shown_in


def metric_columns() -> dict[str, TotalMetric]:
    """The totals that are columns of ``Run.cases``, by column, in their order."""
    return {metric.column or metric.name: metric for metric, _ in shown_in("cases")}


def other_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of metrics that ``columns`` do not place."""
    return tuple(column for column in metric_columns() if column not in columns)


def metric_values(totals: Mapping[str, float | None]) -> dict[str, float | None]:
    """The value of every metric column, given the totals of a model."""
    return {column: metric.column_value(totals) for column, metric in metric_columns().items()}


def metric_formats() -> dict[str, str]:
    """How the values are printed in the forms that people read."""
    return {
        metric.column or metric.name: f".{place.decimals}f" for metric, place in shown_in("cases")
    }
