"""A suite as others see it: its cases, how to measure them, what a gate tolerates."""

from __future__ import annotations

from dataclasses import dataclass

from cspbench.core.case import Case

#: What a suite says in place of labels to measure on every board.
EACH = "each"


@dataclass(frozen=True)
class Measure:
    """How to measure: the ``measure:`` section of a suite.

    rounds: launches a case. warmup_seconds: bound of the warm-up ("auto" in a suite keeps it).
    target_ci: half width of the 95 % batch-means interval inside a launch, as a share of the
    median, at which sampling stops. max_seconds: bound of the sampling of a launch.
    budget_seconds: when it is spent, no round begins that is not needed for an interval; None:
    no bound. timeout_seconds: bound of each phase of a launch. memory: one more launch a case
    measures its peak memory. ceilings: the device's ceilings are measured once, for the roofline.
    layers: one more profiles its layers. throughput: one more overlaps inferences. sensors: which
    are read while it samples (``auto``, ``none``, or names with commas). seed: of the shuffled
    order, inputs and weights. extras: kinds of launches of other packages, by their settings.
    """

    rounds: int = 5
    warmup_seconds: float = 2.0
    target_ci: float = 0.02
    max_seconds: float = 6.0
    budget_seconds: float | None = None
    timeout_seconds: float = 300.0
    memory: bool = True
    ceilings: bool = False
    layers: bool = False
    throughput: bool = False
    sensors: str = "auto"
    seed: int = 0
    extras: tuple[str, ...] = ()

    def wants(self, setting: str) -> bool:
        """Whether a kind of launch is asked for, by the key of ``measure`` that asks for it."""
        return setting in self.extras or getattr(self, setting, False) is True


@dataclass(frozen=True)
class Gate:
    """What ``cspbench gate`` tolerates: the ``gate:`` section of a suite.

    rules: (metric, share) pairs; growth of the metric by more than the share is a regression.
    min_effect: smallest slowdown that is called slower. tolerance: a change of latency that surely
    lies within it is called same. Both are shares of the base's latency.
    """

    rules: tuple[tuple[str, float], ...] = ()
    min_effect: float = 0.03
    tolerance: float = 0.05


@dataclass(frozen=True)
class Suite:
    """A validated suite, expanded.

    ``cases`` are in matrix order without duplicates; ``notes`` say what was collapsed, excluded
    or merged; ``digest`` is the SHA-256 of the file's bytes; ``path`` is where it was read;
    ``devices`` are labels of a fleet's boards, or EACH alone: each case once on each of them;
    ``overrides`` are the settings that replaced the file's, as ``--set`` takes them.
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
    overrides: tuple[str, ...] = ()
