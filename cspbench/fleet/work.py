"""What a board is asked to do: one job, or cases that take turns; and how long it may take."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from cspbench.core.case import Case
from cspbench.fleet.protocol import Json
from cspbench.fleet.state import COOL_SECONDS
from cspbench.jobs.spec import Request
from cspbench.jobs.time import TimeRequest
from cspbench.runner.block_request import CHECK, BlockRequest
from cspbench.runner.process import phase_seconds

#: Phases of a job, each of which has the suite's time-out.
PHASES = 6
#: Time of a launch outside its phases: process start, idle power, transfer of the answer.
SLACK_SECONDS = 60.0


@dataclass(frozen=True)
class Work:
    """A request of a kind. ``content`` is what its message holds beside the jobs.

    ``arms`` are the numbers that the outcomes of the answer may have. ``name`` is that of a block.
    """

    kind: str
    jobs: Sequence[Request]
    content: Json
    arms: Collection[int]
    name: str | None = None

    def seconds(self, timeout_seconds: float) -> float:
        """Upper bound on a working board, from when it has begun."""
        jobs = [job_seconds(job.to_json(), timeout_seconds) for job in self.jobs]
        again = max(jobs) if CHECK in self.arms else 0.0  # the reference's second arm
        return COOL_SECONDS + sum(jobs) + again

    def launch(self, request_id: str, arm: int) -> str:
        """The id of a launch: that of the request, with the arm if there are several."""
        if self.name is None:
            return request_id
        return f"{request_id}.{'check' if arm == CHECK else arm}"


def job_seconds(job: Json, timeout_seconds: float) -> float:
    """Upper bound of one job on a working board."""
    measuring = phase_seconds(job, "warm-up") + phase_seconds(job, "sample")
    return PHASES * timeout_seconds + measuring + SLACK_SECONDS


def single(request: Request, threads: int) -> Work:
    """One job in a process of its own."""
    return Work("launch", [request], {"threads": threads}, {0})


def in_turns(request: BlockRequest) -> Work:
    """Cases that take turns."""
    arms = set(range(len(request.arms))) | ({CHECK} if request.reference is not None else set())
    content = {name: getattr(request, name) for name in ("name", "reference", "seed", "skip")}
    return Work("block", request.arms, content, arms, request.name)


@dataclass(frozen=True)
class Part:
    """Some arms of a block as a block of their own; ``numbers`` are theirs in the whole block."""

    request: BlockRequest
    numbers: Sequence[int]

    def number(self, arm: int) -> int:
        """The number in the whole block of an arm of this part."""
        return CHECK if arm == CHECK else self.numbers[arm]


class Remaining:
    """The arms of a block that have no outcome yet, and which of them are asked for next.

    A board measures the arms that fit into its memory and leaves the others out. They are asked for
    again beside the reference. Once nothing fits beside it, each of them is asked for alone.
    """

    def __init__(self, request: BlockRequest) -> None:
        self._request = request
        self._reference = request.reference
        self._numbers = list(range(len(request.arms)))
        self._together = True
        self._parts = 0

    @property
    def next(self) -> TimeRequest | None:
        """The first of them; None if all have their outcome."""
        return self._request.arms[self._numbers[0]] if self._numbers else None

    def drop(self, number: int | None = None) -> int:
        """Take out an arm that is not measured, by default the first, and return its number."""
        number = self._numbers[0] if number is None else number
        self._numbers.remove(number)
        if number == self._reference:
            self._reference = None
        return number

    def part(self, takes: Callable[[Case], bool]) -> Part:
        """What to ask a board for that takes some of the cases, the first one among them."""
        arms, reference = self._request.arms, self._reference
        numbers = [number for number in self._numbers if takes(arms[number].case)]
        if not self._together:
            del numbers[1:]
        place = None
        if self._together and reference is not None and takes(arms[reference].case):
            numbers = list(dict.fromkeys([*numbers, reference]))
            place = numbers.index(reference) if len(numbers) > 1 else None
        request = replace(
            self._request,
            name=f"{self._request.name}.{self._parts}",
            arms=tuple(arms[number] for number in numbers),
            reference=place,
        )
        self._parts += 1
        return Part(request, numbers)

    def ended(self, part: Part, arms: Collection[int]) -> None:
        """Note which arms of a part have an outcome now."""
        numbers = {part.number(arm) for arm in arms}
        if part.request.reference is not None and len(numbers) < 2:
            self._together = False
        if numbers.isdisjoint(self._numbers):
            self._together = False
        self._numbers = [number for number in self._numbers if number not in numbers]
