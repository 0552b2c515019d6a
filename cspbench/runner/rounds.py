"""Schedule ``rounds``: every round launches every case once, in shuffled order.

Drift of the machine is so spread over all cases, and the variance between processes is seen. The
schedule only decides who is next; it launches nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from cspbench.store.records import FEW_LAUNCHES, MAX_BAD_ENDS, MAX_LOST


class Rounds:
    """Decides the next launch from what has been reported so far.

    Args:
        case_ids: cases to launch.
        rounds: good launches wanted of each case.
        seed: of the shuffled orders, recorded in the run.
        done: good launches that a case has already (a resumed run).
        out_of_time: whether the budget of the run is spent. From then on nothing is repeated
            because it was disturbed, and no round begins once every case has FEW_LAUNCHES.
    """

    def __init__(
        self,
        case_ids: Sequence[str],
        rounds: int,
        seed: int,
        done: Mapping[str, int] | None = None,
        out_of_time: Callable[[], bool] = lambda: False,
    ) -> None:
        self._case_ids = list(case_ids)
        self._rounds = rounds
        self._seed = seed
        self._good = Counter(done or {})
        self._bad: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._repeats: Counter[str] = Counter()
        self._max_repeats = max(1, rounds // 3)
        self._out_of_time = out_of_time

    @property
    def rounds(self) -> int:
        """Good launches wanted of each case: fewer than at first once time ran out."""
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
        """Tell how a launch ended.

        Args:
            case_id: whose launch.
            good: it measured.
            final: trying again is pointless.
            disturbed: it measured on a machine that was not itself; it is repeated, up to a third
                of the rounds, so that a noisy neighbour cannot hold a run for ever.
            lost: the machine that it was on went away; it is repeated, up to MAX_LOST times.
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
        """Launches still wanted of each case."""
        return Counter(
            {
                case_id: self._rounds - self._good[case_id]
                for case_id in self._case_ids
                if case_id not in self._given_up and self._good[case_id] < self._rounds
            }
        )

    def __iter__(self) -> Iterator[str]:
        """Yield case ids to launch; the caller reports each end before asking for the next."""
        number = 0
        while wanted := self.remaining():
            # A round serves the cases that lag behind; in an undisturbed run that is all of them.
            most = max(wanted.values())
            behind = [case_id for case_id in self._case_ids if wanted.get(case_id) == most]
            for case_id in shuffled(behind, self._seed, number):
                if case_id in self.remaining():
                    yield case_id
            number += 1


def shuffled(case_ids: Iterable[str], seed: int, number: int) -> list[str]:
    """Order of round ``number``: the same on every machine for the same seed."""
    order = sorted(case_ids)
    random.Random(f"{seed}/{number}").shuffle(order)  # noqa: S311 - not for secrets
    return order
