"""``cspbench analyze``: what can be known of a model without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cspbench.cli.options import (
    RegistryChoice,
    allow_code_option,
    at_most_one,
    emit,
    emit_text,
    table_options,
)
from cspbench.core.output import say, show
from cspbench.machine.devices.spec import DEVICES, HOST

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis
    from cspbench.views.analysis_tables import Tables


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="ID|SUITE...")
@click.option("--layers", is_flag=True, help="One row a layer (with json: a list in each object).")
@click.option("--stages", is_flag=True, help="One row a stage.")
@click.option(
    "--conventions", is_flag=True, help="Every total by its convention, and why conventions differ."
)
@click.option(
    "--verify", is_flag=True, help="Run fvcore and FlopCounterMode and reconcile their counts."
)
@click.option("--balance", is_flag=True, help="How evenly compute and traffic are spread.")
@click.option("--memory", is_flag=True, help="Live peak, copies, the feature pyramid's memory.")
@click.option("--theory", is_flag=True, help="The papers' closed forms beside counted values.")
@click.option("--published", is_flag=True, help="Published counts, ours and the difference.")
@click.option("--roofline", is_flag=True, help="Predicted time a layer, and what bounds it.")
@click.option(
    "--device",
    type=RegistryChoice(DEVICES),
    default=HOST,
    show_default=True,
    help="Device of the roofline.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Threads of the roofline.",
)
@click.option("--compare", is_flag=True, help="Changes from the first id to the second.")
@click.option(
    "--batch", type=click.IntRange(1), help="Batch size.  [default: what the file fixes, or 1]"
)
@click.option(
    "--input-file", metavar="NPZ", help="Arrays that the models read; their shapes are the input's."
)
@click.option("--no-cache", is_flag=True, help="Analyse again even if it is known.")
@allow_code_option
@table_options  # fmt: skip
def command(
    targets: tuple[str, ...], layers: bool, device: str, threads: int, batch: int | None,
    input_file: str | None, no_cache: bool, allow_code: bool, form: str, out: Path | None,
    **views: bool,
) -> None:  # fmt: skip
    """Compute what can be known of a model without running it.

    ID is the model part of a case id: csppeleenet[gamma=0.25]@224, peleenet+prn@416,
    darknet:path.cfg, onnx:path.onnx; without @ the model has its own input. A SUITE stands for all
    its models; after its table come the published counts of those that have any.

    Only one option can choose a table, but --compare --layers together compare layers.
    """
    at_most_one(**views, layers=layers and not views["compare"])
    view = next((name for name, chosen in views.items() if chosen), "overview")
    from cspbench.models.build import as_model_id
    from cspbench.models.code import allowing_code
    from cspbench.models.input_file import with_input_file
    from cspbench.runner.files import analyze_models
    from cspbench.suite.targets import is_suite, model_ids

    with allowing_code(allow_code):
        ids = model_ids(targets)
        if input_file is not None:
            ids = [str(with_input_file(as_model_id(one), input_file)) for one in ids]
        analyses = analyze_models(ids, batch=batch, cache=not no_cache, allow_code=allow_code)
        if view == "stages" or (view == "overview" and layers and form != "json"):
            _frames(analyses, view == "stages", form, out)
        else:
            _print(_tables(view, analyses, layers, form, device, threads), form, out)
        if view == "overview" and not layers and form == "table" and out is None:
            from cspbench.paper.analysis_tables import has_published, published

            if any(map(is_suite, targets)) and has_published(tables := published(analyses)):
                _print(tables, form, out)
        if form == "table" and out is None:
            for analysis in (one for one in analyses if one.notes):
                for line in ("", f"{analysis.id}:", *(f"  {note}" for note in analysis.notes)):
                    say(line)
    from cspbench.views.analysis_tables import uncounted

    for warning in filter(None, map(uncounted, analyses)):
        say(warning, err=True)


def _tables(
    view: str, analyses: list[Analysis], layers: bool, form: str, device: str, threads: int
) -> Tables:
    from cspbench.views import analysis_tables as tables

    if view == "conventions":
        return tables.conventions(analyses)
    if view == "compare":
        return tables.changes(analyses, layers)
    if view == "roofline":
        return tables.rooflines(analyses, device, threads)
    if view == "verify":
        from cspbench.analysis.verify import reconcile_all

        return tables.Tables.of(reconcile_all(analyses))
    if view in ("theory", "published"):
        from cspbench.paper import analysis_tables as papers

        return papers.closed_forms(analyses) if view == "theory" else papers.published(analyses)
    return tables.totals(analyses, view, layers, readable=form in ("table", "md", "latex"))


def _print(tables: Tables, form: str, out: Path | None) -> None:
    if form == "json":
        emit_text(json.dumps(tables.objects), out)
    elif form == "table" and out is None:
        show(str(tables), headed=not tables.blocks[0].before)
    else:
        import pandas as pd

        # Objects: integers stay integers.
        emit(pd.DataFrame(tables.rows, dtype=object), form, out)


def _frames(analyses: list[Analysis], stages: bool, form: str, out: Path | None) -> None:
    import pandas as pd

    frames = []
    for analysis in analyses:
        frame = analysis.stages() if stages else analysis.frame()
        frame.insert(0, "id", analysis.id)
        frames.append(frame)
    emit(pd.concat(frames, ignore_index=True), form, out)
