"""``cspbench show-model``: one network in detail, published numbers against ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.options import allow_code_option, emit, format_option

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis
    from cspbench.literature import Published
    from cspbench.models.spec import ModelSpec

#: Published metric -> our total and its unit. What we do not compute (accuracy, fps) is not here.
COMPUTED = {
    "params_conv_m": ("params_conv", 1e6),
    "params_file_m": ("params_file", 1e6),
    "params_m": ("params", 1e6),
    "bflops": ("bflops", 1.0),
    "cio_paper_m": ("cio_paper", 1e6),
}
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
    from cspbench.analysis.api import analyze_id
    from cspbench.analysis.stage_table import stage_rows
    from cspbench.models.build import spec_of
    from cspbench.models.code import allowing_code
    from cspbench.models.identity import canonical

    with allowing_code(allow_code):
        full = canonical(model_id)
        analysis = analyze_id(full)
    spec = spec_of(full)
    stages = stage_rows(analysis)
    compared = published_rows(_published(full), analysis, full.input or (0, 0))
    if form == "json":
        about = {"id": str(full), "summary": spec.summary, "source": spec.source,
                 "confidence": spec.confidence}  # fmt: skip
        click.echo(json.dumps({**about, "stages": stages, "published": compared}, indent=1))
        return
    _head(str(full), spec, analysis)
    _print(stages, form)
    click.echo("")
    if compared:
        _print(compared, form)
    else:
        click.echo("published numbers: not found")


def _published(model: Any) -> list[Published]:
    """Published numbers of this very system, by its id without the input."""
    from cspbench import literature
    from cspbench.core.case import ModelId

    return literature.published(str(ModelId(model.model, model.neck)))


def published_rows(
    published: list[Published], analysis: Analysis, size: tuple[int, int]
) -> list[dict[str, Any]]:
    """One row a published number: as printed, ours where we compute it at that input, difference.

    ``agrees`` says that ours rounds to the printed digits.
    Counts that depend on the input are compared only where it is the published one.
    """
    rows = []
    for number in published:
        total, unit = COMPUTED.get(number.metric, (None, 1.0))
        fits = number.input is None or size == (number.input, number.input)
        fixed = number.metric.startswith("params")
        ours = analysis.totals[total] / unit if total and (fits or fixed) else None
        rows.append(
            {
                "metric": number.metric,
                "input": number.input,
                "device": number.device,
                "published": str(number),
                "ours": ours,
                "difference": number.residual(ours) if ours is not None else None,
                "agrees": number.agrees(ours) if ours is not None else None,
                "source": number.source,
            }
        )
    return rows


def _head(model: str, spec: ModelSpec, analysis: Analysis) -> None:
    from cspbench.models.spec import CONFIDENCE

    click.echo(f"{model}: {spec.summary}")
    click.echo(f"source: {spec.source}")
    click.echo(f"confidence: {spec.confidence} ({CONFIDENCE[spec.confidence]})")
    totals = analysis.totals
    click.echo(
        f"{totals['params'] / 1e6:.3f} M parameters, {totals['macs'] / 1e9:.3f} GMACs, "
        f"{totals['bflops']:.3f} BFLOPs (the paper's), computed\n"
    )


def _print(rows: list[dict[str, Any]], form: str) -> None:
    import pandas as pd

    numbers = {name: spec for name, spec in _NUMBERS.items() if name in rows[0]}
    emit(pd.DataFrame(rows, dtype=object), form, None, numbers)
