"""What every page of HTML shares: templates that escape, the style sheet, the security policy."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from cspbench.core.text import inert

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).with_name("templates")
#: Places after which a line may break in an id.
_SIGNS = re.compile(r"(?<=[\[\],@+/])(?=.)|(?<=\.)(?=[a-z])")


def content_security_policy(script: str, css: str, *, chunks: bool = False) -> str:
    """Nothing may be loaded; only this script and this style sheet may work.

    With ``chunks`` this script, and nothing else, may load further scripts: the data of a site.
    """
    dynamic = " 'strict-dynamic'" if chunks else ""
    return (
        f"default-src 'none'; script-src {_hash(script)}{dynamic}; style-src {_hash(css)}; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def read_style(others: Iterable[Path] = ()) -> str:
    """The one style sheet, followed by those of some pages or sections, each once."""
    files = dict.fromkeys([TEMPLATES / "report.css", *others])
    return "".join(file.read_text(encoding="utf-8") for file in files)


def templates(names: Mapping[str, Any], *folders: Path) -> jinja2.Environment:
    """The templates of these folders, with ``names``, the macros and the filter ``breakable``.

    Every text is escaped and made inert.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: inert(value) if type(value) is str else value,
    )
    environment.filters["breakable"] = breakable
    environment.globals.update(names)
    macros = environment.get_template("macros.html").module
    environment.globals.update(
        {name: getattr(macros, name) for name in ("table", "origin", "marked", "pair", "figures")}
    )
    return environment


@functools.lru_cache(maxsize=10_000)  # an id stands in several tables
def breakable(text: str) -> Markup:
    """Escape an id and let lines break after its signs, not inside its words."""
    return Markup("<wbr>").join(_SIGNS.split(text))
