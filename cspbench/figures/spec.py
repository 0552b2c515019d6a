"""What a figure is: a name, what it shows, and how it is drawn from runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from cspbench.core.registry import Registry
from cspbench.errors import CspbenchError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cspbench.views.frames import Run

#: Where a number comes from; the four are never mixed without saying so.
Origin = Literal["measured", "published", "computed", "predicted"]


class NoDataError(CspbenchError):
    """The runs hold nothing that this figure could show; the message says what is missing."""


@dataclass(frozen=True)
class FigureSpec:
    """A figure by name.

    ``shows`` says in one sentence how to read it, ``origins`` where its numbers come from.
    ``draw`` raises NoDataError if the runs do not hold what it needs. ``section`` names
    the section of the report at whose end it stands, ``order`` sorts the figures of a section.
    """

    name: str
    title: str
    shows: str
    origins: tuple[Origin, ...]
    section: str
    draw: Callable[[Sequence[Run]], Figure] = field(compare=False)
    order: int = 0


FIGURES: Registry[FigureSpec] = Registry("figure", ("cspbench.figures",), "cspbench.figures")
