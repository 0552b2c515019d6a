"""What a stored run knows of a case: its record, latency, layers and ceilings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cspbench.analysis.layer import Layer
from cspbench.analysis.roofline import Peak, peak_of
from cspbench.attribution.work import at_batch
from cspbench.core.case import Case
from cspbench.errors import InputError
from cspbench.jobs.layers import LayerTimes
from cspbench.measure.statistics import Interval
from cspbench.store.records import Record

if TYPE_CHECKING:
    from cspbench.views.frames import Run


def latency_of(record: Record) -> Interval:
    """Latency of a case in ms.

    Raises:
        InputError: it was not measured.
    """
    if record.latency_ms is None:
        why = f" ({record.reason})" if record.reason else ""
        raise InputError(f"{record.case} was not measured: {record.status}{why}")
    return record.latency_ms


def record_of(run: Run, case: str) -> Record:
    """The record of a case.

    Raises:
        InputError: the run has no such case.
    """
    record = next((record for record in run.records if record.case == case), None)
    if record is None:
        raise InputError(f"run {run.name} has no case {case}")
    return record


def layers_of(run: Run, case: Case) -> list[Layer]:
    """Layers of the stored analysis at the case's batch.

    Raises:
        InputError: the run holds no analysis that can be read.
    """
    analysis = run.analyses.get(str(case.model_id))
    if analysis is None:
        raise InputError(
            f"run {run.name} holds no analysis of {case.model_id} that this cspbench can read: "
            "measure it again"
        )
    return at_batch(analysis.layers, case.batch // analysis.input[0][0])


def peak_of_case(run: Run, case: str) -> Peak:
    """The ceilings of a case's device.

    Raises:
        InputError: they were not measured.
    """
    key, ceilings = run.ceilings(case)
    try:
        peak = peak_of(ceilings or {})
    except (KeyError, TypeError):
        peak = Peak(0, 0, 0)
    if peak.flops_per_s > 0 and peak.bytes_per_s > 0:
        return peak
    device, _, threads = key.partition("/t")
    if not device:
        raise InputError(f"{case}: its backend is not installed here, so its device is unknown")
    raise InputError(
        f"the ceilings of {key} are not known: run cspbench ceilings --device {device} "
        f"--threads {threads} on the machine of run {run.name}, or measure again with "
        "--set measure.ceilings=true"
    )


def newest_layers(run: Run, record: Record) -> LayerTimes:
    """The newest layer times of a case.

    Raises:
        InputError: it has none.
    """
    if record.layers is not None:
        return record.layers
    tried = [launch for launch in record.launches if launch.job == "layers"]
    if tried:
        raise InputError(
            f"{record.case} has no layer times: {tried[-1].reason or tried[-1].status}"
        )
    suite = run.stored.meta["suite"]
    raise InputError(
        f"{record.case} has no layer times; measure them with: cspbench run "
        f"{suite['path'] or suite['name']} --set measure.layers=true"
    )
