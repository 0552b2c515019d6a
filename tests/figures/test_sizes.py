"""Figures for slides, papers and posters: the size they have, and text that can be read there."""

from __future__ import annotations

import struct
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from cspbench.cli.main import main
from cspbench.figures import style
from cspbench.figures.sizes import SIZES, canvas, columns, drawn_for
from cspbench.figures.spec import FIGURES
from cspbench.views.frames import Run


def pixels(png: Path) -> tuple[int, int]:
    """Width and height of a PNG."""
    width, height = struct.unpack(">II", png.read_bytes()[16:24])
    return width, height


def files(demo: Run, folder: Path, size: str, name: str = "fps_ap50") -> dict[str, Path]:
    """A figure in every form, by its suffix."""
    with drawn_for(SIZES[size]):
        figure = FIGURES.get(name).draw([demo])
    paths = style.save(figure, name, folder, forms=style.FORMS, size=SIZES[size])
    return {path.suffix: path for path in paths}


@pytest.mark.parametrize("size", SIZES)
def test_a_file_has_the_width_of_its_place(demo: Run, tmp_path: Path, size: str) -> None:
    made = files(demo, tmp_path, size)
    wide = SIZES[size].width
    assert ET.fromstring(made[".svg"].read_text()).get("width") == f"{wide:g}in"
    assert pixels(made[".png"])[0] == pytest.approx(wide * style.DPI, rel=0.01)
    assert made[".pdf"].read_bytes().startswith(b"%PDF-")
    assert made[".svg"].name == f"fps_ap50-{size}.svg"


def test_a_slide_is_sixteen_to_nine(demo: Run, tmp_path: Path) -> None:
    width, height = pixels(files(demo, tmp_path, "slide")[".png"])
    assert width / height == pytest.approx(16 / 9, rel=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_text_can_be_read_there(demo: Run, size: str) -> None:
    with drawn_for(SIZES[size]):
        figure = FIGURES.get("fps_ap50").draw([demo])
    assert style.smallest_points(figure, SIZES[size]) >= SIZES[size].least_points


def test_what_shows_more_gets_a_larger_canvas_of_the_same_shape() -> None:
    slide = SIZES["slide"]
    assert slide.canvas_of(3.0) == pytest.approx((8.0, 4.5), rel=1e-3)
    wide, tall = slide.canvas_of(10.0)
    assert tall == 6.0
    assert wide / tall == pytest.approx(slide.width / 7.5)
    assert SIZES["column"].canvas_of(9.0) == (4.6, 9.0)


def test_a_page_is_not_changed_by_sizes() -> None:
    assert canvas(10.0, 4.2) == (10.0, 4.2)
    assert columns(2) == 2
    with drawn_for(SIZES["column"]):
        assert columns(2) == 1
    assert canvas(10.0, 4.2) == (10.0, 4.2)


def test_the_same_data_give_the_same_pdf(demo: Run, tmp_path: Path) -> None:
    first, second = (files(demo, tmp_path / part, "column")[".pdf"] for part in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()


def test_the_command_says_where_text_is_small(
    demo: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["figures", str(demo.path), "--only", "fps_ap50", "--reports", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        main([*words, "--size", "slide", "--format", "pdf"])
    assert end.value.code == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "fps_ap50-slide.pdf")]
    with pytest.raises(SystemExit) as end:
        main([*words, "--size", "wall"])
    assert end.value.code == 2
    assert "slide" in capsys.readouterr().err
