"""Figures: same data, same bytes; legible on both grounds; fit for a strict page."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cspbench.figures import style, svg
from cspbench.figures.spec import FIGURES, NoDataError
from cspbench.views.frames import Run
from tests.report.runs import write_run

WHITE, DARK = "#ffffff", "#0f141a"  # the report's grounds (report.css)


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2.1."""
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    dark, light = sorted((luminance(one), luminance(two)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", [WHITE, DARK])
@pytest.mark.parametrize("color", [*style.PALETTE, style.MUTED])
def test_every_colour_has_contrast_three_on_both_grounds(color: str, ground: str) -> None:
    assert contrast(color, ground) >= 3


def test_series_differ_in_shape_where_colours_repeat() -> None:
    looks = {(style.color(i), style.marker(i)) for i in range(len(style.PALETTE))}
    assert len({look[1] for look in looks}) == len(style.PALETTE) == len(style.HATCHES)


def draw_all(demo: Run, together: Run) -> dict[str, bytes]:
    """Every figure; those of an explanation are of a run whose cases were profiled together."""
    drawn = {}
    for spec in FIGURES:
        run = together if spec.section == "explain" else demo
        drawn[spec.name] = style.svg_bytes(spec.draw([run]), spec.name)
    return drawn


@pytest.fixture(scope="module")
def drawn(demo: Run, together: Run) -> dict[str, bytes]:
    return draw_all(demo, together)


def test_same_data_same_bytes(
    demo: Run, together: Run, drawn: dict[str, bytes], tmp_path: Path
) -> None:
    assert draw_all(demo, together) == drawn
    spec = FIGURES.get("fps_bars")
    first = [path.read_bytes() for path in style.save(spec.draw([demo]), "f", tmp_path / "1")]
    second = [path.read_bytes() for path in style.save(spec.draw([demo]), "f", tmp_path / "2")]
    assert first == second


def test_every_figure_says_what_is_missing(tmp_path: Path) -> None:
    empty = write_run(tmp_path, {"peleenet@224/jetson/b1/t1": ("unavailable", "no board")})
    for spec in FIGURES:
        with pytest.raises(NoDataError, match=r"^no|^none"):
            spec.draw([empty])


def test_matplotlibrc_of_the_user_changes_nothing(demo: Run, drawn: dict[str, bytes]) -> None:
    import matplotlib

    spec = FIGURES.get("fps_bars")
    with matplotlib.rc_context({"axes.facecolor": "red", "svg.fonttype": "path"}):
        assert style.svg_bytes(spec.draw([demo]), spec.name) == drawn["fps_bars"]


def test_inline_svg_has_no_styles_and_no_clashing_ids(drawn: dict[str, bytes]) -> None:
    texts = [svg.inline(data, name, "Title", "What it shows") for name, data in drawn.items()]
    ids: list[str] = []
    for text in texts:
        root = ET.fromstring(text)
        assert root.get("role") == "img"
        assert root.get("aria-label") == "Title. What it shows"
        for element in root.iter():
            assert "style" not in element.attrib
            assert not element.tag.endswith(("}style", "}metadata", "}script"))
            ids += [element.attrib["id"]] if "id" in element.attrib else []
        references = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
        assert set(references) <= set(ids)
        assert style.INK not in text, "ink is currentColor, so that dark pages can turn it"
    assert len(ids) == len(set(ids))


def test_no_label_is_a_formula(drawn: dict[str, bytes]) -> None:
    """Text is never parsed as mathematics, so matplotlib's own formulas would show as they are."""
    assert not [name for name, data in drawn.items() if b"mathdefault" in data]


def test_measured_cases_can_be_found_in_the_drawing(drawn: dict[str, bytes]) -> None:
    text = svg.inline(drawn["fps_bars"], "fps_bars", "t")
    assert 'data-case="csppeleenet[gamma=0.25]@224/torch-cpu/b1/t1"' in text


def test_each_point_of_a_line_of_marks_is_a_case(drawn: dict[str, bytes]) -> None:
    root = ET.fromstring(svg.inline(drawn["gamma_fusion"], "gamma_fusion", "t"))
    marks = [element for element in root.iter() if "data-case" in element.attrib]
    assert {element.tag for element in marks} == {f"{{{svg.SVG}}}use"}
    right = {str(mark.get("data-case")): float(str(mark.get("x"))) for mark in marks}
    for backend in ("opencv-cpu", "torch-cpu"):  # fewer BFLOPs are further to the left
        plain, split = (
            right[f"{model}@224/{backend}/b1/t1"] for model in ("peleenet", "csppeleenet")
        )
        assert split < plain


@pytest.mark.parametrize(("third", "marks"), [(0.9, 3), (math.nan, 0)])
def test_a_point_that_is_not_drawn_takes_no_other_ones_name(third: float, marks: int) -> None:
    @style.styled
    def draw() -> object:
        figure = style.new_figure(2, 1)
        axes = figure.subplots()
        axes.set_xlim(0, 1)
        (line,) = axes.plot([0.2, 0.5, third], [1, 1, 1], "o")
        svg.mark_points(line, [("a", "r"), ("b", "r"), ("c", "r")])
        return figure

    text = svg.inline(style.svg_bytes(draw(), "x"), "x", "t")  # type: ignore[arg-type]
    assert text.count("data-case") == marks


def test_a_mark_says_of_which_run_it_is_in_characters_that_xml_has() -> None:
    @style.styled
    def draw() -> object:
        figure = style.new_figure(2, 1)
        axes = figure.subplots()
        (line,) = axes.plot([1, 2], [1, 1], "o")
        svg.mark_points(line, [("a\x01", "r\x1b"), ("b", "")])
        (bar,) = axes.barh(0, 1)
        svg.mark_case(bar, '"c\ud800"', "<r>")
        return figure

    root = ET.fromstring(svg.inline(style.svg_bytes(draw(), "x"), "x", "t"))  # type: ignore[arg-type]
    marks = [element for element in root.iter() if "data-case" in element.attrib]
    assert {(mark.get("data-case"), mark.get("data-run")) for mark in marks} == {
        (r"a\u0001", r"r\u001b"), ("b", None), (r'"c\ud800"', "<r>"),
    }  # fmt: skip


def test_standalone_svg_turns_its_ink_in_the_dark(drawn: dict[str, bytes]) -> None:
    text = svg.standalone(drawn["fps_bars"], "fps_bars", "t")
    assert "prefers-color-scheme:dark" in text
    assert ET.fromstring(text).get("width")


@settings(max_examples=25)
@given(st.text(max_size=30))
def test_any_text_survives_as_text(text: str) -> None:
    """Dollars, angle brackets and control characters in a label are only text."""
    from cspbench.figures.cases import plain

    @style.styled
    def draw() -> object:
        figure = style.new_figure(2, 1)
        figure.subplots().set_xlabel(plain(text))
        return figure

    root = ET.fromstring(svg.inline(style.svg_bytes(draw(), "x"), "x", "t"))  # type: ignore[arg-type]
    shown = [element.text or "" for element in root.iter(f"{{{svg.SVG}}}text")]
    words = "".join(plain(text).split())
    assert any("".join(label.split()) == words for label in [*shown, ""])


def test_palette_differs_for_colour_blind_eyes() -> None:
    """First four colours stay apart in simulated deuteranopia (Machado et al. 2009, severity 1)."""
    matrix = (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    )

    def seen(color: str) -> tuple[float, ...]:
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        return tuple(sum(m * c for m, c in zip(row, rgb, strict=True)) for row in matrix)

    for one, two in itertools.combinations(style.PALETTE[:4], 2):
        distance = sum((a - b) ** 2 for a, b in zip(seen(one), seen(two), strict=True)) ** 0.5
        assert distance > 40, (one, two)
