"""Published numbers by model id with input, as figures and the report look them up."""

from __future__ import annotations

import functools

from cspbench import literature
from cspbench.literature import Published


def published_by_model(metric: str) -> dict[str, Published]:
    """The first published value of ``metric`` of every system, by ``name@input``.

    Values without an input, or measured on a device (fps), are not among them.
    """
    by_model: dict[str, Published] = {}
    for entry in literature.everything():
        if entry.metric != metric or entry.device is not None or entry.value is None:
            continue
        if entry.name is not None and entry.input is not None:
            by_model.setdefault(f"{entry.name}@{entry.input}", entry)
    return by_model


def accuracies() -> list[tuple[str, str, Published]]:
    """Combinations with a published accuracy: id with input, ``top-1`` or ``AP50``, and entry."""
    return sorted(
        (model, shown, entry)
        for metric, shown in (("top1_pct", "top-1"), ("ap50_pct", "AP50"))
        for model, entry in published_by_model(metric).items()
    )


@functools.cache
def published_values(metric: str) -> dict[str, float]:
    """The numbers alone of :func:`published_by_model`."""
    return {
        model: entry.value
        for model, entry in published_by_model(metric).items()
        if entry.value is not None
    }


def everything_of(name: str, side: int | None) -> list[Published]:
    """All published numbers of a system at an input side, one a metric, device and value."""
    entries: dict[tuple[str, str | None, str | None], Published] = {}
    for entry in literature.published(name):
        if entry.input == side:
            entries.setdefault((entry.metric, entry.device, entry.text), entry)
    return list(entries.values())
