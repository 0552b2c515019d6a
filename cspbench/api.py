"""The Python API's verbs that join several rooms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cspbench.frames import Run
    from cspbench.suite.case import Suite

#: Where runs go unless told otherwise, below the working directory.
RESULTS = Path("results")


def run(suite: str | Path | Suite, out: str | Path = RESULTS) -> Run:
    """Measure a suite on this machine and return the stored run.

    Args:
        suite: a YAML file, the name of an installed suite, or an expanded ``Suite``.
        out: directory for run directories.

    Raises:
        InputError: the suite has mistakes (all of them in ``problems``).
    """
    from cspbench.frames import load
    from cspbench.runner.plan import plan_suite
    from cspbench.runner.run import execute, new_run
    from cspbench.suite.case import Suite
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    if not isinstance(suite, Suite):
        suite = load_suite(find_suites(str(suite))[0])
    plan = plan_suite(suite)
    directory = new_run(plan, Path(out))
    execute(plan, directory)
    return load(directory.path)
