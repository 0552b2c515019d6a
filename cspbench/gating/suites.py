"""Whose suite decides, and what the head's suite would have decided otherwise.

A pull request could widen the tolerances of its own judgement, or leave out the case that it makes
slower. So the base's suite is used on both sides unless the user says that the head's is to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from cspbench.core.case import Case
from cspbench.suite.suite import Gate, Suite

#: The side whose suite decides.
Rules = Literal["base", "head"]
#: A sentence names this many cases, and counts the others.
_NAMED = 8


def changed_settings(base: Suite, head: Suite) -> list[str]:
    """A sentence for each rule of the gate and setting of measuring that the head's suite changes.

    Args:
        base: the suite of the base.
        head: the head's own suite.
    """
    old, new = ({**_rules(suite.gate), **_measure(suite)} for suite in (base, head))
    return [
        f"the head's suite changes {name} from {old.get(name, 'no rule')} to "
        f"{new.get(name, 'no rule')}"
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def changed_cases(judged: Suite, head: Suite) -> list[str]:
    """Sentences on the cases that only one suite has.

    Args:
        judged: the base's suite, read in the head's files.
        head: the head's own suite, read in the same files.
    """
    old, new = ([case.id for case in suite.cases] for suite in (judged, head))
    dropped, added = [one for one in old if one not in new], new_cases(judged, head)
    sentences = []
    if dropped:
        sentences.append(
            f"the head's suite lacks {_names(dropped)}, which the base's suite has: judged all the "
            "same"
        )
    if added:
        names = _names([case.id for case in added])
        sentences.append(f"the head's suite adds {names}, for which there is no base: not judged")
    return sentences


def new_cases(judged: Suite, head: Suite) -> list[Case]:
    """Cases that only the head's suite has."""
    old = {case.id for case in judged.cases}
    return [case for case in head.cases if case.id not in old]


def _rules(gate: Gate) -> dict[str, Any]:
    shares = {
        **dict(gate.rules), "latency.min_effect": gate.min_effect,
        "latency.tolerance": gate.tolerance,
    }  # fmt: skip
    return {f"gate.{name}": f"{share * 100:g} %" for name, share in shares.items()}


def _measure(suite: Suite) -> dict[str, Any]:
    return {f"measure.{name}": value for name, value in asdict(suite.measure).items()}


def _names(ids: Sequence[str]) -> str:
    more = f" and {len(ids) - _NAMED} more" if len(ids) > _NAMED else ""
    count = f"{len(ids)} cases" if len(ids) > 1 else "a case"
    return f"{count} ({', '.join(ids[:_NAMED])}{more})"
