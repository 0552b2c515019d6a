"""Which networks a figure compares when the runs hold many."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cspbench.errors import InputError
from cspbench.figures.cases import family, in_order
from cspbench.ids import ModelId, format_input, parse_model_id

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.analysis import Analysis
    from cspbench.frames import Run


#: Analyses by run and model, so that each is read once however many figures and tables show it.
_ANALYSES: weakref.WeakKeyDictionary[Run, dict[str, Analysis]] = weakref.WeakKeyDictionary()


def compared_models(runs: Sequence[Run], count: int) -> tuple[pd.DataFrame, list[str]]:
    """Layer rows of the networks worth comparing (see choose_models), and their ids."""
    import pandas as pd

    chosen = choose_models(in_order(model for run in runs for model in analysed(run)), count)
    frames = {model: layers_of(run, model) for run in runs for model in chosen if has(run, model)}
    if not frames:
        return pd.DataFrame({"model": [], "bflops": []}), []
    return pd.concat(frames.values(), ignore_index=True), chosen


def analysed(run: Run) -> list[str]:
    """Ids of the models of which this cspbench can read the run's analysis."""
    return [model for model in run.stored.meta["analyses"] if has(run, model)]


def has(run: Run, model: str) -> bool:
    """True if the run analysed the model, in the form of this version of cspbench."""
    from cspbench.analysis.record import VERSION

    found = run.stored.meta["analyses"].get(model, {})
    return bool(found.get("version") == VERSION and found.get("rows"))


def analysis_of(run: Run, model: str) -> Analysis:
    """The analysis of one model that the run holds (see ``has``)."""
    from cspbench.analysis import Analysis

    known = _ANALYSES.setdefault(run, {})
    if model not in known:
        known[model] = Analysis.from_dict(run.stored.meta["analyses"][model])
    return known[model]


def layers_of(run: Run, model: str) -> pd.DataFrame:
    """Layers of one model of a run: the Analysis's columns and ``model``.

    Like ``run.layers``, which makes those of all models at once.
    """
    frame = analysis_of(run, model).frame()
    frame.insert(0, "model", model)
    return frame


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
        return parse_model_id(text)
    except InputError:
        return None


def _group(model: ModelId) -> tuple[str, str]:
    return family(model.model.name), format_input(model.input) if model.input else ""


def _options(model: ModelId) -> int:
    return len(model.model.options) + (len(model.neck.options) if model.neck else 0)
