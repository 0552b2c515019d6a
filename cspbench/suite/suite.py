"""The types of a validated suite: its cases, settings of measuring, limits of the gate."""

from __future__ import annotations

import re
from dataclasses import Field, dataclass, field, fields
from typing import Any

from cspbench.core.case import Case
from cspbench.errors import InputError

#: Stands in a suite in place of labels to measure on every board.
EACH = "each"
#: Form of a board's label, and the sentence that describes it.
LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
LABEL_RULE = (
    "up to 63 small letters, digits, dots, hyphens and underscores are allowed, the first a letter "
    "or digit"
)


def check_label(text: str) -> str:
    """Return a label or the name of a board.

    Raises:
        InputError: the text has another form.
    """
    if not LABEL.fullmatch(text) or text == EACH:
        raise InputError(
            f"{text[:80]!r} is not a label: {LABEL_RULE}, and the word {EACH} is refused"
        )
    return text


def setting(default: Any, description: str, *, key: str = "", **bounds: float) -> Any:
    """A setting of ``measure``, from which suites, the stored format and the documents are made.

    ``key`` is its name in suites if that differs; ``bounds`` are pydantic's (``ge``, ...).
    """
    about = {"description": description, "key": key, "bounds": bounds}
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Measure:
    """How to measure: the ``measure:`` section of a suite."""

    rounds: int = setting(
        5,
        "launches (fresh processes) of each case; those of one block live together",
        ge=1,
        le=1000,
    )
    together: int | None = setting(
        None,
        "how many cases live together and take turns, besides the reference and its second process "
        "(default: all that fit into memory); 1: each launch is alone on the machine",
        ge=1,
        le=1000,
    )
    target_ratio: float = setting(
        0.02,
        "cases whose ratio to the reference has a 95 % interval with a larger half width get more "
        "launches, up to three times as many, while the budget lasts",
        gt=0,
    )
    warmup_seconds: float = setting(
        2.0, "bound of the warm-up of a launch in seconds; auto: 2 s", key="warmup", ge=0, le=600
    )
    target_ci: float = setting(
        0.02,
        "a launch that is alone stops sampling when the half width of its 95 % interval is within "
        "this share of the median",
        gt=0,
    )
    max_seconds: float = setting(6.0, "bound of the sampling of a launch in seconds", gt=0, le=3600)
    min_seconds: float = setting(
        0.5,
        "a launch that is alone times inferences for at least so long in sum, however precise it "
        "is, unless max_seconds are over before",
        ge=0,
        le=3600,
    )
    budget_seconds: float | None = setting(
        None,
        "when this time is spent, disturbed launches are not repeated and no round begins once "
        "every case has three launches",
        gt=0,
        le=604800,
    )
    timeout_seconds: float = setting(300.0, "bound of every phase of a launch", gt=0, le=86400)
    memory: bool = setting(True, "one more launch a case measures its peak memory")
    ceilings: bool = setting(False, "measure the ceilings of the device once, for the roofline")
    device_times: bool = setting(
        True,
        "one more launch of a case on an accelerator looks at the device's own time, its kernels "
        "and its waiting",
    )
    layers: bool = setting(
        False,
        "profile layers: in bursts beside the plain ones, or in one more launch of a case on an "
        "accelerator",
    )
    replay: bool = setting(
        False, "time each distinct layer alone, in the same turns (ONNX backends with a profiler)"
    )
    throughput: bool = setting(
        False, "one more launch a case overlaps inferences where its backend can"
    )
    energy: bool = setting(
        False,
        "one more launch a case runs inferences back to back for 5 s and more and measures their "
        "energy, where a sensor gives the device's power",
    )
    trace: bool = setting(
        False,
        "one more launch a case of torch keeps torch.profiler's own trace of 3 inferences "
        "(cspbench show RUN --torch-trace CASE)",
    )
    sensors: str = setting(
        "auto",
        "sensors that are read while a launch samples: auto (all of this machine but those that "
        "must be named), none, or names such as [jtop]",
    )
    seed: int = setting(0, "seed of the launch order, the inputs and the weights", ge=0, lt=2**32)
    #: Keys of requested kinds of launches that other packages register.
    extras: tuple[str, ...] = ()

    def wants(self, key: str) -> bool:
        """Whether a kind of launch is requested by its key of ``measure``."""
        return key in self.extras or getattr(self, key, False) is True


#: The fields of `Measure` that suites set, by their keys there.
SETTINGS: dict[str, Field[Any]] = {
    item.metadata["key"] or item.name: item for item in fields(Measure) if item.metadata
}


@dataclass(frozen=True)
class Gate:
    """Limits of ``cspbench gate``: the ``gate:`` section of a suite.

    rules: (metric, share) pairs; growth of the metric by more than the share is a regression.
    min_effect: smallest slowdown that is called slower. tolerance: a change of latency that lies
    within it with certainty is called same. Both are shares of the base's latency. A slowdown of
    3 % is found nearly always, because the smallest that counts is less: with a threshold at the
    slowdown any unbiased estimate misses it half of the time.
    """

    rules: tuple[tuple[str, float], ...] = ()
    min_effect: float = 0.02
    tolerance: float = 0.025


@dataclass(frozen=True)
class Suite:
    """A validated suite, expanded.

    ``cases`` are in matrix order without duplicates; ``notes`` say which combinations were
    collapsed, excluded or merged; ``digest`` is the SHA-256 of the file's bytes; ``path`` is the
    file; ``reference`` is the id of the case that ratios are relative to, if one was named;
    ``labels`` are names of networks for figures, by model id; ``devices`` are labels of a fleet's
    boards, or EACH alone: every case is measured once for each; ``overrides`` are the settings that
    replaced the file's, in the form of ``--set``.
    """

    name: str
    cases: tuple[Case, ...]
    measure: Measure
    description: str = ""
    notes: tuple[str, ...] = ()
    digest: str = ""
    path: str = ""
    gate: Gate = Gate()
    devices: tuple[str, ...] = ()
    reference: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    overrides: tuple[str, ...] = ()
