"""A real Dask worker that is no honest board: ``rogue.py ADDRESS NAME``.

It measures nothing, and answers each case in its own way: the case's option ``ms`` is an index of
`WAYS`. With a name that is no label it announces itself all the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from cspbench.core.case import Case
from cspbench.core.statuses import Status
from cspbench.fleet.agent import stay
from cspbench.fleet.board import Board, Settings
from cspbench.fleet.protocol import PROTOCOL
from cspbench.runner.block_request import BlockRequest
from cspbench.runner.process import Outcome
from tests.launches import TIMED

Json = dict[str, Any]
#: What would clear a terminal, name its window, and turn text around.
ESCAPES = "\x1b[2J\x1b]0;owned\x07\u202e\ud800"
#: A million frames a second.
FAST = {**TIMED, "latencies_ns": [1000] * 50}


def put(path: str, value: object) -> Callable[[Json], str]:
    """A way that puts a value in a place of an honest answer."""

    def way(answer: Json) -> str:
        *above, last = path.split(".")
        part: Any = answer
        for name in above:
            part = part[int(name) if isinstance(part, list) else name]
        part[last] = value
        return json.dumps(answer)

    return way


def anything(value: object) -> Callable[[Json], object]:
    """A way that answers with something else."""
    return lambda _: value


def crashes(answer: Json) -> str:
    answer["outcomes"][0] |= {"status": "crashed", "reason": ESCAPES, "log": ESCAPES}
    return json.dumps(answer)


def fails(_: Json) -> str:
    raise SystemError("\x1b[2Jthe rogue fails")


WAYS: tuple[Callable[[Json], Any], ...] = (
    anything(""),  # no case has 0 ms
    json.dumps,  # 1: an honest form
    put("outcomes.0.answer.latencies_ns", [float("nan")] * 50),
    put("outcomes.0.seconds", -5.0),
    put("outcomes.0.seconds", float("nan")),
    put("outcomes.0.status", "victorious"),
    put("outcomes.0.status", "lost"),
    put("launch", "another-launch"),
    put("outcomes.0.notes.board_state.cooled_seconds", float("inf")),
    put("outcomes.0.notes", {"sensors": {"x": {"window_s": 10**400}}}),
    put("outcomes.0.notes", {"energy": {"power_w": -1}}),
    put("outcomes.0.reason", 7),
    anything({"status": "done"}),
    anything("x" * (65 * 2**20)),
    anything(f'{{"protocol": {PROTOCOL}, "kind": "answer", "status": "missing", "missing": 5}}'),
    anything("[" * 10_000),
    crashes,
    fails,
)
#: Claims of the honest way that the controller does not believe.
CLAIMS = {"case": "peleenet@224/opencv-cpu/b1/t1/good", "number": 77, "board": "good",
          "launch": "another", "status": "ok", "job": "memory"}  # fmt: skip


class Inventor:
    """An executor that finds a million frames a second, for a case of another board."""

    def block(self, request: BlockRequest, timeout_seconds: float) -> Iterator[tuple[int, Outcome]]:
        notes = {**CLAIMS, "memory_bound": "cgroup"}
        for arm in range(len(request.arms)):
            yield arm, Outcome(Status.OK, answer={**FAST, **CLAIMS}, seconds=0.01, notes=notes)


class Rogue(Board):
    """A board that answers blocks of one case in the ways above."""

    def serve(self, text: str, *arguments: Any, **options: Any) -> Any:
        answer = json.loads(super().serve(text, *arguments, **options))
        if answer["status"] != "done":
            return json.dumps(answer)
        case = Case.parse(json.loads(text)["jobs"][0]["case"])
        return WAYS[int(dict(case.backend.options).get("ms", 1))](answer)


def main(address: str, name: str) -> None:
    settings = Settings("evil", cool_seconds=0)
    asyncio.run(stay(address, Rogue(replace(settings, name=name), Inventor())))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
