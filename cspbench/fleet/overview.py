"""The boards of a fleet at a glance: one row each, with what it does and how it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cspbench.core.text import printable
from cspbench.fleet.devices import BoardInfo
from cspbench.fleet.protocol import Json
from cspbench.fleet.workers import SILENT_SECONDS, Glance
from cspbench.machine.comparability import Use, differences

#: A fact is shown up to this length: the flags of a processor fill a page.
_FACT = 60
#: Settings that are shown beside the power mode of a Jetson board.
_MODES = ("nvpmodel", "governor")


def overview(glances: Sequence[Glance]) -> list[Json]:
    """One row for each board, by name; seconds and °C are numbers."""
    differing = unlike_their_label([one.board for one in glances])
    return [_row(one, differing.get(one.board.name, [])) for one in glances]


def _row(glance: Glance, differing: list[str]) -> Json:
    board, now = glance.board, glance.now
    if glance.silent_seconds > SILENT_SECONDS:
        state, what, seconds = "silent", "", glance.silent_seconds
    elif now is None:
        state, what, seconds = "unknown", "its agent does not say", 0.0
    else:
        state, what, seconds = now.state, now.what, now.seconds
    return {
        "board": board.name,
        "labels": list(board.labels),
        "state": state,
        "what": what,
        "seconds": round(seconds),
        "temperature_c": None if now is None else now.temperature_c,
        "power_mode": _power_mode(board, {} if now is None else now.settings),
        "backends": [name for name, missing in board.backends.items() if missing is None],
        "cspbench": board.cspbench,
        "versions": _versions(board.environment),
        "differs": differing,
    }


def _power_mode(board: BoardInfo, settings: Mapping[str, Any]) -> str | None:
    """What the last launch read, else what the agent read when it joined."""
    facts = {**board.environment, **{k: v for k, v in settings.items() if v is not None}}
    modes = [str(facts[name]) for name in _MODES if facts.get(name)]
    if facts.get("jetson_clocks"):
        modes.append("jetson_clocks")
    return printable(", ".join(modes)) or None


def _versions(environment: Mapping[str, Any]) -> list[str]:
    libraries = environment.get("libraries")
    known = libraries.items() if isinstance(libraries, Mapping) else ()
    versions = [("python", environment.get("python")), *known]
    return [printable(f"{name} {version}") for name, version in versions if version]


def unlike_their_label(boards: Sequence[BoardInfo]) -> dict[str, list[str]]:
    """What keeps boards from taking the cases of another board of their label, by board.

    Most boards of a label are alike; the first of these is what the others are compared with.
    """
    found: dict[str, list[str]] = {}
    for label in dict.fromkeys(label for board in boards for label in board.labels):
        members = [board for board in boards if label in board.labels]
        usual = max(members, key=lambda one: sum(map(one.alike, members)))
        for board in members:
            for change in differences(usual.environment, board.environment, Use.FLEET):
                text = f"{change.fact} is {_fact(change.new)}, {_fact(change.old)} on {usual.name}"
                found.setdefault(board.name, []).append(text)
    return {name: list(dict.fromkeys(texts)) for name, texts in found.items()}


def _fact(value: object) -> str:
    text = printable(str(value))
    return text if len(text) <= _FACT else f"{text[:_FACT]}..."
