"""Measure the ceilings of a device of this machine, alone, and keep them for every later run."""

from __future__ import annotations

from collections.abc import Callable

from cspbench.errors import InputError
from cspbench.jobs.ceilings import Ceilings, CeilingsRequest, CeilingsResult
from cspbench.machine.devices.spec import DEVICES
from cspbench.machine.lock import timing_lock
from cspbench.runner.executor import LocalExecutor
from cspbench.store.ceilings import keep_ceilings

#: Bound of the one launch.
TIMEOUT_SECONDS = 600


def measure_ceilings(
    device: str, threads: int, waiting: Callable[[str], None] | None = None
) -> Ceilings:
    """Measure what a device can do at best, in a worker of its own.

    Args:
        device: name of a registered device.
        threads: threads of the worker.
        waiting: gets a sentence while another run measures on this machine.

    Raises:
        InputError: this machine lacks the device, or the worker failed.
    """
    reason = DEVICES.get(device).available()
    if reason:
        raise InputError(f"{device} cannot be measured here: {reason}")
    with timing_lock("ceilings", waiting=waiting):
        request = CeilingsRequest(device, threads)
        outcome = LocalExecutor().launch(request, threads, TIMEOUT_SECONDS)
    result: CeilingsResult | None = outcome.checked(request.job)
    if result is None:
        raise InputError(f"the ceilings of {device} could not be measured: {outcome.reason}")
    keep_ceilings(device, result.ceilings)
    return result.ceilings
