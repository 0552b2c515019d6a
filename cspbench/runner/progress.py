"""Who is told how a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cspbench.runner.plan import Plan
    from cspbench.store.launch import Launch


class Progress(Protocol):
    """Who wants to see what happens; every method may ignore it."""

    def preparing(self, model: str, done: int, total: int) -> None:
        """A model is being built and exported."""

    def started(self, plan: Plan, launches: int) -> None:
        """The launches begin."""

    def launching(self, case_id: str) -> None:
        """A launch begins."""

    def taking_turns(self, case_ids: Sequence[str]) -> None:
        """A block of cases begins."""

    def on_board(self, board: str, state: str, what: str) -> None:
        """A board of a fleet measures or waits (the state) now, and what or for what."""

    def launched(self, launch: Launch, left: int) -> None:
        """A launch ended and is on disk; so many are left."""


class Silent:
    """No progress shown."""

    def preparing(self, model: str, done: int, total: int) -> None: ...

    def started(self, plan: Plan, launches: int) -> None: ...

    def launching(self, case_id: str) -> None: ...

    def taking_turns(self, case_ids: Sequence[str]) -> None: ...

    def on_board(self, board: str, state: str, what: str) -> None: ...

    def launched(self, launch: Launch, left: int) -> None: ...
