"""``cspbench analyze``: what can be known of a model without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.options import RegistryChoice, allow_code_option, emit, emit_text, table_options
from cspbench.machine.devices.spec import DEVICES, HOST
from cspbench.views.formats import text_table

if TYPE_CHECKING:
    from cspbench.analysis.record import Analysis

#: Columns of the overview: heading, total, divisor, decimals.
_OVERVIEW = (
    ("params (M)", "params", 1e6, 3),
    ("conv params (M)", "params_conv", 1e6, 3),
    ("GMACs", "macs", 1e9, 3),
    ("BFLOPs", "bflops", 1, 3),
    ("largest layer (BFLOPs)", "max_layer_bflops", 1, 4),
    ("CIO conv (M)", "cio_conv", 1e6, 2),
    ("CIO paper (M)", "cio_paper", 1e6, 2),
    ("traffic (MB)", "traffic_bytes", 1e6, 1),
    ("fused (MB)", "traffic_bytes_fused", 1e6, 1),
    ("copies (MB)", "copy_bytes", 1e6, 2),
    ("peak live (MB)", "peak_live_bytes", 1e6, 2),
)
_MEMORY = (
    ("peak live (MB)", "peak_live_bytes", 1e6, 3),
    ("weights (MB)", "weight_bytes", 1e6, 3),
    ("kept for backward (MB)", "saved_for_backward_bytes", 1e6, 2),
    ("copies (MB)", "copy_bytes", 1e6, 2),
    ("concatenation's share of traffic", "concatenation_traffic_share", 1, 4),
    ("pyramid writes (MB)", "pyramid_written_bytes", 1e6, 3),
    ("peak in the pyramid (MB)", "pyramid_peak_bytes", 1e6, 3),
)
_BALANCE = (
    ("largest layer (BFLOPs)", "max_layer_bflops", 1, 4),
    ("its share of MACs", "max_layer_macs_share", 1, 3),
    ("variation of MACs", "macs_variation", 1, 2),
    ("Gini of MACs", "macs_gini", 1, 3),
    ("largest share of traffic", "max_layer_traffic_share", 1, 3),
    ("variation of traffic", "traffic_variation", 1, 2),
    ("Gini of traffic", "traffic_gini", 1, 3),
)

#: Published numbers that a suite's table is followed by.
_COMPARISONS = ("params", "bflops", "cio_paper", "max_layer_bflops", "bflops_change")


@click.command()
@click.argument("targets", nargs=-1, required=True, metavar="ID|SUITE...")
@click.option("--layers", is_flag=True, help="One row a layer (with json: a list in each object).")
@click.option("--stages", is_flag=True, help="One row a stage.")
@click.option("--conventions", is_flag=True, help="Every total by its convention, and why.")
@click.option("--verify", is_flag=True, help="Run fvcore and FlopCounterMode and reconcile.")
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
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Batch size.")
@click.option("--no-cache", is_flag=True, help="Analyse again even if it is known.")
@allow_code_option
@table_options  # fmt: skip
def command(
    targets: tuple[str, ...], layers: bool, stages: bool, conventions: bool, verify: bool,
    balance: bool, memory: bool, theory: bool, published: bool, roofline: bool, device: str,
    threads: int, compare: bool, batch: int, no_cache: bool, allow_code: bool, form: str,
    out: Path | None,
) -> None:  # fmt: skip
    """Tell what can be known of a model without running it.

    ID is the model part of a case id: csppeleenet[gamma=0.25]@224, peleenet+prn@416,
    darknet:path.cfg, onnx:path.onnx; without @ the model's own input. A SUITE stands for all its
    models; its table is followed by the published counts of those that have any.
    """
    from cspbench.models.code import allowing_code
    from cspbench.suite.targets import is_suite, model_ids

    with allowing_code(allow_code):
        ids = model_ids(targets)
        found = [_analyze(id_, batch, cache=not no_cache) for id_ in ids]
        if published:
            _published(found, form, out)
        elif roofline:
            _roofline(found, device, threads, form, out)
        elif theory:
            _theory(found, form, out)
        elif verify:
            _verify(found, batch, form, out)
        elif compare:
            _compare(found, layers, form, out)
        elif conventions:
            _conventions(found, form, out)
        elif form == "json" and not stages:
            _emit_json([analysis.as_dict(layers) for analysis in found], out)
        elif layers or stages:
            _frames(found, stages, form, out)
        else:
            columns = _BALANCE if balance else _MEMORY if memory else _OVERVIEW
            _overview(found, columns, form, out)
            if form == "table" and out is None and any(map(is_suite, targets)):
                _published(found, form, out, only_known=True)
    _warn(found)


def _analyze(id_: str, batch: int, cache: bool) -> Analysis:
    from cspbench.analysis.api import analyze_id
    from cspbench.errors import InputError, Unavailable, Unsupported

    try:
        return analyze_id(id_, batch=batch, cache=cache)
    except (Unavailable, Unsupported) as error:
        raise InputError(f"{id_}: {error}") from error


def _warn(found: list[Analysis]) -> None:
    for analysis in found:
        if analysis.unsupported:
            names = ", ".join(f"{op} ({calls})" for op, calls in analysis.unsupported.items())
            click.echo(
                f"warning: {analysis.id}: coverage {analysis.coverage:.1f} %; the cost of these "
                f"operators is unknown and not in the totals: {names}",
                err=True,
            )


def _emit_json(objects: list[dict[str, Any]], out: Path | None) -> None:
    emit_text(json.dumps(objects), out)


def _rows(rows: list[dict[str, Any]], form: str, out: Path | None) -> None:
    if form == "json":
        _emit_json(rows, out)
    elif form == "table" and out is None:
        click.echo(text_table(rows, list(rows[0]) if rows else []))
    else:
        import pandas as pd

        emit(pd.DataFrame(rows, dtype=object), form, out)  # object: integers stay integers


def _overview(
    found: list[Analysis],
    columns: tuple[tuple[str, str, float, int], ...],
    form: str,
    out: Path | None,
) -> None:
    readable = form in ("table", "md", "latex")
    rows = []
    for analysis in found:
        row: dict[str, Any] = {"id": analysis.id}
        for heading, name, divisor, decimals in columns:
            value = analysis.totals[name]
            if readable:
                row[heading] = f"{value / divisor:.{decimals}f}"
            else:
                row[name] = value
        row["coverage (%)" if readable else "coverage"] = analysis.coverage
        rows.append(row)
    _rows(rows, form, out)


def _frames(found: list[Analysis], stages: bool, form: str, out: Path | None) -> None:
    import pandas as pd

    frames = []
    for analysis in found:
        frame = analysis.stages() if stages else analysis.frame()
        frame.insert(0, "id", analysis.id)
        frames.append(frame)
    emit(pd.concat(frames, ignore_index=True), form, out)


def _conventions(found: list[Analysis], form: str, out: Path | None) -> None:
    from cspbench.analysis.conventions import REASONS, rows

    listed = [row for analysis in found for row in rows(analysis)]
    if form == "json":
        _emit_json([row | {"reason": REASONS[row["group"]]} for row in listed], out)
        return
    for row in listed:
        row["ignored"] = ", ".join(f"{op} {calls}" for op, calls in row["ignored"].items())
        del row["unsupported"], row["coverage"]
    if form != "table":
        _rows(listed, form, out)
        return
    for analysis in found:
        click.echo(f"{analysis.id} (coverage {analysis.coverage:.1f} %)")
        shown = ("convention", "value", "unit", "counts", "ignored")
        own = [row for row in listed if row["id"] == analysis.id]
        _rows([{name: row[name] for name in shown} for row in own], form, out)
    for group, reason in REASONS.items():
        click.echo(f"\n{group}: {reason}")


def _compare(found: list[Analysis], layers: bool, form: str, out: Path | None) -> None:
    from cspbench.analysis import compare
    from cspbench.errors import InputError

    if len(found) < 2:
        raise InputError("--compare needs two ids: the first is compared with each other one")
    first, *others = found
    rows: list[dict[str, Any]] = []
    for second in others:
        made = compare.layer_rows(first, second) if layers else compare.totals(first, second)
        if form == "table":
            for row in made:
                if row.get("change") is not None:
                    row["change"] = f"{row['change']:+.1%}"
            click.echo(f"first: {first.id}, second: {second.id}")
            _rows(made, form, out)
        rows.extend({"from": first.id, "to": second.id} | row for row in made)
    if form != "table":
        _rows(rows, form, out)


def _verify(found: list[Analysis], batch: int, form: str, out: Path | None) -> None:
    import torch

    from cspbench.analysis.verify import reconcile
    from cspbench.errors import InputError
    from cspbench.models.build import build

    rows: list[dict[str, Any]] = []
    for analysis in found:
        if analysis.source != "torch":
            raise InputError(f"{analysis.id}: only a model that PyTorch can run can be verified")
        module = build(analysis.id)
        inputs = tuple(torch.zeros(shape) for shape in analysis.input)
        rows.extend({"id": analysis.id} | row for row in reconcile(analysis, module, inputs))
    _rows(rows, form, out)


def _theory(found: list[Analysis], form: str, out: Path | None) -> None:
    from cspbench.models.build import build
    from cspbench.paper import theory

    blocks: list[dict[str, Any]] = []
    bounds: list[dict[str, Any]] = []
    for analysis in found:
        if analysis.source == "torch":
            module = build(analysis.id, weights=False)
            blocks.extend({"id": analysis.id} | row for row in theory.block_rows(analysis, module))
        bounds.extend({"id": analysis.id} | row for row in theory.bound_rows(analysis))
    if form == "json":
        _emit_json([{"dense_blocks": blocks, "memory_access_bounds": bounds}], out)
        return
    if blocks:
        click.echo("CIO per pixel of dense blocks: closed form, counted, the network's real layers")
        _rows(blocks, form, None)
    click.echo("\nShuffleNetV2's lower bound of the memory access cost of 1x1 convolutions")
    _rows(bounds, form, out)


def _published(
    found: list[Analysis], form: str, out: Path | None, only_known: bool = False
) -> None:
    """Published counts beside ours; with ``only_known`` nothing where nothing is published."""
    from cspbench.paper import published_counts as published

    rows = []
    for analysis in found:
        against = published.needs_baseline(analysis)
        baseline = _analyze(against, 1, cache=True) if against else None
        rows.append(published.published_row(analysis, baseline))
    if only_known and not any(row[name]["published"] for row in rows for name in _COMPARISONS):
        return
    changes = published.bottleneck_rows(found)
    if form == "json":
        _emit_json(rows, out)
        return
    table, sentences = published.readable(rows)
    if form != "table":
        _rows(table, form, out)
        return
    click.echo('\npublished and computed; "equal" means in every printed digit')
    _rows(table, form, out)
    for sentence in sentences:
        click.echo(sentence)
    for change in changes:
        click.echo(
            f"largest layer, {change['from']} to {change['to']}: "
            f"published {change['published']:+.2%}, ours {change['ours']:+.2%}"
        )


def _roofline(
    found: list[Analysis], device: str, threads: int, form: str, out: Path | None
) -> None:
    from dataclasses import asdict

    from cspbench.analysis import roofline
    from cspbench.errors import InputError
    from cspbench.store.ceilings import known_ceilings

    ceilings = known_ceilings(device, threads)
    if ceilings is None:
        command = f"cspbench ceilings --device {device} --threads {threads}"
        raise InputError(f"the ceilings of {device}/t{threads} are not known here: run {command}")
    peak = roofline.peak_of(asdict(ceilings))
    objects = []
    for analysis in found:
        rows = roofline.layer_rows(analysis, peak)
        about = {"id": analysis.id, "device": device, "threads": threads, **asdict(peak)}
        sums = {"predicted_ms": roofline.total_ms(rows), "bound_share": roofline.shares(rows)}
        objects.append(about | sums | {"layers": rows})
    if form == "json":
        _emit_json(objects, out)
        return
    if form != "table" or out is not None:
        _rows([{"id": it["id"]} | row for it in objects for row in it["layers"]], form, out)
        return
    for it in objects:
        _rows([_readable_layer(row) for row in it["layers"]], form, out)
        share = ", ".join(f"{name} {part:.0%}" for name, part in it["bound_share"].items())
        click.echo(
            f"{it['id']} on {device}, {threads} thread{'s' if threads > 1 else ''}: predicted "
            f"{it['predicted_ms']:.3f} ms, of which bound by {share}"
        )


def _readable_layer(row: dict[str, Any]) -> dict[str, str]:
    return {
        "layer": row["name"] or row["op"],
        "op": row["op"],
        "MFLOPs": f"{row['flops'] / 1e6:.2f}",
        "fused MB": f"{row['traffic_bytes_fused'] / 1e6:.3f}",
        "FLOP/byte": f"{row['intensity']:.2f}",
        "predicted ms": f"{row['predicted_ms']:.4f}",
        "bound by": row["bound"],
    }
