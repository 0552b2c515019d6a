"""The demo run, written once."""

from __future__ import annotations

import pytest

from cspbench.views.frames import Run
from tests.report import runs


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """See :func:`tests.report.runs.demo_run`."""
    return runs.demo_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def together(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """See :func:`tests.report.runs.together_run`."""
    return runs.together_run(tmp_path_factory.mktemp("together"))
