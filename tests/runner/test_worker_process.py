"""Real worker processes with a backend that misbehaves on order: each end has its status.

The backend is that of ``tests/fake_backend.py``, installed by an entry point.
"""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from cspbench.core.statuses import Status
from cspbench.jobs.burst import BurstRequest
from cspbench.jobs.ceilings import CeilingsRequest
from cspbench.jobs.load import LoadRequest
from cspbench.jobs.prepare import PrepareRequest
from cspbench.jobs.spec import JOBS
from cspbench.jobs.time import TimeRequest
from cspbench.machine.cgroup import MemoryGroup
from cspbench.runner import executor, process
from cspbench.runner.block_request import BlockRequest
from cspbench.runner.executor import LocalExecutor
from cspbench.runner.process import WorkerProcess, worker_environment
from tests import fake_backend

OUTPUT = np.linspace(0.0, 1.0, 12, dtype=np.float32).reshape(1, 12)


@pytest.fixture(scope="module")
def fake_distribution(tmp_path_factory):
    return fake_backend.install(tmp_path_factory.mktemp("site"))


@pytest.fixture
def job(tmp_path, monkeypatch, fake_distribution):
    """Return a function: what the fake backend shall do -> a job that loads it and warms it up."""
    monkeypatch.setenv("PYTHONPATH", str(fake_distribution))
    fake_backend.write_program(tmp_path / "model.pt2")
    np.savez(tmp_path / "model.npz", OUTPUT)

    def make(do="ok", threads=1, **changes):
        option = "" if do == "ok" else f"[do={do}]"
        return {
            "job": "load",
            "case": f"any@32/fake{option}/b1/t{threads}",
            "artifact": str(tmp_path / "model.pt2"),
            "reference": str(tmp_path / "model.npz"),
            "seed": 0,
            "warmup_seconds": 0.02,
            "target_ci": 0.5,
            "max_seconds": 0.02,
            **changes,
        }

    return make


def launch(job, timeout_seconds=60.0):
    """Time the case alone, as a run does."""
    block = BlockRequest("0", (TimeRequest.from_json(job),))
    ((_, outcome),) = LocalExecutor(memory_limit_bytes=1 << 30).block(block, timeout_seconds)
    return outcome


def running_children():
    return [child for child in psutil.Process().children() if child.status() != "zombie"]


@pytest.fixture(autouse=True)
def _no_worker_survives():
    yield
    assert running_children() == []


def gone(pid):
    """True once a process ended; ending takes the kernel a moment."""
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie":
            return True
        time.sleep(0.05)
    return False


def test_a_good_launch_answers_with_everything_a_worker_can_know(job):
    outcome = launch(job(threads=3))
    assert (outcome.status, outcome.reason, outcome.log) == (Status.OK, "", "")
    answer = outcome.answer
    assert len(answer["latencies_ns"]) >= 5
    assert all(latency >= 1_000_000 for latency in answer["latencies_ns"])  # it sleeps for 1 ms
    assert answer["load_ns"] > 0
    assert answer["first_ns"] >= 1_000_000
    assert answer["stop"] in ("target_ci", "max_seconds")
    assert answer["warmup"]["count"] >= 3
    assert answer["agreement"] == {
        "max_relative_error": 0.0,
        "tolerance": 1e-4,
        "frozen_branch": False,
        "reference": "torch",
        "inputs": 1,
    }
    assert answer["interference"]["seconds"] > 0
    kind = JOBS.get("time")
    assert set(kind.flags(kind.read(answer))) <= {"not_steady", "contended"}
    assert outcome.seconds > 0
    # The worker was told its threads before anything loaded, and imported no other backend.
    assert answer["backend"] == {"heavy_modules": "", "omp_num_threads": "3", "threads": 3}


@pytest.mark.parametrize(
    ("do", "status", "reason"),
    [
        ("raise", "failed", "RuntimeError: the layer is unknown"),  # the first line; the rest: log
        ("nan", "failed", "Disagreement: an output holds NaN or infinity"),
        ("shape", "failed", "Disagreement: an output has shape (1, 11), torch's has (1, 12)"),
        ("wrong", "failed", "Disagreement: outputs differ from those of torch by 1 of the largest"),
        ("describe", "failed", "the answer cannot be stored as JSON: "),
        ("raise-oom", "oom", "RuntimeError: CUDA out of memory."),
        ("raise-tegra-oom", "oom", "RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED"),
        ("refuse-oom", "oom", "TensorRT cannot build the engine: [defaultAllocator.cpp] Error"),
        ("allocate", "oom", "Unable to allocate 2.00 GiB"),  # a worker has 1 GiB in these tests
        ("abort", "oom", "out of memory in phase 'load' (SIGABRT)"),  # its last words tell
        ("unsupported", "unsupported", "no such operator"),
        ("unavailable", "unavailable", "no such device"),
        ("exit", "crashed", "the worker exited with 7 in phase 'load'"),
        ("segfault", "crashed", "the worker was ended by SIGSEGV in phase 'load'"),
        ("sigkill", "crashed", "the worker was ended by SIGKILL in phase 'load'"),
        ("flood", "crashed", "the worker flooded its pipe with garbage"),
        ("exhaust", "oom", "in phase 'load'"),  # whichever bound comes first
    ],
)
def test_each_bad_end_has_its_status_and_reason(job, do, status, reason):
    outcome = launch(job(do))
    assert outcome.status == Status(status)
    assert reason in outcome.reason
    assert "\n" not in outcome.reason
    assert "latencies_ns" not in outcome.answer


def test_the_log_of_a_bad_end_holds_what_the_backend_printed(job):
    outcome = launch(job("raise"))
    assert "Traceback (most recent call last)" in outcome.log
    assert "and this is its second line" in outcome.log


@pytest.mark.parametrize(
    ("do", "phase"),
    [
        ("hang", "load"),
        ("hang-in-run", "warm-up"),
        ("hang-in-c", "load"),
        ("stop", "load"),
    ],
)
def test_a_hang_is_ended_by_the_time_out_that_names_the_phase(job, do, phase):
    outcome = launch(job(do, warmup_seconds=0.5), timeout_seconds=4.0)
    assert outcome.status is Status.TIMEOUT
    # A phase that is told how long to work has that long on top.
    allowed = {"warm-up": "4.5"}.get(phase, "4")
    assert outcome.reason == f"no answer within {allowed} s, in phase {phase!r}"


def test_what_a_backend_prints_is_not_an_answer(job):
    """Answers have a pipe of their own: even a printed answer is only chatter."""
    outcome = launch(job("chatter"))
    assert outcome.status is Status.OK
    assert outcome.answer["agreement"]["max_relative_error"] == 0.0


def test_garbage_in_the_pipe_of_answers_is_dropped(job):
    assert launch(job("garbage")).status is Status.OK


def test_the_last_words_of_a_chatterer_are_kept_and_its_output_is_cut(job, monkeypatch):
    monkeypatch.setattr(process, "MAX_LOG_FILE_BYTES", 1 << 20)
    monkeypatch.setattr(process, "WATCH_SECONDS", 0.02)
    sizes = []
    bound = WorkerProcess._bound_log

    def watched(self):
        bound(self)
        sizes.append(os.fstat(self._log.fileno()).st_size)

    monkeypatch.setattr(WorkerProcess, "_bound_log", watched)
    outcome = launch(job("spam"))
    assert outcome.status is Status.CRASHED
    assert outcome.log.endswith("these are the last words\n")
    assert len(outcome.log) == process.LOG_BYTES
    assert max(sizes) < 20 << 20  # of 40 MiB that it printed


def test_a_kill_by_the_kernel_for_memory_is_told_from_other_kills(job, monkeypatch):
    counts = iter([41, 42])  # before the launch, after it
    monkeypatch.setattr(process, "_oom_kills", lambda: next(counts))
    monkeypatch.setattr(MemoryGroup, "confine", lambda pid, limit: None)
    outcome = launch(job("sigkill"))
    assert outcome.status is Status.OOM
    assert outcome.reason == "the kernel's out-of-memory killer ended it in phase 'load'"


@pytest.mark.parametrize("bound", ["cgroup", "watchdog"])
def test_a_worker_that_holds_more_memory_than_allowed_is_ended(job, monkeypatch, bound):
    """Whatever kind of memory it is: the kernel counts pages, or we look at what is resident."""
    if bound == "watchdog":
        monkeypatch.setattr(MemoryGroup, "confine", lambda pid, limit: None)
    else:  # the watchdog also sees what the group does not count, and would often be first
        monkeypatch.setattr(process, "WATCH_SECONDS", 60.0)
    worker = WorkerProcess()
    try:
        outcome = worker.ask(job("exhaust", memory_limit_bytes=200 << 20), 60.0)
        if worker.memory_bound != bound:
            pytest.skip("this system lets us make no control group with a memory bound")
    finally:
        worker.close()
    assert outcome.status is Status.OOM
    assert (
        outcome.reason
        == {
            "cgroup": "the kernel's out-of-memory killer ended it in phase 'load'",
            "watchdog": "over the memory limit of 200 MiB in phase 'load'",
        }[bound]
    )


def test_memory_is_watched_also_where_no_answer_is_waited_for_long(job):
    """A burst is over in a millisecond; the limit is that of the load."""
    worker = WorkerProcess()
    try:
        load = LoadRequest.from_json(job()).to_json()
        assert worker.ask(load | {"memory_limit_bytes": 8 << 30}, 60.0).status is Status.OK
        began = time.monotonic()
        while time.monotonic() - began < 2 * process.WATCH_SECONDS:
            assert worker.ask(BurstRequest(1).to_json(), 60.0).status is Status.OK
        worker._memory_limit = 1 << 20  # as if it had grown to more than that
        outcomes = [worker.ask(BurstRequest(1).to_json(), 60.0)]
        while outcomes[-1].status is Status.OK and len(outcomes) < 10_000:
            outcomes.append(worker.ask(BurstRequest(1).to_json(), 60.0))
    finally:
        worker.close()
    assert outcomes[-1].status is Status.OOM
    assert outcomes[-1].reason == "over the memory limit of 1 MiB in phase 'sample'"


@pytest.mark.parametrize(
    ("request_", "bounded"),
    [
        (CeilingsRequest("cpu", 1), True),
        (CeilingsRequest("cuda", 1), False),
        (PrepareRequest("a@64", 0, []), True),
    ],
)
def test_private_memory_is_bounded_where_the_devices_driver_maps_none_of_it(
    monkeypatch, request_, bounded
):
    asked = []

    class Worker:
        alive = True

        def __init__(self, extra):
            pass

        def ask(self, job, timeout_seconds):
            asked.append(job)

        def close(self):
            pass

    monkeypatch.setattr(executor, "WorkerProcess", Worker)
    list(LocalExecutor(2**30).series([request_], 1))
    assert asked[0]["memory_limit_bytes"] == 2**30
    assert (asked[0].get("data_limit_bytes") == 2**30) is bounded


def test_the_launch_says_what_bounded_its_memory(job):
    assert launch(job()).notes["memory_bound"] in ("cgroup", "watchdog")
    assert launch(job("segfault")).notes["memory_bound"] in ("cgroup", "watchdog")


def test_the_kernels_count_of_kills_is_read_from_vmstat(tmp_path, monkeypatch):
    (tmp_path / "vmstat").write_text("pgfault 7\noom_kill 3\nother 1\n")
    monkeypatch.setattr(process, "_VMSTAT", tmp_path / "vmstat")
    assert process._oom_kills() == 3
    monkeypatch.setattr(process, "_VMSTAT", tmp_path / "missing")
    assert process._oom_kills() == 0


@pytest.mark.parametrize(("do", "status"), [("child", "ok"), ("child-segfault", "crashed")])
def test_what_a_worker_started_ends_with_it(job, tmp_path, do, status):
    """Also where the child holds our pipe open after its parent died: no waiting for a time-out."""
    outcome = launch(job(do), timeout_seconds=300.0)
    assert outcome.status == Status(status)
    assert gone(int((tmp_path / "model.pid").read_text()))


def test_a_worker_ends_with_the_controller(job, tmp_path):
    """The controller is killed without a chance to tidy up; its worker must not measure on."""
    script = (
        "import json, sys\n"
        "from cspbench.runner.process import WorkerProcess\n"
        "worker = WorkerProcess()\n"
        "print(worker._process.pid, flush=True)\n"
        "worker.ask(json.loads(sys.argv[1]), 300.0)\n"
    )
    controller = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(job("hang"))], stdout=subprocess.PIPE, text=True
    )
    pid = int(controller.stdout.readline())
    assert psutil.pid_exists(pid)
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    controller.stdout.close()
    assert gone(pid)


def test_one_worker_does_jobs_one_after_the_other(job):
    worker = WorkerProcess()
    try:
        first, second = worker.ask(job(), 60.0), worker.ask(job("raise"), 60.0)
        assert (first.status, second.status) == (Status.OK, Status.FAILED)
        assert worker.alive  # an error of Python is an answer, not an end
        assert worker.ask(job(), 60.0).status is Status.OK
    finally:
        worker.close()
    assert not worker.alive


def test_a_series_goes_on_in_a_new_worker_after_one_died(job):
    requests = [LoadRequest.from_json(job(do)) for do in ("segfault", "ok", "exit", "ok")]
    outcomes = list(LocalExecutor().series(requests, 60.0))
    assert [str(outcome.status) for outcome in outcomes] == ["crashed", "ok", "crashed", "ok"]


def test_threads_of_a_worker_that_prepares_do_not_spin_while_they_wait(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    before = set(psutil.Process().children())
    outcomes = LocalExecutor().series([PrepareRequest("no-such-model@64", 0, [])], 60.0)
    assert "no-such-model" in next(outcomes).answer["analysis_problem"]
    [worker] = set(psutil.Process().children()) - before
    assert worker.environ()["OMP_WAIT_POLICY"] == "PASSIVE"
    outcomes.close()


def test_asking_a_dead_worker_is_a_crash_not_an_exception(job):
    worker = WorkerProcess()
    try:
        worker.kill()
        assert worker.ask(job(), 60.0).status is Status.CRASHED
    finally:
        worker.close()


def test_an_interrupted_launch_ends_its_worker_at_once(job, monkeypatch):
    started = []

    def interrupt(self, *arguments):
        started.append(self._process.pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerProcess, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(job("hang"))
    assert gone(started[0])


def test_descriptors_are_given_back(job):
    before = len(os.listdir("/proc/self/fd"))
    for do in ("ok", "segfault"):
        launch(job(do))
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_environment_of_a_worker(monkeypatch):
    monkeypatch.setenv("OPENCV_FORCE_DNN_ENGINE", "1")  # would override the suite's engine
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")  # would override the case's precision
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")  # each launch would wait for its kernel
    monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
    for name in ("CUDA_DEVICE_ORDER", "ORT_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    environment = worker_environment(2)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        assert environment[name] == "2"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["PYTHONSAFEPATH"] == "1"
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert "OPENCV_FORCE_DNN_ENGINE" not in environment
    assert "NVIDIA_TF32_OVERRIDE" not in environment
    assert "CUDA_LAUNCH_BLOCKING" not in environment
    assert "PYTORCH_NO_CUDA_MEMORY_CACHING" not in environment
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"  # as NVML counts, so as our sensor does
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert worker_environment(1)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    assert environment["PATH"] == os.environ["PATH"]


def test_onnx_runtime_keeps_and_sends_nothing_of_its_own(tmp_path, monkeypatch):
    """From 1.29 on it keeps a database of events below the home and sends it in the background."""
    pytest.importorskip("onnxruntime")
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", "import onnxruntime as o; o.SessionOptions()"]
    subprocess.run(command, env={**worker_environment(1), **homes}, check=True, timeout=60)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_working_directory_does_not_replace_a_module(job, tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('imported from the working directory')")
    monkeypatch.chdir(tmp_path)
    assert launch(job()).status is Status.OK
