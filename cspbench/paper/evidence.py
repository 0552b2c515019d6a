"""What the paper is checked against: analyses of networks and measured cases, as plain data.

Ratios are taken between cases of one run only, which took turns or were at least launched in turn.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cspbench import literature
from cspbench.analysis.record import Analysis
from cspbench.core.case import Case, ModelId
from cspbench.errors import CspbenchError
from cspbench.figures.cases import known
from cspbench.measure.statistics import Interval, quotient
from cspbench.models.spec import CONFIDENCE, MODELS, NECKS, Confidence
from cspbench.paper.comparison import SpeedRatio
from cspbench.store.ratios import InTurn

if TYPE_CHECKING:
    import pandas as pd

    from cspbench.views.frames import Run

#: Labels of definitions that a claim can be checked on; on the others it is reconstruction only.
FIRM: tuple[Confidence, ...] = ("confirmed", "solved")
#: A model's label is that of its published form. These variants of csppeleenet were chosen because
#: they meet the numbers that they would be checked against, or meet none (docs/models.md).
VARIANTS: Mapping[tuple[str, Any], Confidence] = {
    ("gamma", 0.25): "searched",
    ("gamma", 0.75): "open",
    ("fusion", "last"): "searched",
    ("fusion", "first"): "open",
}
#: Bars of Fig. 7 were read by pixels: heights that differ by less are equal.
BAR_RESOLUTION = 0.002

#: A measured case: model id with input, backend, threads.
Key = tuple[str, str, int]


@dataclass(frozen=True)
class MeasuredCase:
    """A case that has a latency, in ms with its 95 % interval.

    ``in_turn`` is what the blocks of its run say of any two cases. They are not ``trusted`` where
    the run's reference differs from itself.
    """

    case: str
    run: str
    latency_ms: Interval
    in_turn: InTurn | None = None
    trusted: bool = True

    @property
    def fps(self) -> float:
        """Inferences a second at batch 1."""
        return 1000 / self.latency_ms.estimate


@dataclass(frozen=True)
class Evidence:
    """What is known.

    Attributes:
        analyses: by model id with input (``csppeleenet@224``).
        cases: the case frame of each run (``Run.cases``) by the run's path, oldest first.
        in_turn: ``Run.in_turn`` of each run, by path.
    """

    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    cases: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    in_turn: Mapping[str, InTurn] = field(default_factory=dict)

    @functools.cached_property
    def _rows(self) -> dict[str, dict[Key, dict[str, Any]]]:
        """Case rows at batch 1 of plain backends, by run."""
        by_run: dict[str, dict[Key, dict[str, Any]]] = {}
        for run, frame in self.cases.items():
            rows = by_run.setdefault(run, {})
            for row in frame.to_dict(orient="records"):
                case = Case.parse(str(row["id"]))
                if case.batch == 1 and not case.backend.options:
                    key = (str(case.model_id), case.backend.name, case.threads)
                    rows[key] = {str(name): value for name, value in row.items()}
        return by_run

    def total(self, model: str, metric: str) -> float | None:
        """A total of a model's analysis, None if it was not analysed."""
        analysis = self.analyses.get(model)
        value = analysis.totals.get(metric) if analysis else None
        return None if value is None else float(value)

    def measured(
        self, models: Sequence[str], backends: Sequence[str]
    ) -> tuple[dict[str, MeasuredCase], str, str]:
        """Latencies of ``models``, all on one backend with equal threads in one run.

        The first backend counts on which all were measured, else that with most; the newest run of
        equals.

        Returns:
            those measured by model id, the backend, and why the others (if any) are missing.
        """
        best: dict[str, MeasuredCase] = {}
        chosen = ""
        for backend in backends:
            for run, rows in reversed(self._rows.items()):
                for threads in sorted({key[2] for key in rows if key[1] == backend}):
                    keys = {model: (model, backend, threads) for model in models}
                    measured = {
                        model: _measured(rows[key], run, self.in_turn.get(run))
                        for model, key in keys.items()
                        if key in rows and _has_latency(rows[key])
                    }
                    if len(measured) > len(best):
                        best, chosen = measured, backend
            if len(best) == len(models):
                break
        missing = [model for model in models if model not in best]
        return best, chosen, self._why(missing, backends)

    def _why(self, models: Sequence[str], backends: Sequence[str]) -> str:
        """Why there is no latency of these models on these backends; empty without models."""
        reasons: dict[str, list[str]] = {}
        for model in models:
            failed = {
                backend: f"{backend}: {row['reason'] or row['status']}"
                for rows in self._rows.values()
                for (name, backend, _), row in rows.items()
                if name == model and backend in backends and not _has_latency(row)
            }
            reason = "; ".join(failed.values()) or f"not in any run on {' or '.join(backends)}"
            reasons.setdefault(reason, []).append(model)
        return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in reasons.items())

    def label(self, model: str, metric: str = "") -> Confidence:
        """How sure we are of a model's definition, as far as ``metric`` depends on it.

        The largest layer of a detector (``max_layer_bflops``) depends on its backbone alone where
        it lies there and Fig. 7 draws no larger one in the head.
        """
        parsed = ModelId.parse(model)
        if metric == "max_layer_bflops" and self._largest_is_in_backbone(model):
            parsed = type(parsed)(parsed.model)
        return weakest(_labels(str(parsed)))

    def weak(self, models: Sequence[str], metric: str = "") -> tuple[str, ...]:
        """Those whose definition is not firm, with its label: ``csppeleenet+efm@416: searched``."""
        labels = {model: self.label(model, metric) for model in models}
        return tuple(f"{model}: {label}" for model, label in labels.items() if label not in FIRM)

    def _largest_is_in_backbone(self, model: str) -> bool:
        analysis = self.analyses.get(model)
        if analysis is None or not analysis.places.get("max_layer_bflops", "").startswith(
            "backbone."
        ):
            return False
        try:
            bars = literature.figure7(model.partition("@")[0])
        except KeyError:
            return False
        return max(bars) <= analysis.totals["max_layer_bflops"] + BAR_RESOLUTION


def from_runs(runs: Sequence[Run]) -> Evidence:
    """What stored runs know; of a network that several analysed, the last analysis counts."""
    analyses: dict[str, Analysis] = {}
    for run in runs:
        analyses |= run.analyses
    return Evidence(
        analyses,
        {str(run.path): run.cases for run in runs},
        {str(run.path): run.in_turn for run in runs},
    )


def with_analyses(evidence: Evidence, models: Iterable[str]) -> Evidence:
    """The same evidence with the analyses that it lacks, made now or taken from the cache."""
    from cspbench.analysis.api import analyze_id

    complete = {
        model: evidence.analyses[model] if model in evidence.analyses else analyze_id(model)
        for model in dict.fromkeys([*evidence.analyses, *models])
    }
    return replace(evidence, analyses=complete)


def speed_ratio(first: MeasuredCase, second: MeasuredCase) -> SpeedRatio:
    """How many times as fast ``first`` is as ``second``: second over first.

    If both took turns in one run it is the ratio over their blocks, without bounds where the run is
    not trusted. Otherwise it is the quotient of their latencies, which has no bounds without both
    intervals and says that it is no ratio in turn.
    """
    if first.run == second.run and first.in_turn is not None:
        found = first.in_turn.ratio(second.case, first.case)
        if found is not None:
            together = found.ratio.interval
            if not first.trusted:
                return SpeedRatio(together.estimate, None, None, in_turn=True, trusted=False)
            return SpeedRatio(together.estimate, together.low, together.high, in_turn=True)
    apart = quotient(second.latency_ms, first.latency_ms)
    return SpeedRatio(apart.estimate, apart.low, apart.high, in_turn=False)


def weakest(labels: Sequence[Confidence]) -> Confidence:
    """The label that we are least sure of; ``confirmed`` of none."""
    return max(labels, key=list(CONFIDENCE).index, default="confirmed")


def _labels(model: str) -> list[Confidence]:
    parsed = ModelId.parse(model)
    labels: list[Confidence] = []
    try:
        labels.append(MODELS.get(parsed.model.name).confidence)
        if parsed.neck is not None:
            labels.append(NECKS.get(parsed.neck.name).confidence)
    except CspbenchError:
        return ["open"]
    if parsed.model.name == "csppeleenet":
        labels += [VARIANTS[option] for option in parsed.model.options if option in VARIANTS]
    return labels


def _has_latency(row: Mapping[str, Any]) -> bool:
    return known(row["latency_ms"]) is not None


def _measured(row: Mapping[str, Any], run: str, in_turn: InTurn | None) -> MeasuredCase:
    low, high = known(row["latency_ms_low"]), known(row["latency_ms_high"])
    latency = Interval(float(row["latency_ms"]), low, high)
    trusted = "untrusted" not in row.get("flags", ())
    return MeasuredCase(str(row["id"]), run, latency, in_turn, trusted)
