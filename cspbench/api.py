"""The Python API's verbs that join several rooms."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.suite.suite import Suite
    from cspbench.views.frames import Run

#: Where runs go unless told otherwise, below the working directory.
RESULTS = Path("results")


def run(suite: str | Path | Suite, out: str | Path = RESULTS) -> Run:
    """Measure a suite on this machine and return the stored run.

    While another run measures on this machine it is waited for, with a warning.

    Args:
        suite: a YAML file, the name of an installed suite, or an expanded ``Suite``.
        out: directory for run directories.

    Raises:
        InputError: the suite has mistakes (all of them in ``problems``), or there are several.
    """
    from cspbench.machine.lock import timing_lock
    from cspbench.runner.plan import plan_suite
    from cspbench.runner.run import execute, new_run
    from cspbench.suite.suite import Suite
    from cspbench.views.frames import load

    plan = plan_suite(suite if isinstance(suite, Suite) else _read(str(suite)))
    with timing_lock(plan.suite.name, waiting=warnings.warn):
        directory = new_run(plan, Path(out))
        execute(plan, directory)
    return load(directory.path)


def _read(name: str) -> Suite:
    """The one suite of a name: a run has one, so a directory of several would lose the others."""
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    files = find_suites(name)
    if len(files) > 1:
        raise InputError(
            f"{name} holds {len(files)} suites, name one: {', '.join(map(str, files))}"
        )
    return load_suite(files[0])
