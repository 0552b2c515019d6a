"""Notes on a gate as a whole: what its cases have in common. They change no verdict."""

from __future__ import annotations

from collections.abc import Sequence

from cspbench.core.text import number_of
from cspbench.gating.decide import Decision, moving_alike
from cspbench.gating.verdict import MeasuredCase, percent
from cspbench.store.blocks import DEVICE, RUNNING


def common_cause(cases: Sequence[MeasuredCase], min_effect: float) -> str | None:
    """A note if nearly all cases of a duet moved alike."""
    estimates = [case.last.estimate for case in cases if isinstance(case.last, Decision)]
    common = moving_alike(estimates, min_effect)
    if common is None:
        return None
    return (
        f"nearly all {len(estimates)} cases moved by about {percent(common)}: look for one common "
        "cause (a library, an engine, a setting, this machine) before any single model's code"
    )


#: What else than elapsed time a change can be of.
_CLOCKS = {
    RUNNING: "running time: elapsed time without the time in which the process did not run, "
    "because it waited or blocked (one thread on a processor)",
    DEVICE: "the device's own time, by its events",
}


def what_ratios_are_of(cases: Sequence[MeasuredCase]) -> list[str]:
    """A note on what the changes of a gate are of, if not all are of elapsed time."""
    of = [case.of for case in cases if isinstance(case.last, Decision)]
    notes = []
    for clock, meaning in _CLOCKS.items():
        number = of.count(clock)
        some = "" if number == len(of) else f" of {number} of {len(of)} cases"
        if number:
            notes.append(f"change, base ms and head ms{some} are of {meaning}")
    return notes


def what_was_left_out(cases: Sequence[MeasuredCase]) -> list[str]:
    """A note on the pairs of bursts that do not count, if there are any."""
    held = [case for case in cases if case.throttled_pairs]
    if not held:
        return []
    pairs = number_of(sum(case.throttled_pairs for case in held), "pair")
    text = f"{pairs} of bursts of {number_of(len(held), 'case')} did not count: the device was "
    return [f"{text}throttled in one of the two"]
