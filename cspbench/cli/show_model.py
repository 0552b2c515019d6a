"""``cspbench show-model``: one network in detail, published numbers against ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.options import allow_code_option, emit, format_option
from cspbench.core.output import say, show
from cspbench.core.text import fixed

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis
    from cspbench.models.spec import ModelSpec

_NUMBERS = {
    "channels": "d", "blocks": "d", "layers": "d", "params": ",d", "macs": ",d",
    "macs_share": ".1%", "gradient_paths": ",.0f", "ours": ".4f", "difference": "+.2%",
}  # fmt: skip


@click.command(name="show-model")
@click.argument("model_id", metavar="ID")
@format_option
@allow_code_option
def command(model_id: str, form: str, allow_code: bool) -> None:
    """Show a model's stages, its published numbers beside ours, and where it comes from."""
    from cspbench.analysis.stage_table import stage_rows
    from cspbench.models.build import spec_of
    from cspbench.models.code import allowing_code
    from cspbench.models.identity import canonical
    from cspbench.paper.published_rows import published_rows
    from cspbench.runner.files import analyze_models

    with allowing_code(allow_code):
        full = canonical(model_id)
        [analysis] = analyze_models([str(full)], allow_code=allow_code)
    spec = spec_of(full)
    stages = stage_rows(analysis)
    changes = list(analysis.notes)
    compared = published_rows(full, analysis)
    if form == "json":
        about = {"id": str(full), "summary": spec.summary, "source": spec.source,
                 "confidence": spec.confidence}  # fmt: skip
        notes = {"notes": changes} if changes else {}
        show(json.dumps({**about, **notes, "stages": stages, "published": compared}, indent=1))
        return
    _head(str(full), spec, analysis)
    _print(stages, form)
    for line in ("", *changes):
        say(line)
    if compared:
        _print(compared, form)
    elif spec.confidence != "own":
        say("published numbers: not found")


def _head(model: str, spec: ModelSpec, analysis: Analysis) -> None:
    from cspbench.models.spec import CONFIDENCE

    say(f"{model}: {spec.summary}")
    say(f"source: {spec.source}")
    if spec.confidence != "own":  # there is nothing to be sure of
        say(f"confidence: {spec.confidence} ({CONFIDENCE[spec.confidence]})")
    totals = analysis.totals
    say(
        f"{fixed(totals['params'] / 1e6, 3)} M parameters, {fixed(totals['macs'] / 1e9, 3)} GMACs, "
        f"{fixed(totals['bflops'], 3)} BFLOPs (the paper's), computed\n"
    )


def _print(rows: list[dict[str, Any]], form: str) -> None:
    import pandas as pd

    numbers = {name: spec for name, spec in _NUMBERS.items() if name in rows[0]}
    emit(pd.DataFrame(rows, dtype=object), form, None, numbers)
