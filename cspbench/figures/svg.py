"""Changes matplotlib's SVG for a page: no inline styles, no clashing ids, a title, one ink.

A strict Content-Security-Policy forbids ``style`` attributes, so they become presentation
attributes; ids that nothing refers to are dropped and the others get the figure's name, so that
several figures live in one page; the house ink becomes ``currentColor``.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET  # reads only what matplotlib wrote in this process
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cspbench.figures.cases import plain

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D

#: Text and axes of every figure.
INK = "#24292f"
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
#: A gid that starts so marks a drawn case: ``case:<JSON list of one mark>``; or one for each of a
#: line's points: ``cases:<JSON list of marks>``. A mark is an id and the name of its run.
CASE_GID, POINTS_GID = "case:", "cases:"
_DARK_INK, _LIGHT_INK = "#e6edf3", INK
_DROP = {f"{{{SVG}}}metadata", f"{{{SVG}}}style"}
_FONT = re.compile(r"(?:(italic|oblique)\s+)?(?:(bold|\d{3})\s+)?([\d.]+)px\s")
#: Of matplotlib's styles those that are not presentation attributes, or are set once on the root.
_CSS_ONLY = {"font-family", "transform-box"}
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def mark_case(artist: Artist, case: str, run: str = "") -> None:
    """Make what is drawn a case, by its id and its run's name ("" if it is not known)."""
    artist.set_gid(CASE_GID + _marks([(case, run)]))


def mark_points(line: Line2D, cases: Sequence[tuple[str, str]]) -> None:
    """Make each point of a line of marks a case, by id and run's name.

    One artist is far cheaper than many.
    """
    line.set_gid(POINTS_GID + _marks(cases))


def _marks(cases: Sequence[tuple[str, str]]) -> str:
    """Ids and names as the page has them: XML allows no control characters."""
    return json.dumps([(plain(case), plain(run)) for case, run in cases])


def inline(source: bytes, name: str, title: str, description: str = "") -> str:
    """Return an ``<svg>`` element that can stand in an HTML page.

    Args:
        source: what matplotlib wrote.
        name: prefix of the ids that remain.
        title: read by screen readers.
        description: what the figure shows, for screen readers.
    """
    root = _clean(source, name)
    _label(root, name, title, description)
    return ET.tostring(root, encoding="unicode")


def standalone(
    source: bytes, name: str, title: str, description: str = "", inches: float | None = None
) -> str:
    """Return a whole SVG file that is legible on light and on dark ground.

    With ``inches`` it has this width on paper.
    """
    root = _clean(source, name)
    style = ET.Element(f"{{{SVG}}}style")
    style.text = (
        f"svg{{color:{_LIGHT_INK}}}@media(prefers-color-scheme:dark){{svg{{color:{_DARK_INK}}}}}"
    )
    root.insert(0, style)
    _label(root, name, title, description)
    _, _, width, height = root.attrib["viewBox"].split()
    root.set("width", width if inches is None else f"{inches:g}in")
    tall = height if inches is None else f"{inches * float(height) / float(width):g}in"
    root.set("height", tall)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _clean(source: bytes, name: str) -> ET.Element:
    ET.register_namespace("", SVG)
    root = ET.fromstring(source)  # noqa: S314 - our own output
    _drop(root)
    used = _referenced(root)
    for element in list(root.iter()):
        _style_to_attributes(element)
        _rename(element, name, used)
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    root.set("font-family", FONTS)
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    root.set("class", "figure")
    return root


def _drop(element: ET.Element) -> None:
    for child in list(element):
        if child.tag in _DROP:
            element.remove(child)
        else:
            _drop(child)


def _referenced(root: ET.Element) -> set[str]:
    used: set[str] = set()
    for element in root.iter():
        for key, value in element.attrib.items():
            used.update(_REFERENCE.findall(value))
            if key == f"{{{XLINK}}}href" and value.startswith("#"):
                used.add(value[1:])
    return used


def _style_to_attributes(element: ET.Element) -> None:
    for part in element.attrib.pop("style", "").split(";"):
        key, _, value = (piece.strip() for piece in part.partition(":"))
        if key == "font":
            _font(element, value)
        elif key and key not in _CSS_ONLY:
            element.set(key, value)
    for key in ("fill", "stroke"):
        if element.get(key, "").lower() == INK:
            element.set(key, "currentColor")


def _font(element: ET.Element, shorthand: str) -> None:
    """Matplotlib before 3.10 writes the font as one CSS shorthand."""
    match = _FONT.match(f"{shorthand} ")
    if match is None:
        return
    for key, value in (("font-style", match[1]), ("font-weight", match[2])):
        if value:
            element.set(key, value)
    element.set("font-size", f"{match[3]}px")


def _rename(element: ET.Element, name: str, used: set[str]) -> None:
    identity = element.attrib.pop("id", None)
    if identity in used:
        element.set("id", f"{name}-{identity}")
    elif identity is not None and identity.startswith(CASE_GID):
        [mark] = json.loads(identity[len(CASE_GID) :])
        _mark(element, *mark)
    elif identity is not None and identity.startswith(POINTS_GID):
        points = list(element.iter(f"{{{SVG}}}use"))
        cases = json.loads(identity[len(POINTS_GID) :])
        if len(points) == len(cases):  # NaN is not drawn: better no name than a wrong
            for point, mark in zip(points, cases, strict=True):
                _mark(point, *mark)
    target = element.attrib.pop(f"{{{XLINK}}}href", None)
    if target is not None:
        element.set("href", f"#{name}-{target[1:]}" if target.startswith("#") else target)
    for key, value in list(element.attrib.items()):
        element.set(key, _REFERENCE.sub(rf"url(#{name}-\1)", value))


def _mark(element: ET.Element, case: str, run: str) -> None:
    """Make a drawn case findable by the page's script, and name it on hover without one."""
    element.set("data-case", case)
    if run:
        element.set("data-run", run)
    element.set("class", "mark")
    hint = ET.Element(f"{{{SVG}}}title")
    hint.text = case
    element.insert(0, hint)


def _label(root: ET.Element, name: str, title: str, description: str) -> None:
    """Name the figure for screen readers; a title element would also pop up on every hover."""
    root.set("role", "img")
    root.set("aria-label", f"{title}. {description}" if description else title)
    root.set("data-figure", name)
