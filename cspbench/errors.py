"""Errors that cspbench raises on purpose.

Everything else that escapes is a bug of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class CspbenchError(Exception):
    """Base of every deliberate error."""


class InputError(CspbenchError):
    """The user's input is wrong: nothing runs, the exit code is 2.

    Each problem is one sentence: where (file, line, column), what was read, what is valid.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        super().__init__("\n".join(self.problems))


class BusyError(CspbenchError):
    """Another run measured on this machine for longer than we wait: nothing ran, exit code 3."""


class StoreError(CspbenchError):
    """A run cannot be written any further (disk full, directory gone); what it holds is kept."""


class Unavailable(CspbenchError):
    """This machine lacks what the case needs (status ``unavailable``)."""


class Unsupported(CspbenchError):
    """The backend cannot run this model (status ``unsupported``)."""


@contextmanager
def noting(note: str) -> Iterator[None]:
    """Add a note (PEP 678) to an error that leaves the block, such as where measured data lies."""
    try:
        yield
    except Exception as error:
        # Python 3.10 has no add_note.
        error.__notes__ = [*getattr(error, "__notes__", ()), note]
        raise
