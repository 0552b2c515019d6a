"""Ceilings are measured by a worker of their own and kept; what goes wrong is one sentence."""

import pytest

from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.runner import ceilings
from cspbench.runner.process import Outcome
from cspbench.store.ceilings import known_ceilings

MEASURED = {"gflops": {"fp32": 50.0}, "bandwidth_gbs": {"triad": 5.0}, "overhead_us": 2.0,
            "threads": 3}  # fmt: skip


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Let an invented worker answer; returns its requests."""
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    requests = []

    def answer(outcome):
        class Executor:
            def launch(self, request, threads, timeout):
                requests.append((request.device, request.threads, threads, timeout))
                return outcome

        monkeypatch.setattr(ceilings, "LocalExecutor", Executor)
        return requests

    return answer


def test_what_a_worker_measured_is_kept_for_later_runs(worker):
    requests = worker(Outcome(Status.OK, answer={"ceilings": MEASURED}))
    measured = ceilings.measure_ceilings("cpu", 3)
    assert requests == [("cpu", 3, 3, 600)]
    assert measured.gflops == {"fp32": 50.0}
    assert known_ceilings("cpu", 3) == measured
    assert known_ceilings("cpu", 1) is None


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (Outcome(Status.TIMEOUT, "no answer in 600 s"), "no answer in 600 s"),
        (Outcome(Status.OK, answer={"ceilings": {}}), "the worker's answer is malformed"),
    ],
)
def test_a_worker_that_fails_is_one_sentence_and_nothing_is_kept(worker, outcome, reason):
    worker(outcome)
    with pytest.raises(InputError, match=f"ceilings of cpu could not be measured: {reason}"):
        ceilings.measure_ceilings("cpu", 3)
    assert known_ceilings("cpu", 3) is None


def test_a_device_that_this_machine_lacks_is_refused_before_any_launch(worker, monkeypatch):
    requests = worker(Outcome(Status.OK))
    device = type("Absent", (), {"available": lambda _self: "no NVIDIA driver is loaded"})()
    monkeypatch.setattr(ceilings.DEVICES, "get", lambda _name: device)
    with pytest.raises(InputError, match="cuda cannot be measured here: no NVIDIA driver"):
        ceilings.measure_ceilings("cuda", 1)
    assert requests == []
