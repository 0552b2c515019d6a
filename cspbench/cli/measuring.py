"""What a run on this machine and one on a fleet share: which suites, and how a run may end."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.cli.options import parse_overrides
from cspbench.core.output import say
from cspbench.core.statuses import ExitCode
from cspbench.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cspbench.cli.model_arguments import ModelArguments
    from cspbench.cli.progress import Display
    from cspbench.cli.reporter import Reporter
    from cspbench.runner.plan import Plan
    from cspbench.store.rundir import StoredRun
    from cspbench.suite.suite import Suite


@dataclass
class RunResult:
    """The run directories, and the exit code if we were stopped.

    By the user (or the system, by SIGTERM), or by a disk that takes no more.
    """

    paths: list[Path] = field(default_factory=list)
    stopped: ExitCode | None = None


@contextlib.contextmanager
def stoppable(reporter: Reporter, result: RunResult) -> Iterator[Display]:
    """Show progress; note in ``result`` what stopped the block, for what exists is reported."""
    from cspbench.cli.progress import display_for

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    display = display_for(reporter)
    try:
        yield display
    except KeyboardInterrupt:
        result.stopped = ExitCode.INTERRUPTED
    except StoreError as error:
        say(f"error: {error}", err=True)
        result.stopped = ExitCode.NOT_MEASURED
    finally:
        display.close()


def suites_of(
    names: Sequence[str], settings: Sequence[str], arguments: ModelArguments | None = None
) -> list[Suite]:
    """Read every suite, so that no mistake surfaces after the start; models are one more suite.

    Args:
        names: suites and models.
        settings: settings of the command line.
        arguments: what to vary of models; the defaults without.

    Raises:
        InputError: none is named, or a mistake in one.
    """
    from cspbench.cli.model_arguments import ModelArguments
    from cspbench.suite.adhoc import Choice
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite
    from cspbench.suite.targets import is_model

    models = [name for name in names if is_model(name)]
    paths = [path for name in names if name not in models for path in find_suites(name)]
    overrides = parse_overrides(settings)
    of_models = (arguments or ModelArguments(Choice(), None)).suite(models, overrides)
    suites = [load_suite(path, overrides) for path in paths]
    suites += [] if of_models is None else [of_models]
    if not suites:
        raise InputError(
            "name a model or a suite to run, such as: cspbench run model.onnx, or "
            "cspbench run suites/edge.yaml"
        )
    return suites


def check_suites(names: Sequence[str], plan: Plan, stored: StoredRun) -> None:
    """A suite that is named beside a run to resume must be the run's own.

    Raises:
        InputError: it is not.
    """
    if names and any(suite.digest != plan.suite.digest for suite in suites_of(names, ())):
        raise InputError(f"{stored.path} is a run of another suite, or the suite changed")
