"""The registry of sections: what registers itself shows up in the page by itself."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from cspbench.errors import InputError
from cspbench.figures import style
from cspbench.figures.spec import FIGURES, FigureSpec
from cspbench.report.definitions import Definition
from cspbench.report.page import render
from cspbench.report.section import SECTIONS, ReportContext, SectionSpec
from cspbench.views.frames import Run


def slowest(context: ReportContext) -> Mapping[str, Any]:
    """The case with the longest latency."""
    return {"slowest": max(context.measured, key=lambda row: row.latency_ms or 0.0)}


SLOWEST = SectionSpec(
    "slowest",
    heading="The slowest case",
    title="Slowest",
    order=35,
    data=slowest,
    template="{% call table('Slowest') %}<tr><td>{{ slowest.model_id }} & {{ '<i>' }}"
    "{{ origin(definitions.wait_ms) }}</td></tr>{% endcall %}",
    count=lambda context: len(context.measured),
    definitions=(Definition("wait_ms", "ms", "measured", "How long one waits."),),
)


def draw_nothing(runs: Sequence[Run]) -> Any:
    figure = style.new_figure(2, 2)
    figure.subplots()
    return figure


FIGURE = FigureSpec("empty", "Empty", "Nothing.", ("measured",), "slowest", draw_nothing)


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> None:
    """The section and the figure, as a plug-in would register them, for one test."""
    len(list(SECTIONS)), len(list(FIGURES))  # discovered before something is added and taken away
    monkeypatch.setitem(SECTIONS._entries, SLOWEST.name, SLOWEST)
    monkeypatch.setitem(FIGURES._entries, FIGURE.name, FIGURE)


@pytest.mark.usefixtures("register")
def test_a_section_brings_heading_contents_figure_and_definition(demo: Run) -> None:
    page = render([demo])
    assert '<a href="#slowest">Slowest <span class="count">7</span></a>' in page
    [section] = re.findall(r'<section id="slowest".*?</section>', page, re.DOTALL)
    assert '<h2 id="h-slowest">The slowest case</h2>' in section
    assert "csppeleenet[gamma=0.25]@224 & &lt;i&gt;" in section, "texts are escaped"
    assert 'href="#def-wait_ms"' in section
    assert 'id="fig-empty"' in section
    assert 'id="def-wait_ms"' in page, "the method notes define its number"
    ids = re.findall(r'<section id="([^"]+)"', page)
    assert ids.index("slowest") == ids.index("cases") + 1, "its order is 35, that of cases 30"


@pytest.mark.usefixtures("register")
def test_a_section_that_does_not_apply_is_not_there(
    demo: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = dataclasses.replace(SLOWEST, applies=lambda context: False)
    monkeypatch.setitem(SECTIONS._entries, SLOWEST.name, absent)
    page = render([demo])
    assert 'id="slowest"' not in page
    assert "fig-empty" not in page


def test_a_figure_of_an_unknown_section_is_told(demo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = dataclasses.replace(FIGURE, section="acuracy")
    monkeypatch.setitem(FIGURES._entries, lost.name, lost)
    with pytest.raises(InputError, match=r"unknown section 'acuracy' \(did you mean 'accuracy'\?"):
        render([demo])
