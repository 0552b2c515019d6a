"""Cases of two stored runs: why is it slower today?

The runs took no turns, so whatever changed on the machine between them is in the difference, and
what is known of that stands beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.analysis.layer import Layer
from cspbench.attribution.causes import Explanation, attribute, ratio_difference
from cspbench.attribution.engines import ComparedSide, LayerComparison, pairs_apart
from cspbench.attribution.facts import latency_of, layers_of, newest_layers, record_of
from cspbench.attribution.sides import notes_on, side_of
from cspbench.core.case import Case
from cspbench.core.text import percent
from cspbench.errors import InputError
from cspbench.jobs.layers import LayerTimes
from cspbench.measure.statistics import ratio_between_runs
from cspbench.store.records import Record
from cspbench.views.conditions import run_conditions

if TYPE_CHECKING:
    from cspbench.views.frames import Run


def explain_runs(base: Run, head: Run, a: str, b: str) -> Explanation | LayerComparison:
    """Explain case ``a`` of one run against ``b`` of another.

    One network is compared layer by layer; two networks by causes, which asks for ceilings.

    Raises:
        InputError: both are the same run, or a case lacks latency, layer times or its analysis.
    """
    if base.path == head.path:
        raise InputError(f"both runs are {base.name}: name two different ones, or one --run only")
    records = record_of(base, a), record_of(head, b)
    latencies = latency_of(records[0]), latency_of(records[1])
    cases = Case.parse(a), Case.parse(b)
    layers = layers_of(base, cases[0]), layers_of(head, cases[1])
    times = [[one.median_ms for one in record.times] for record in records]
    ratio = ratio_between_runs(times[0], times[1])
    notes = _notes(base, head, records)
    if cases[0].batch != cases[1].batch or _shapes(layers[0]) != _shapes(layers[1]):
        sides = side_of(base, a), side_of(head, b)
        return attribute(*sides, [*notes_on(a, b), *notes], ratio=ratio)
    compared = [
        ComparedSide(record.case, latency, own, f"in run {run.name}")
        for record, latency, own, run in zip(records, latencies, layers, (base, head), strict=True)
    ]
    profiles = list(zip(_profiles(base, records[0]), _profiles(head, records[1]), strict=False))
    low, high = ratio_difference(latencies[0].estimate, ratio)
    return LayerComparison(
        compared[0], compared[1], latencies[1].estimate, low, high,
        pairs_apart(compared[0], compared[1], profiles), 0, _how(len(profiles)), tuple(notes),
    )  # fmt: skip


def _shapes(layers: list[Layer]) -> list[tuple[object, ...]]:
    """What makes two networks the same: their layers in order, by kind and shapes."""
    return [(one.kind, one.input_shapes, one.output_shapes, one.weight_shape) for one in layers]


def _profiles(run: Run, record: Record) -> list[LayerTimes]:
    """The layer times of every block of a case; of a run without blocks those of its launch."""
    in_turn = [result.layers for result in record.times if result.layers is not None]
    return in_turn or [newest_layers(run, record)]


def _how(profiles: int) -> str:
    if profiles == 1:
        return "Layer times are of one launch in each run, scaled to the latency."
    return (
        f"Layer times are from {profiles} blocks of each run, scaled to the latency; their "
        "intervals hold what scatters within the runs, not what changed between them."
    )


def _notes(base: Run, head: Run, records: tuple[Record, Record]) -> list[str]:
    """What is known of the conditions: flags, page faults, machines, load and clocks."""
    notes = []
    for name, run, record in (("A", base, records[0]), ("B", head, records[1])):
        if record.flags:
            flags = " and ".join(flag.replace("_", " ") for flag in record.flags)
            notes.append(f"{name}'s launches in run {run.name} are flagged: {flags}.")
    kernel = [record.kernel_work for record in records]
    if any(work.is_faulting for work in kernel):
        texts = [
            f"{name} takes {work.faults_per_inference or 0:,.0f} page faults an inference, and "
            f"{percent(work.system_share or 0)} of its time in the kernel"
            for name, work in zip("AB", kernel, strict=True)
        ]
        notes.append(f"{'; '.join(texts)}.")
    differing = run_conditions(base.stored, head.stored)
    notes += [f"Not the same conditions: {phrase}." for phrase in differing]
    if not differing:
        notes.append("No difference between the machines, their load or their clocks is known.")
    return notes
