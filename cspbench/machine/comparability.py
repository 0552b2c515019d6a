"""Decides when two machines count as the same, by one table of facts and uses.

A fact is one of ``machine/facts.py``; a library is ``libraries.NAME``. A fact that one side did not
record is None there, and None equals None. docs/reliability.md shows the same table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from cspbench.core.text import printable


class Use(Enum):
    """Purpose of a comparison of facts; each value explains what refusing and warning mean."""

    RESUME = "a run goes on; what differs is refused without --force"
    GATE = "a verdict between stored runs; refused, or a note in the report"
    COMPARE = "two stored runs side by side; warned of"
    HISTORY = "cases over stored runs; another machine is left out, the rest is named in its row"
    FLEET = "a case of a lost board goes on on another of its label; else it does not move"
    CEILINGS = "measured ceilings are used again; else they are measured anew"
    REPORT = "runs and boards in one report; warned of"


class Severity(IntEnum):
    """Consequence of a difference."""

    IGNORE = 0
    WARN = 1
    REFUSE = 2


@dataclass(frozen=True)
class Rule:
    """Consequence of a difference in one fact, for each use, and the reason."""

    fact: str
    severities: tuple[Severity, ...]
    why: str

    def severity(self, use: Use) -> Severity:
        """Consequence of a difference in this fact for one use."""
        return self.severities[list(Use).index(use)]


_, W, R = Severity
#: Resuming and moving pool launches into one number, so every fact that can change a number
#: refuses. A moved case needs a machine of the same kind, every other use needs the same machine.
#: Ceilings are the best of many tries of torch, so facts that only add disturbance do not count. A
#: history follows one machine and shows its upgrades. The other uses show both numbers as measured.
#: Columns are the uses in their order: resume, gate, compare, history, fleet, ceilings, report.
TABLE = (
    Rule("host", (R, R, W, R, _, R, W), "two machines of one kind are two machines"),
    Rule("cpu", (R, R, W, R, R, R, W), "another processor"),
    Rule("cpu_flags", (R, R, W, W, R, R, W), "libraries choose kernels by them"),
    Rule("machine", (R, R, W, W, R, R, W), "another instruction set"),
    Rule("cores_logical", (R, R, W, W, R, _, W), "SMT is on or off"),
    Rule("cores_usable", (R, R, W, W, R, R, W), "threads share the cores"),
    Rule("cpu_quota", (R, R, W, W, R, R, W), "threads stop for the rest of a period"),
    Rule("governor", (R, R, W, W, R, R, W), "it sets the clock"),
    Rule("memory_bytes", (R, R, W, W, R, _, W), "other modules or channels; within 5 % is equal"),
    Rule("virtualised", (R, R, W, W, R, R, W), "a hypervisor takes its share"),
    Rule("board", (R, R, W, W, R, R, W), "another board"),
    Rule("gpu", (R, R, W, W, R, R, W), "another kind of card"),
    Rule("gpu_uuid", (R, R, W, W, _, R, W), "two cards of one kind are two cards"),
    Rule("nvidia_driver", (R, R, W, W, R, R, W), "it compiles and schedules kernels"),
    Rule("gpu_power_limit_w", (R, R, W, W, R, R, W), "it bounds the clocks under load"),
    Rule("gpu_clock_mhz", (R, R, W, W, R, R, W), "the applications clock that was set"),
    Rule("gpu_ecc", (R, R, W, W, R, R, W), "it takes a part of the bandwidth"),
    Rule("gpu_mig", (R, R, W, W, R, R, W), "a slice of a card is another device"),
    Rule("gpu_persistence", (_, W, W, W, _, _, W), "without it each process wakes the card"),
    Rule("gpu_settings", (R, R, W, W, R, _, W), "variables of CUDA and torch's allocator"),
    Rule("l4t", (R, R, W, W, R, R, W), "a Jetson board's driver and system"),
    Rule("nvpmodel", (R, R, W, W, R, R, W), "a power mode bounds every clock"),
    Rule("jetson_clocks", (R, R, W, W, R, R, W), "clocks are fixed, or follow the load"),
    Rule("kernel", (R, R, W, W, R, _, W), "scheduler, page faults, mitigations"),
    Rule("os", (_, W, W, W, _, _, W), "only a name; its parts have rows of their own"),
    Rule("python", (R, R, W, W, R, R, W), "every operator of torch is called from it"),
    Rule("libraries.torch", (R, R, W, W, R, R, W), "it measures ceilings too"),
    Rule("libraries.pandas", (_, _, _, _, _, _, _), "it prints tables and runs in no worker"),
    Rule("libraries", (R, R, W, W, R, _, W), "all others: those of backends and plug-ins"),
    Rule("library_digests", (_, _, _, _, _, _, _), "versions decide; compare names another build"),
    Rule("git_commit", (_, _, _, _, _, _, _), "the code is compared; keys of cases protect it"),
)  # fmt: skip
_RULES = {rule.fact: rule for rule in TABLE}
_RULED = {rule.fact.partition(".")[0] for rule in TABLE}
#: Firmware and kernel reserve a varying part of the memory, less than one memory module.
MEMORY_TOLERANCE = 0.05
#: So many values of a list are named.
MOST_LISTED = 6


@dataclass(frozen=True)
class Difference:
    """A fact that differs between two machines; its text is a phrase for messages."""

    fact: str
    old: object
    new: object
    severity: Severity

    def __str__(self) -> str:
        if isinstance(self.old, list) and isinstance(self.new, list):
            lost = _listed([one for one in self.old if one not in self.new])
            more = _listed([one for one in self.new if one not in self.old])
            changes = [f"lost {lost}"] * bool(lost) + [f"gained {more}"] * bool(more)
            return f"{self.fact} {' and '.join(changes) or 'has another order'}"
        old, new = ("none" if one is None else repr(one) for one in (self.old, self.new))
        return f"{self.fact} was {old} and is {new}"


def _listed(values: Sequence[object]) -> str:
    """The first few of some values, and how many more there are."""
    more = f" and {len(values) - MOST_LISTED} more" if len(values) > MOST_LISTED else ""
    return ", ".join(printable(str(one)) for one in values[:MOST_LISTED]) + more


def severity(fact: str, use: Use) -> Severity:
    """Consequence of a difference in a fact; facts without a rule are ignored."""
    rule = _RULES.get(fact) or _RULES.get(fact.partition(".")[0])
    return rule.severity(use) if rule else Severity.IGNORE


def differences(old: Mapping[str, Any], new: Mapping[str, Any], use: Use) -> list[Difference]:
    """Differences between two machines that count for a use.

    Args:
        old: facts of the first machine, as :func:`cspbench.machine.facts.fingerprint` returns them.
        new: facts of the second machine.
        use: purpose of the comparison.
    """
    before, after = _ruled(old), _ruled(new)
    return [
        Difference(fact, before.get(fact), after.get(fact), weight)
        for fact in dict.fromkeys([*before, *after])
        if (weight := severity(fact, use)) and not _equal(fact, before.get(fact), after.get(fact))
    ]


def refusals(old: Mapping[str, Any], new: Mapping[str, Any], use: Use) -> list[Difference]:
    """The differences that refuse the use."""
    return [one for one in differences(old, new, use) if one.severity is Severity.REFUSE]


def identity(facts: Mapping[str, Any], use: Use) -> dict[str, Any]:
    """The known facts that must be equal for a use, sorted; they key stored results of it."""
    return {
        fact: value
        for fact, value in sorted(_ruled(facts).items())
        if value is not None and severity(fact, use) is Severity.REFUSE
    }


def _ruled(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with a rule, flat; other facts of an untrusted run may be nested without bound."""
    return flatten({name: value for name, value in facts.items() if name in _RULED})


def flatten(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested facts as one level of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _equal(fact: str, old: object, new: object) -> bool:
    if fact == "memory_bytes" and isinstance(old, int) and isinstance(new, int):
        return math.isclose(old, new, rel_tol=MEMORY_TOLERANCE)
    return old == new
