"""Rules of the ``gate:`` section of a suite: each limits how much a number may grow.

Every total of an analysis is a static rule. Other rules are registered, one file each, in
``cspbench.gating.rules`` or in a module that the entry point group ``cspbench.rules`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

from cspbench.analysis.layer import Layer, Number
from cspbench.analysis.metric import TOTAL_METRICS, TotalMetric, shown_in
from cspbench.core.registry import Registry

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis


def _macs(layer: Layer) -> Number:
    return layer["macs"]


@dataclass(frozen=True)
class StaticRule:
    """A rule on a number that is known without running; both sides are compared exactly.

    ``value`` reads the number from an analysis (None: not known). ``part`` gives a layer's share of
    it, by which the changed layers are ordered. ``position`` is the place in the report of a rule
    that the gate compares without a limit too.
    """

    name: str
    unit: str
    summary: str
    value: Callable[[Analysis], Number | None] = field(compare=False)
    part: Callable[[Layer], Number] = field(compare=False, default=_macs)
    position: int | None = None


def grew(base: Sequence[float], head: Sequence[float], limit: float) -> bool:
    """True if the median grew beyond the limit and every value of the head is larger."""
    return median(head) > median(base) * (1 + limit) and min(head) > max(base)


@dataclass(frozen=True)
class MeasuredRule:
    """A rule on a number that launches of both sides measure, one process at a time, in turn.

    A launch does a ``job`` on the case (``memory``, ``throughput``, ...). ``value`` reads the
    number from the job's typed result, or with ``note`` from what the executor noted under that
    name, such as ``energy`` (None: this machine cannot measure it). Rules of one job
    share their launches. ``exceeded`` decides from the values of base and head, one a launch, and
    the growth that the suite allows as a share. ``reason`` is the code of such a verdict
    (`gating.verdict.REASONS`).
    """

    name: str
    unit: str
    summary: str
    job: str
    value: Callable[[Any], float | None] = field(compare=False)
    launches: int = 3
    note: str = ""
    exceeded: Callable[[Sequence[float], Sequence[float], float], bool] = field(
        compare=False, default=grew
    )
    reason: str = "measured_rule"


Rule: TypeAlias = StaticRule | MeasuredRule
RULES: Registry[Rule] = Registry("gate rule", ("cspbench.gating.rules",), "cspbench.rules")


def rules() -> dict[str, Rule]:
    """Every rule by its name in suites."""
    positions = {metric.name: place.position for metric, place in shown_in("gate")}
    totals = {m.name: _of_total(m, positions.get(m.name)) for m in TOTAL_METRICS}
    return {**totals, **{rule.name: rule for rule in RULES}}


def always_compared() -> list[str]:
    """Names of the static rules that a gate compares without a limit too, in report order."""
    static = [rule for rule in rules().values() if isinstance(rule, StaticRule)]
    ordered = sorted((rule.position, rule.name) for rule in static if rule.position is not None)
    return [name for _, name in ordered]


def _of_total(metric: TotalMetric, position: int | None) -> StaticRule:
    def value(analysis: Analysis) -> Number | None:
        return analysis.totals.get(metric.name)

    return StaticRule(metric.name, metric.unit, metric.summary, value, metric.of_layer, position)
