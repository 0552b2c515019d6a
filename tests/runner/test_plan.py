"""Which cases this machine can run, why not the others, and how long it will take."""

from dataclasses import dataclass, replace

import pytest

from cspbench.backends.precisions import PRECISIONS, Precision
from cspbench.core.case import Case, Ref
from cspbench.core.options import Axis
from cspbench.core.registry import Registry
from cspbench.core.statuses import Status
from cspbench.errors import InputError
from cspbench.runner import plan as plan_module
from cspbench.runner.plan import (
    START_SECONDS,
    case_seconds,
    estimate_seconds,
    launch_seconds,
    plan_suite,
)
from cspbench.store.rundir import RunDirectory
from cspbench.suite.suite import Measure, Suite

ID = "peleenet@64/torch-cpu/b1/t1"


@dataclass
class Counted:
    """A backend that counts how often it is asked whether it is there."""

    name: str
    missing: str | None = None
    artifact: str = "onnx"
    device: str = "cpu"
    axes: tuple = ()
    asked: int = 0

    def available(self):
        self.asked += 1
        return self.missing


@pytest.fixture
def backends(monkeypatch):
    registry = Registry("backend", (), "cspbench.tests.none")
    registry.add(Counted("cpu"))
    registry.add(Counted("gpu", missing="no driver", artifact="pt2"))
    monkeypatch.setattr(plan_module, "BACKENDS", registry)
    return registry


CASES = tuple(
    Case(Ref(model), (64, 64), Ref(backend)) for model in ("a", "b") for backend in ("cpu", "gpu")
)
SUITE = Suite("s", CASES, Measure())


def test_cases_stay_in_suite_order_and_the_missing_ones_say_why(backends):
    plan = plan_suite(SUITE)
    assert [(planned.id, planned.status, planned.reason) for planned in plan.cases] == [
        ("a@64/cpu/b1/t1", None, ""),
        ("a@64/gpu/b1/t1", Status.UNAVAILABLE, "no driver"),
        ("b@64/cpu/b1/t1", None, ""),
        ("b@64/gpu/b1/t1", Status.UNAVAILABLE, "no driver"),
    ]
    assert [planned.id for planned in plan.runnable] == ["a@64/cpu/b1/t1", "b@64/cpu/b1/t1"]


def test_a_backend_is_asked_once(backends):
    plan_suite(SUITE)
    assert (backends.get("cpu").asked, backends.get("gpu").asked) == (1, 1)


def planned(monkeypatch, backend, **options):
    """The one case of a backend."""
    registry = Registry("backend", ())
    registry.add(backend)
    monkeypatch.setattr(plan_module, "BACKENDS", registry)
    case = Case(Ref("a"), (64, 64), Ref.of(backend.name, options))
    return plan_suite(Suite("s", (case,), Measure())).cases[0]


PRECISION = Axis("precision", "fp32", "choice", ("fp32", "int4"))


def test_a_precision_without_a_tolerance_is_unsupported_before_anything_is_run(monkeypatch):
    npu = Counted("npu", axes=(PRECISION,))
    found = planned(monkeypatch, npu, precision="int4")
    assert found.status is Status.UNSUPPORTED
    assert found.reason == (
        "npu computes in int4, which has no tolerance against the reference: its file must "
        "register the precision (known: bf16, fp16, fp32, int8, tf32)"
    )
    assert planned(monkeypatch, npu).status is None  # fp32 is judged
    monkeypatch.setitem(PRECISIONS._entries, "int4", Precision("int4", 0.1, 0.5, "four bits"))
    assert planned(monkeypatch, npu, precision="int4").status is None


def test_the_precision_of_a_case_may_be_its_backends_default(monkeypatch):
    """Options at their default are left out of ids: int4 would be judged as fp32."""
    npu = Counted("npu", axes=(replace(PRECISION, default="int4"),))
    assert planned(monkeypatch, npu).status is Status.UNSUPPORTED
    assert planned(monkeypatch, npu, precision="fp32").status is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"device": "cpux"}, r"backend 'npu': unknown device 'cpux' \(did you mean 'cpu'\?\)"),
        ({"artifact": "tflite"}, "backend 'npu': unknown artifact kind 'tflite'"),
    ],
)
def test_a_backend_whose_device_or_artifact_kind_is_unknown_is_refused(monkeypatch, names, said):
    with pytest.raises(InputError, match=said):
        planned(monkeypatch, Counted("npu", **names))


def test_only_keeps_what_matches_any_pattern(backends):
    assert [p.id for p in plan_suite(SUITE, ["b@*", "*/gpu/*"]).cases] == [
        "a@64/gpu/b1/t1", "b@64/cpu/b1/t1", "b@64/gpu/b1/t1",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"no case of 's' matches 'x' or 'y\*'"):
        plan_suite(SUITE, ["x", "y*"])


def test_the_artifact_is_that_of_the_backend(backends):
    kinds = [planned.artifact.kind for planned in plan_suite(SUITE).cases]
    assert kinds == ["onnx", "pt2", "onnx", "pt2"]


def test_keys_tell_cases_apart_and_stay_the_same(backends):
    first, again = plan_suite(SUITE), plan_suite(SUITE)
    keys = [planned.key for planned in first.cases]
    assert len(set(keys)) == 4
    assert keys == [planned.key for planned in again.cases]
    other_seed = plan_suite(Suite("s", CASES, Measure(seed=1)))
    assert not set(keys) & {planned.key for planned in other_seed.cases}


@pytest.mark.parametrize(
    "text",
    [
        "a@64/cpu/b1/t1",
        "csppeleenet[gamma=0.25]+prn@320x416/torch-cpu[layout=channels_last]/b8/t2",
        '"darknet:cfg/a+b.cfg"@416/opencv-cpu[engine=new]/b1/t4',
    ],
)
def test_a_case_is_rebuilt_from_its_id(text):
    assert Case.parse(text).id == text


# How long it takes ------------------------------------------------------------------------------


CASE = "peleenet@64/opencv-cpu/b1/t1"


def store(out, name, seconds):
    """Store a run in which every launch of its case took one of ``seconds``."""
    meta = {"suite": {"measure": {"rounds": 1}}, "cases": [{"id": CASE}]}
    directory = RunDirectory.create(out, name, meta)
    for job, value in [*(("time", value) for value in seconds), ("prepare", 1000.0)]:
        directory.append({"case": CASE, "job": job, "number": 0, "session": "s", "seconds": value,
                          "status": "failed"})  # fmt: skip
    return directory


def test_history_is_the_mean_of_the_newest_three_runs(tmp_path):
    store(tmp_path, "2024-1", [100.0])
    store(tmp_path, "2024-2", [2.0, 4.0])
    store(tmp_path, "2024-3", [6.0])
    store(tmp_path, "2024-4", [])
    assert launch_seconds(tmp_path) == {CASE: 4.0}  # (2 + 4 + 6) / 3; preparation is no launch


def test_a_broken_run_does_not_spoil_the_estimate(tmp_path):
    store(tmp_path, "2024-1", [3.0])
    (tmp_path / "2024-2").mkdir()
    (tmp_path / "2024-2" / "run.json").write_text("{ not json")
    assert launch_seconds(tmp_path) == {CASE: 3.0}
    assert launch_seconds(tmp_path / "missing") == {}


def test_launches_that_say_no_time_do_not_spoil_the_estimate(tmp_path):
    directory = store(tmp_path, "2024-1", [3.0])
    for odd in [{}, {"case": CASE, "job": "time"},
                {"case": [CASE], "job": "time", "seconds": 1.0},
                {"case": CASE, "job": "time", "seconds": "1"},
                {"case": CASE, "job": "time", "seconds": 10**400},
                {"case": CASE, "job": "time", "seconds": -1.0}]:  # fmt: skip
        directory.append(odd)
    assert launch_seconds(tmp_path) == {CASE: 3.0}


def test_without_history_the_bounds_of_the_measurement_count():
    measure = Measure(warmup_seconds=2.0, max_seconds=6.0)
    assert estimate_seconds("x", measure, {"x": 4.5}) == 4.5
    assert estimate_seconds("y", measure, {"x": 4.5}) == START_SECONDS + 2.0 + 6.0
    # Five rounds of 4.5 s and one memory launch.
    assert case_seconds(ID, measure, {ID: 4.5}) == 5 * 4.5 + START_SECONDS


@pytest.mark.parametrize(
    ("extra", "seconds"),
    [
        ({"memory": True}, 2.0),
        ({"layers": True}, 2.0 + 6.0),  # a profile is taken for max_seconds
        ({"throughput": True}, 2.0 + 6.0),
        ({"memory": True, "layers": True, "throughput": True}, 2.0 + 8.0 + 8.0),
    ],
)
def test_extra_launches_take_their_start_and_what_they_sample(extra, seconds):
    measure = Measure(rounds=3, max_seconds=6.0, **{"memory": False, **extra})
    assert START_SECONDS == 2.0
    assert case_seconds(ID, measure, {ID: 4.5}) == 3 * 4.5 + seconds
