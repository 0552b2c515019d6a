"""Which cases are in the next block: all that lag behind, in shuffled order, a few at a time.

Every round launches every case once. This spreads drift of the machine over all cases, and shows
the variance between processes. The schedule only decides which cases are next; it launches nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from cspbench.store.records import FEW_LAUNCHES, MAX_BAD_ENDS, MAX_LOST

#: A case's id, or the number of an arm.
_Item = TypeVar("_Item", str, int)

#: A case whose ratio scatters has at most so many times the launches that the suite asks for.
MOST_TIMES = 3


class Blocks:
    """Decides the next block by the ends of the launches before it.

    Args:
        case_ids: cases to launch.
        rounds: good launches that each case needs.
        seed: seed of the shuffled orders, which the run records.
        done: good launches that each case has already (in a resumed run).
        together: most cases of a block.
        scattering: which of the cases that may have more launches need them for their ratios, once
            all have their rounds.
        out_of_time: whether the budget of the run is spent. From then on no disturbed launch is
            repeated, no ratio gets more launches, and no round begins once every case has
            FEW_LAUNCHES.
    """

    def __init__(
        self,
        case_ids: Sequence[str],
        rounds: int,
        seed: int,
        done: Mapping[str, int] | None = None,
        *,
        together: int | None = None,
        scattering: Callable[[Sequence[str]], Iterable[str]] = lambda _: (),
        out_of_time: Callable[[], bool] = lambda: False,
    ) -> None:
        self._case_ids = list(case_ids)
        self._rounds = rounds
        self._most = MOST_TIMES * rounds
        self._seed = seed
        self._good = Counter(done or {})
        self._bad: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._repeats: Counter[str] = Counter()
        self._max_repeats = max(1, rounds // 3)
        self._together = together
        self._scattering = scattering
        self._out_of_time = out_of_time

    @property
    def rounds(self) -> int:
        """Good launches that each case needs: fewer than at first once the budget is spent."""
        return self._rounds

    def report(
        self,
        case_id: str,
        *,
        good: bool,
        final: bool = False,
        disturbed: bool = False,
        lost: bool = False,
    ) -> None:
        """Report how a launch ended.

        Args:
            case_id: the case that was launched.
            good: the launch measured its case.
            final: another launch would end the same way.
            disturbed: the machine was disturbed during the launch. It is repeated, up to a third
                of the rounds, so that a noisy neighbour cannot prolong a run for ever.
            lost: the machine of the launch went away. It is repeated, up to MAX_LOST times.
        """
        if self._out_of_time():
            self._max_repeats = 0
            most = max(self._good[case_id] for case_id in self._case_ids)
            self._rounds = min(self._rounds, max(FEW_LAUNCHES, most))
        if good and disturbed and self._repeats[case_id] < self._max_repeats:
            self._repeats[case_id] += 1
        elif good:
            self._good[case_id] += 1
        elif lost:
            self._lost[case_id] += 1
            if final or self._lost[case_id] >= MAX_LOST:
                self._given_up.add(case_id)
        else:
            self._bad[case_id] += 1
            if final or self._bad[case_id] >= MAX_BAD_ENDS:
                self._given_up.add(case_id)

    def remaining(self) -> Counter[str]:
        """Launches that each case still needs."""
        return Counter(
            {
                case_id: self._rounds - self._good[case_id]
                for case_id in self._case_ids
                if case_id not in self._given_up and self._good[case_id] < self._rounds
            }
        )

    def __iter__(self) -> Iterator[list[str]]:
        """Yield the cases of each block. The caller reports all ends before it asks for more."""
        number = 0
        while cases := self._next():
            owing = bool(self.remaining())
            order = shuffled(cases, self._seed, number)
            size = self._together or len(order)
            for start in range(0, len(order), size):
                block = order[start : start + size]
                if owing:
                    block = [case_id for case_id in block if case_id in self.remaining()]
                if block:
                    yield block
            number += 1

    def _next(self) -> list[str]:
        """The cases that lag behind (in an undisturbed run all), then those that scatter."""
        remaining = self.remaining()
        if remaining:
            most = max(remaining.values())
            return [case_id for case_id in self._case_ids if remaining.get(case_id) == most]
        if self._out_of_time():
            return []
        able = [
            case_id
            for case_id in self._case_ids
            if case_id not in self._given_up and self._good[case_id] < self._most
        ]
        return list(self._scattering(able))

    def has_given_up(self, case_id: str) -> bool:
        """Whether a case failed for good: it is launched no more."""
        return case_id in self._given_up


def shuffled(items: Iterable[_Item], seed: int | str, number: int | str) -> list[_Item]:
    """Order number ``number`` of a seed, which is the same on every machine."""
    order = sorted(items)
    random.Random(f"{seed}/{number}").shuffle(order)  # noqa: S311 - not for secrets
    return order
