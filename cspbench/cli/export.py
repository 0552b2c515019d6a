"""``cspbench export``: the exact artifact that a backend measures."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from cspbench.artifacts.spec import ARTIFACTS
from cspbench.cli.options import RegistryChoice, allow_code_option
from cspbench.core.files import replacing
from cspbench.core.output import say


@click.command()
@click.argument("model_id", metavar="ID")
@click.option(
    "--to",
    "kind",
    type=RegistryChoice(ARTIFACTS),
    required=True,
    help="Kind of artifact.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write."
)
@click.option("--batch", type=click.IntRange(1), default=1, show_default=True, help="Batch size.")
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    default=0,
    show_default=True,
    help="Seed of the weights.",
)
@allow_code_option
def command(model_id: str, kind: str, out: Path, batch: int, seed: int, allow_code: bool) -> None:
    """Write the model ID (such as csppeleenet+prn@416) as a backend measures it."""
    from cspbench.artifacts.cache import ArtifactSpec
    from cspbench.errors import InputError
    from cspbench.models.identity import canonical

    spec = ArtifactSpec(canonical(model_id), batch, kind, seed)
    from cspbench.models.code import allowing_code
    from cspbench.runner.files import export_model

    try:
        with allowing_code(allow_code):
            export_model(spec, allow_code=allow_code)
        with replacing(out) as new:
            shutil.copyfile(spec.path, new)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}") from error
    say(str(out))
