"""Runs that the repository keeps: what was stored once must stay readable."""

from pathlib import Path

import pytest

from cspbench.core.statuses import Status
from cspbench.store import fsck
from cspbench.views.frames import load

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
RUNS = sorted(file.parent for file in REFERENCE.rglob("run.json"))


def test_one_of_each_kind_is_kept():
    jobs = {job for run in RUNS for job in load(run).launches["job"]}
    assert {"time", "memory", "layers"} <= jobs
    assert {"edge", "engines"} <= {run.name for run in RUNS}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_a_kept_run_is_read_without_a_problem(run):
    assert fsck.check(run).problems == ()
    loaded = load(run)
    measured = loaded.cases[loaded.cases["status"] == Status.OK.value]
    assert len(measured) > 0
    assert (measured["latency_ms"] > 0).all()
    assert len(loaded.layers) > 0
