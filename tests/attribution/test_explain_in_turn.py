"""``explain`` with real workers: profiled bursts and replays take turns with the plain ones."""

import pytest

from cspbench.attribution import explain_measured, pair
from cspbench.attribution.work import Family
from cspbench.backends.spec import BACKENDS
from tests.attribution.stored import keep_invented_ceilings, measure_briefly

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("backend", ["opencv-cpu", "onnxruntime", "torch-cpu"])
def test_two_networks_are_measured_in_the_same_blocks(backend, tmp_path, monkeypatch):
    reason = BACKENDS.get(backend).available()
    if reason is not None:
        pytest.skip(reason)
    measure_briefly(monkeypatch)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    keep_invented_ceilings()
    models = ("resnet10@64", "cspresnet10@64")
    plan = pair.plan_pair(*models, backend=backend, rounds=2)
    run = pair.measure_plan(plan, tmp_path / "results")
    a, b = (record.case for record in run.records)
    launches = [launch for record in run.records for launch in record.launches]
    bad = [(launch.job, launch.status, launch.reason) for launch in launches if not launch.good]
    assert not bad
    # The layers came with the bursts, so that no launch of their own was needed.
    assert {launch.job for launch in launches} == {"time", "check", "replay"}
    assert set(run.layer_times["case"]) == {a, b}

    it = explain_measured(run, a, b)
    assert it.blocks >= 2
    assert sum(part.difference_ms for part in it.parts) == pytest.approx(it.difference_ms)
    assert sum(group.difference_ms for group in it.groups) == pytest.approx(it.difference_ms)
    assert all(part.low <= part.difference_ms <= part.high for part in it.parts)
    for side, model in zip((it.a, it.b), models, strict=True):
        assert 0.5 < side.profiled < 20
        convolutions = [entry for entry in side.entries if entry.family is Family.ARITHMETIC]
        products = [layer for layer in run.analyses[model].layers if layer.values["macs"]]
        assert len(convolutions) == len(products) >= 10
        assert all(entry.replay_ms is not None for entry in convolutions)
