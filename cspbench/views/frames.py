"""Runs as tidy pandas frames: the form in which results are looked at.

Columns are documented in docs/metrics.md; a value that was not obtained is missing (NaN or None),
never 0.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cspbench.backends.precisions import precision_of
from cspbench.backends.spec import BACKENDS, device_of
from cspbench.core.case import Case
from cspbench.core.files import RESULTS
from cspbench.core.garbage import without_collections
from cspbench.errors import CspbenchError
from cspbench.jobs.spec import JOBS
from cspbench.measure.memory import MemoryUse
from cspbench.store.ceilings import known_ceilings
from cspbench.store.ratios import InTurn
from cspbench.store.records import Record, records
from cspbench.store.rundir import StoredRun, check_analyses, find_run, read_run
from cspbench.views.case_rows import (
    DEVICE_COLUMNS,
    ENERGY_COLUMNS,
    INTERFERENCE_COLUMNS,
    PUBLISHED_COLUMNS,
    add_ratios,
    add_scaling,
    case_row,
    launch_row,
)
from cspbench.views.metric_columns import metric_columns, other_columns
from cspbench.views.ratios import (
    CASE_RATIO_COLUMNS,
    RATIO_COLUMNS,
    RATIO_NUMBERS,
    find_reference,
    rows_by_reference,
)

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis
    from cspbench.views.device_bound import Bound
    from cspbench.views.layer_times import Conditions

CASE_COLUMNS = (
    "id", "model", "neck", "input", "backend", "batch", "threads", "board", "status", "reason",
    "flags", "params_m", "macs_g", "bflops", "latency_ms", "latency_ms_low", "latency_ms_high",
    "p90_ms", "p99_ms", "fps", "launches", "samples", "max_relative_error", "allowed_error",
    "agreement_with", "peak_memory_bytes",
    "loaded_bytes", "retained_bytes", "transient_bytes", "device_peak_bytes",
    "device_first_peak_bytes", "device_loaded_bytes", "device_retained_bytes",
    "device_transient_bytes", "device_pool_bytes", "device_workspace_bytes",
    "device_reserved_bytes", "device_process_bytes", "device_taken_bytes", "memory_method",
    "energy_per_inference_j", "power_w", "idle_power_w", "energy_method", "compile_seconds",
    "device_ms", "device_waiting", "kernels", "kernel_ms", "bound_by",
    "scope", "throughput_fps", "throughput_method", "scaling_efficiency",
    *CASE_RATIO_COLUMNS, "faults_per_inference", "system_share",
    *PUBLISHED_COLUMNS,
)  # fmt: skip
LAUNCH_COLUMNS = (
    "case", "job", "number", "session", "board", "ended", "seconds", "status", "reason", "flags",
    "median_ms", "samples", "stop", "relative_half_width", "load_ms", "first_ms", "warmup_count",
    "steady", "drift", "device_ms", "enqueue_ms", "transfer_ms", "steal_s", "foreign_cpu_s",
    "own_cpu_s", "load_1m_before", "load_1m_after", "voluntary_switches", "involuntary_switches",
)  # fmt: skip
#: Columns of numbers that may be missing.
NUMBER_COLUMNS = frozenset((
    "latency_ms", "latency_ms_low", "latency_ms_high", "p90_ms", "p99_ms", "fps",
    "max_relative_error", "allowed_error", "throughput_fps", "scaling_efficiency", "drift",
    "compile_seconds", "device_waiting", "kernels", "kernel_ms",
    "seconds", "median_ms", "relative_half_width", "load_ms", "first_ms", "faults_per_inference",
    "system_share", *PUBLISHED_COLUMNS, *RATIO_NUMBERS,
    *MemoryUse.bytes_names(), *ENERGY_COLUMNS[:3], *DEVICE_COLUMNS, *INTERFERENCE_COLUMNS,
))  # fmt: skip
SAMPLE_COLUMNS = ("case", "number", "index", "latency_ms")


class Run:
    """A stored run: ``cases``, ``ratios``, ``launches``, ``samples`` and ``layers`` as frames.

    ``reference`` is the id of the case that ratios are relative to; by default the one that the run
    noted. In the run of several boards it is None by default, because each board has its own.
    """

    def __init__(self, stored: StoredRun, reference: str | None = None) -> None:
        self.stored = stored
        self.reference: str | None = reference or stored.meta.get("reference")
        self._relative_to = reference

    def __repr__(self) -> str:
        measured = sum(bool(record.good) for record in self.records)
        return f"Run({self.name!r}: {measured} of {len(self.records)} cases measured)"

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.stored.path

    @property
    def name(self) -> str:
        """The run's name, which is its directory's."""
        return str(self.stored.meta["run"])

    @property
    def environment(self) -> dict[str, Any]:
        """Fingerprint of the machine."""
        return dict(self.stored.meta["environment"])

    @functools.cached_property
    def records(self) -> list[Record]:
        """One record a planned case, in plan order."""
        return records(self.stored)

    @functools.cached_property
    @without_collections()
    def cases(self) -> pd.DataFrame:
        """One row a case."""
        rows = [
            case_row(record, self.totals(record.case)) | {"bound_by": self._bound_by(record)}
            for record in self.records
        ]
        add_scaling(rows)
        add_ratios(rows, self._ratio_rows)
        return _frame(rows, case_columns(), NUMBER_COLUMNS | set(metric_columns()))

    @functools.cached_property
    def ratios(self) -> pd.DataFrame:
        """One row a measured case: its latency relative to the reference's."""
        return _frame(self._ratio_rows, RATIO_COLUMNS)

    @functools.cached_property
    def _ratio_rows(self) -> list[dict[str, Any]]:
        return rows_by_reference(self.records, self.stored.meta, self.in_turn, self._relative_to)

    @property
    def distrust(self) -> list[str]:
        """Why ratios of the run are not to be trusted, a sentence a reference; none if they are."""
        found = [row["distrust"] for row in self._ratio_rows]
        return list(dict.fromkeys(filter(None, found)))

    @functools.cached_property
    def in_turn(self) -> InTurn:
        """What the blocks of the run say of any two cases."""
        return InTurn(self.stored.launches)

    @functools.cached_property
    @without_collections()
    def launches(self) -> pd.DataFrame:
        """One row a launch, preparation included."""
        known = {
            id(launch): median_ms
            for record in self.records
            for launch, median_ms in zip(record.good, record.launch_medians_ms, strict=True)
        }
        rows = [launch_row(launch, known.get(id(launch))) for launch in self.stored.launches]
        return _frame(rows, LAUNCH_COLUMNS)

    @functools.cached_property
    def samples(self) -> pd.DataFrame:
        """One row a timed inference."""
        good = [launch for record in self.records for launch in record.good]
        if not good:
            return _frame([], SAMPLE_COLUMNS)
        counts = np.array([len(launch.result.latencies_ns) for launch in good])
        # One frame a launch would take ten times as long.
        launches = pd.DataFrame([(launch.case, launch.number) for launch in good],
                                columns=["case", "number"])  # fmt: skip
        samples = launches.loc[launches.index.repeat(counts)].reset_index(drop=True)
        first = np.repeat(np.cumsum(counts) - counts, counts)
        samples["index"] = np.arange(len(samples)) - first
        joined = itertools.chain.from_iterable(launch.result.latencies_ns for launch in good)
        samples["latency_ms"] = np.fromiter(joined, "int64", len(samples)) / 1e6
        return samples

    @functools.cached_property
    def layers(self) -> pd.DataFrame:
        """One row a layer of every model analysed: the Analysis's columns and ``model``."""
        parts = [self.layers_of(model) for model in self.analyses]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"model": []})

    def layers_of(self, model: str) -> pd.DataFrame:
        """The rows of ``layers`` that are one model's, which ``analyses`` must hold."""
        frame = self.analyses[model].frame()
        frame.insert(0, "model", model)
        return frame

    @functools.cached_property
    def layer_times(self) -> pd.DataFrame:
        """One row an entry of a layer profile, and one a case for what lies between layers."""
        from cspbench.views.layer_times import LAYER_TIME_COLUMNS, layer_time_rows

        rows: list[dict[str, Any]] = []
        for record in self.records:
            if record.layers is not None:
                model = str(Case.parse(record.case).model_id)
                # Without an analysis the entries stand alone.
                layers = self.analyses[model].layers if model in self.analyses else []
                rows += layer_time_rows(
                    record.case, record.layers, layers, self._conditions(record.case)
                )
        return pd.DataFrame(rows, columns=list(LAYER_TIME_COLUMNS))

    def ceilings(self, case_id: str) -> tuple[str, dict[str, Any] | None]:
        """``device/t<threads>`` of a case ("" for an unknown backend), and its measured ceilings.

        Those that the run noted, or else those that this machine measured since, if it made the
        run.
        """
        case = Case.parse(case_id)
        try:
            backend = BACKENDS.get(case.backend.name)
        except CspbenchError:  # of a package that is not installed here
            return "", None
        device = device_of(backend, dict(case.backend.options))
        key = f"{device}/t{case.threads}"
        noted = self._noted_ceilings(case_id).get(key)
        if noted is None and case.board is None:
            known = known_ceilings(device, case.threads, self.environment)
            noted = None if known is None else asdict(known)
        return key, noted

    def _noted_ceilings(self, case_id: str) -> dict[str, Any]:
        """Of the board of the fleet that the case sits on, else of the run's machine."""
        fleet = self.stored.meta.get("fleet") or {}
        board = fleet.get("seats", {}).get(case_id)
        if board in fleet.get("boards", {}):
            return dict(fleet["boards"][board].get("ceilings", {}))
        return dict(self.stored.meta.get("ceilings", {}))

    def _conditions(self, case_id: str) -> Conditions:
        from cspbench.analysis.roofline import PRECISION
        from cspbench.views.layer_times import Conditions

        case = Case.parse(case_id)
        key, ceilings = self.ceilings(case_id)
        device = key.partition("/")[0]
        unknown = f"unknown: cspbench ceilings --device {device} --threads {case.threads}"
        name, options = case.backend.name, dict(case.backend.options)
        if name in BACKENDS:
            precision = precision_of(BACKENDS.get(name), options)
        else:
            precision = str(options.get("precision", PRECISION))
        label = key if ceilings or not key else unknown
        return Conditions(case.batch, precision, ceilings or {}, label)

    def bound(self, record: Record) -> Bound | None:
        """What bounds a case on an accelerator; None where it was not looked at."""
        from cspbench.views.device_bound import bound, work_of

        result = record.newest("device")
        if result is None:
            return None
        return bound(result, work_of(self.totals(record.case), self._conditions(record.case)))

    def _bound_by(self, record: Record) -> str | None:
        found = self.bound(record)
        return None if found is None else str(found)

    @functools.cached_property
    def analyses(self) -> dict[str, Analysis]:
        """Analyses by model, of the models of which this version can read the run's.

        Raises:
            InputError: the run has malformed layers; cspbench did not make it.
        """
        from cspbench.analysis.record import Analysis, is_current

        check_analyses(self.stored)
        stored = self.stored.meta["analyses"].items()
        return {model: Analysis.from_dict(data) for model, data in stored if is_current(data)}

    def totals(self, case_id: str) -> dict[str, Any]:
        """Totals of the case's model by convention; empty if it was not analysed."""
        analysis = self.stored.meta["analyses"].get(str(Case.parse(case_id).model_id), {})
        return dict(analysis.get("totals", {}))


def load(path: str | Path, relative_to: str | None = None, *, results: str | Path = RESULTS) -> Run:
    """Load a stored run.

    Args:
        path: its directory, its name under ``results``, or ``latest``.
        relative_to: pattern of the one case that ratios are to be relative to.
        results: directory that holds the runs.

    Raises:
        InputError: no such run, or not one case matches.
    """
    named = isinstance(path, str) and "/" not in path and not Path(path).exists()
    stored = read_run(find_run(str(path), Path(results)) if named else Path(path))
    if relative_to is None:
        return Run(stored)
    return Run(stored, find_reference(relative_to, [case["id"] for case in stored.meta["cases"]]))


def case_columns() -> tuple[str, ...]:
    """Columns of ``Run.cases``: `CASE_COLUMNS`, then those that metrics and launches add to it."""
    return (*CASE_COLUMNS, *other_columns(CASE_COLUMNS), *launch_columns())


def launch_columns() -> tuple[str, ...]:
    """The columns of kinds of launches that `CASE_COLUMNS` does not place."""
    return tuple(column for kind in JOBS for column in kind.columns if column not in CASE_COLUMNS)


def _frame(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    numbers: Collection[str] = NUMBER_COLUMNS,
) -> pd.DataFrame:
    """Rows as a frame; numbers that were not obtained are NaN, also where none was."""
    frame = pd.DataFrame(rows, columns=list(columns))
    return frame.astype({column: "float64" for column in columns if column in numbers})
