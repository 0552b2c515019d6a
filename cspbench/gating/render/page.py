"""The compare page: one HTML file without script, offline, under a strict security policy."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from cspbench.core.text import printable, slug
from cspbench.errors import InputError
from cspbench.gating.render.forest import NARROW, WIDE, forest_plot
from cspbench.gating.render.text import SIGNS, change_text, elapsed_text, ms_text, range_text
from cspbench.gating.report import GateReport
from cspbench.gating.why import BLOCKS, LayerShift
from cspbench.machine.comparability import flatten
from cspbench.store.blocks import RUNNING

#: A folder or a web address; no other scheme, which could be a script.
_SITE = re.compile(r"https?://\S+|file:///\S+|[^:\s]+", re.IGNORECASE)
TEMPLATES = Path(__file__).with_name("templates")


def page_of(report: GateReport, site: str | None = None) -> str:
    """Render a gate; with the address of a site over stored runs cases link to their histories."""
    import jinja2
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_inert,
    )
    style = (TEMPLATES / "gate.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    plots = dict.fromkeys(  # without a ratio both are the same sentence, which is shown once
        forest_plot(report.sorted, report.min_effect, report.tolerance, layout)
        for layout in (WIDE, NARROW)
    )
    return environment.get_template("gate.html").render(
        report=report,
        history=lambda case: site and f"{site.rstrip('/')}/case/{slug(printable(case))}.html",
        style=Markup(style),  # noqa: S704 - our own file
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        plot=Markup("".join(plots)),  # noqa: S704 - names are escaped there
        signs=SIGNS,
        change=change_text,
        interval=range_text,
        ms=ms_text,
        elapsed=any(verdict.ratio_of == RUNNING for verdict in report.verdicts),
        elapsed_change=elapsed_text,
        shifts=lambda verdict: [LayerShift(**layer) for layer in verdict.layers],
        why_blocks=BLOCKS,
        environment=flatten(report.environment),
    )


def check_site(address: str) -> str:
    """Return the address of a site, if it is a folder or a web address.

    Raises:
        InputError: it is neither.
    """
    if not _SITE.fullmatch(address):
        raise InputError(
            f"{address!r} is no address of a site: name a folder, or begin with https://"
        )
    return address


def _inert(value: Any) -> Any:
    """A string without control characters, such as a name may hold; markup stays as it is."""
    return printable(value) if type(value) is str else value
