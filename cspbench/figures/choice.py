"""Which networks a figure compares when the runs hold many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId, format_input
from cspbench.errors import InputError
from cspbench.figures.cases import family, in_order, is_partial
from cspbench.figures.spec import NoDataError

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run


def compared_models(runs: Sequence[Run], count: int) -> tuple[pd.DataFrame, list[str]]:
    """Layer rows of the networks worth comparing (see choose_models), and their ids.

    Raises:
        NoDataError: no model of the runs was analysed.
    """
    import pandas as pd

    chosen = choose_models(in_order(model for run in runs for model in run.analyses), count)
    frames = {
        model: run.layers_of(model) for run in runs for model in chosen if model in run.analyses
    }
    if not frames:
        raise NoDataError("no model of these runs was analysed")
    return pd.concat(frames.values(), ignore_index=True), chosen


def choose_models(model_ids: Sequence[str], count: int) -> list[str]:
    """Up to ``count`` ids that are alike enough to compare.

    They share family and input: those of which there is a plain network and its cross-stage-partial
    form, else those of which there are most (the first of equals). The pair comes first, then those
    with fewest options, since variants are seen against the plain network.
    """
    parsed = {text: model for text in model_ids if (model := _parse(text)) is not None}
    if not parsed:
        return list(model_ids)[:count]
    groups: dict[tuple[str, str], list[str]] = {}
    for text, model in parsed.items():
        groups.setdefault(_group(model), []).append(text)
    for group in groups.values():
        group.sort(key=lambda text: _options(parsed[text]))
    alike = max(groups.values(), key=lambda group: (bool(_pair(group, parsed)), len(group)))
    return list(dict.fromkeys([*_pair(alike, parsed), *alike]))[:count]


def _pair(texts: Sequence[str], parsed: Mapping[str, ModelId]) -> tuple[str, ...]:
    """The first plain network and its partial form, with the same neck if it can be."""
    pairs = [
        (plain, partial)
        for plain in texts if not is_partial(parsed[plain].model)
        for partial in texts if is_partial(parsed[partial].model)
    ]  # fmt: skip
    same_neck = [(a, b) for a, b in pairs if parsed[a].neck == parsed[b].neck]
    return next(iter([*same_neck, *pairs]), ())


def _parse(text: str) -> ModelId | None:
    try:
        return ModelId.parse(text)
    except InputError:
        return None


def _group(model: ModelId) -> tuple[str, str]:
    return family(model.model.name), format_input(model.input) if model.input else ""


def _options(model: ModelId) -> int:
    return len(model.model.options) + (len(model.neck.options) if model.neck else 0)
