"""Which networks a figure compares when the runs hold many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cspbench.core.case import ModelId, format_input
from cspbench.errors import InputError
from cspbench.figures.cases import family, in_order

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run


def compared_models(runs: Sequence[Run], count: int) -> tuple[pd.DataFrame, list[str]]:
    """Layer rows of the networks worth comparing (see choose_models), and their ids."""
    import pandas as pd

    chosen = choose_models(in_order(model for run in runs for model in run.analyses), count)
    frames = {
        model: run.layers_of(model) for run in runs for model in chosen if model in run.analyses
    }
    if not frames:
        return pd.DataFrame({"model": [], "bflops": []}), []
    return pd.concat(frames.values(), ignore_index=True), chosen


def choose_models(model_ids: Sequence[str], count: int) -> list[str]:
    """Up to ``count`` ids that are alike enough to compare.

    They share the family and the input of which there are most (the first of equals); those with
    fewest options come first, since variants are seen against the plain network.
    """
    parsed = {text: model for text in model_ids if (model := _parse(text)) is not None}
    groups = {text: _group(model) for text, model in parsed.items()}
    if not groups:
        return list(model_ids)[:count]
    [(largest, _)] = Counter(groups.values()).most_common(1)
    alike = [text for text, group in groups.items() if group == largest]
    return sorted(alike, key=lambda text: _options(parsed[text]))[:count]


def _parse(text: str) -> ModelId | None:
    try:
        return ModelId.parse(text)
    except InputError:
        return None


def _group(model: ModelId) -> tuple[str, str]:
    return family(model.model.name), format_input(model.input) if model.input else ""


def _options(model: ModelId) -> int:
    return len(model.model.options) + (len(model.neck.options) if model.neck else 0)
