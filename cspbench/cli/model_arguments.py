"""Models as arguments of commands that measure: what to vary, and the suite that comes of it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.core.files import write_output
from cspbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cspbench.suite.adhoc import Choice
    from cspbench.suite.suite import Suite


@dataclass(frozen=True)
class ModelArguments:
    """What a command was told about models: the choice, and where to save their suite.

    ``elsewhere`` says that boards measure them.
    """

    choice: Choice
    save: Path | None
    elsewhere: bool = False

    @property
    def given(self) -> bool:
        """Whether any option of models is given."""
        return bool(self.choice.given) or self.save is not None

    def for_fleet(self) -> ModelArguments:
        """The same for boards, whose processors are not this machine's: one thread by default."""
        return replace(self, elsewhere=True)

    def suite(self, models: Sequence[str], overrides: Mapping[str, object]) -> Suite | None:
        """The suite of the models, saved if asked for; None without models.

        Raises:
            InputError: a mistake in it, or options of models without a model.
        """
        from cspbench.suite.adhoc import adhoc_suite

        if models:
            choice = self.choice
            if self.elsewhere and not choice.threads:
                choice = replace(choice, threads=(1,))
            made = adhoc_suite(models, choice, overrides, self.save)
            if self.save is not None:
                write_output(self.save, made.text)
            return made.suite
        options = [f"--{name}" for name in self.choice.given]
        if options:
            name = options[0].removeprefix("--")
            raise InputError(
                f"{' and '.join(options)}: for models, and none is named; of a suite's cases "
                f"--set {name}=... replaces it"
            )
        if self.save is not None:
            raise InputError("--save-suite writes the suite of models: name a model or its file")
        return None


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of models; the command gets them as one argument ``arguments``."""

    @click.option(
        "--backend", "backends", multiple=True, metavar="NAME,...",
        help="Backends of MODELs.  [default: all that run on this machine's processor]",
    )  # fmt: skip
    @click.option(
        "--threads", metavar="N,...", help="Threads of MODELs.  [default: 1 and all processors]"
    )
    @click.option("--batch", metavar="N,...", help="Batch sizes of MODELs.  [default: 1]")
    @click.option(
        "--input", "sizes", multiple=True, metavar="HxW,...",
        help="Input sizes of MODELs, height x width.  [default: each model's own]",
    )  # fmt: skip
    @click.option(
        "--input-file", metavar="NPZ",
        help="Arrays that MODELs read, by the names of their inputs.  [default: seeded values]",
    )  # fmt: skip
    @click.option("--precision", metavar="P,...", help="Precisions of MODELs.  [default: fp32]")
    @click.option(
        "--csp", "csp", multiple=True, metavar="KEY=V,...",
        help="Cross-stage-partial forms of MODELs beside the plain ones, such as "
        "gamma=0.25,0.5,0.75 or split=slice.",
    )  # fmt: skip
    @click.option(
        "--fusion", metavar="F,...",
        help="Fusions of these forms: csp, first, last.  [default: csp]",
    )  # fmt: skip
    @click.option(
        "--save-suite", "save", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        help="Write the suite of MODELs to this file.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_models(
        *args: Any, backends: tuple[str, ...], threads: str | None, batch: str | None,
        sizes: tuple[str, ...], input_file: str | None, precision: str | None,
        csp: tuple[str, ...], fusion: str | None, save: Path | None, **options: Any,
    ) -> Any:  # fmt: skip
        from cspbench.suite.adhoc import Choice, csp_options, numbers

        choice = Choice(
            backend=tuple(part for text in backends for part in separated(text)),
            threads=numbers(threads, "--threads") if threads is not None else (),
            batch=numbers(batch, "--batch") if batch is not None else (),
            input=tuple(part for text in sizes for part in separated(text)),
            precision=tuple(separated(precision)) if precision is not None else (),
            input_file=input_file or "",
            csp=csp_options(csp, separated(fusion) if fusion is not None else ()),
        )
        return command(*args, arguments=ModelArguments(choice, save), **options)

    return with_models


def separated(text: str) -> list[str]:
    """The parts of a text between commas that are in no brackets.

    >>> separated("onnxruntime,opencv-cpu[engine=classic,scope=end_to_end]")
    ['onnxruntime', 'opencv-cpu[engine=classic,scope=end_to_end]']
    """
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
