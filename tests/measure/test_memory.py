"""Peak memory as the kernel tells it, against the allocator's own account and against itself."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.tensors import input_pool
from cspbench.backends._torch_cuda import set_precision
from cspbench.backends.spec import BACKENDS
from cspbench.core.case import Case, ModelId
from cspbench.core.statuses import Status
from cspbench.jobs.memory import MemoryRequest
from cspbench.jobs.spec import to_plain
from cspbench.measure import memory
from cspbench.runner.executor import LocalExecutor
from tests.measure.allocator import allocator_peak_bytes

MODELS = ("yolov3-tiny-prn@160", "peleenet@160")
CASES = [("yolov3-tiny-prn@320", 1), (MODELS[0], 8), (MODELS[1], 8)]
needs_linux = pytest.mark.skipif(memory.unavailable() is not None, reason=str(memory.unavailable()))


def test_status_by_hand():
    text = "Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t    300 kB\nVmRSS:\t    200 kB\n"
    assert memory.parse_status(text) == memory.Resident(200 * 1024, 300 * 1024)


#: Run in a process of its own, as a worker is: a test session's heap has room to spare.
TOLD_APART = """
import dataclasses, json
from cspbench.measure import memory

MIB = 2**20


class Growing:
    # Keeps 16 MiB at its first run and needs 64 MiB in every one.
    held = None

    def set_input(self, array):
        pass

    def run(self):
        if self.held is None:
            self.held = bytearray(b"x") * (16 * MIB)
        bytearray(b"x") * (64 * MIB)

    def close(self):
        pass


weights = []


def load():
    weights.append(bytearray(b"x") * (32 * MIB))
    return Growing()


print(json.dumps(dataclasses.asdict(memory.measure(load, [None, None]))))
"""


@needs_linux
def test_what_is_loaded_kept_and_needed_are_told_apart():
    result = subprocess.run(
        [sys.executable, "-c", TOLD_APART],
        capture_output=True, text=True, check=True,
        env={**os.environ, **memory.MALLOC_ENVIRONMENT},
    )  # fmt: skip
    found = json.loads(result.stdout)
    expected = {"loaded_bytes": 32, "retained_bytes": 16, "transient_bytes": 64,
                "peak_memory_bytes": 112}  # fmt: skip
    for name, size in expected.items():
        assert found[name] / 2**20 == pytest.approx(size, abs=1.5), name


class OnDevice:
    """A session that is not torch's, on a device: 100 bytes of weights, 30 of workspace, 50 of
    activations. Its own allocator accounts for them.
    """

    def __init__(self):
        self.now = self.most = 0
        self.ran = False
        self.take(100)

    def take(self, size):
        self.now += size
        self.most = max(self.most, self.now)

    def set_input(self, array):
        pass

    def run(self):
        self.take(50 if self.ran else 80)
        self.take(-50)
        self.ran = True

    def device_used_bytes(self):
        return self.now

    def device_peak_bytes(self):
        return self.most

    def reset_device_peak(self):
        self.most = self.now

    def close(self):
        pass


@needs_linux
def test_a_devices_weights_workspace_and_activations_are_told_by_its_own_session(monkeypatch):
    monkeypatch.setattr(memory, "process_bytes_on_device", lambda pid: 500 * (pid == os.getpid()))
    found = asdict(memory.measure(OnDevice, [None, None]))
    by_device = {name: size for name, size in found.items() if name.startswith("device_") and size}
    assert by_device == {
        "device_peak_bytes": 180, "device_first_peak_bytes": 180, "device_loaded_bytes": 100,
        "device_retained_bytes": 30, "device_transient_bytes": 50, "device_process_bytes": 500,
    }  # fmt: skip


class Autotuned(OnDevice):
    """Tries algorithms in its first run, which takes 6000 bytes for a moment."""

    def run(self):
        if not self.ran:
            self.take(6000)
            self.take(-6000)
        super().run()


class Captured(OnDevice):
    """Its activations lie in a graph's private pool, of which the allocator counts nothing."""

    def run(self):
        if not self.ran:
            self.take(30)
        self.ran = True

    def device_reserved(self):
        self.take(-7)
        return {
            "device_reserved_bytes": 400, "device_pool_bytes": 200, "device_workspace_bytes": 7,
        }  # fmt: skip


@needs_linux
def test_what_a_library_tries_in_the_first_run_is_apart_from_the_peak(monkeypatch):
    monkeypatch.setattr(memory, "taken_on_device", lambda: None)
    use = memory.measure(Autotuned, [None, None])
    assert (use.device_peak_bytes, use.device_first_peak_bytes) == (180, 6100)
    assert use.device_taken_bytes is None


class Recorded(OnDevice):
    """Records a graph in its second run: activations lie in its private pool from then on."""

    runs = 0

    def run(self):
        self.runs += 1
        if self.runs <= 2:
            self.take(50)
            self.take(-50)

    def device_reserved(self):
        return {"device_reserved_bytes": 400, "device_pool_bytes": 60 * (self.runs > 1)}


@needs_linux
def test_activations_of_a_graph_that_the_second_run_records_count_once():
    """100 bytes of weights and a pool of 60: not the 50 of the recording on top."""
    use = memory.measure(Recorded, [None, None])
    assert (use.device_peak_bytes, use.device_first_peak_bytes) == (160, 150)


@needs_linux
def test_what_a_captured_graph_keeps_in_its_pool_belongs_to_its_peak(monkeypatch):
    taken = iter([10_000, 10_900])
    monkeypatch.setattr(memory, "taken_on_device", lambda: next(taken))
    use = memory.measure(Captured, [None, None])
    assert use.device_transient_bytes == 0  # the allocator sees no activation come or go
    assert use.device_peak_bytes == 130 + 200
    assert (use.device_pool_bytes, use.device_workspace_bytes) == (200, 7)
    # Where the driver lists no processes, as in a container, what it counts as taken grew by this.
    assert use.device_taken_bytes == 900


@needs_linux
def test_a_session_that_does_not_account_for_its_device_gets_no_numbers(monkeypatch):
    """Torch's neither: they were what a session got that told a peak alone."""

    class PeakOnly:
        def set_input(self, array):
            pass

        def run(self):
            pass

        def device_peak_bytes(self):
            return 180

        def close(self):
            pass

    monkeypatch.setattr(memory, "process_bytes_on_device", lambda pid: None)
    found = asdict(memory.measure(PeakOnly, [None, None]))
    assert {size for name, size in found.items() if name.startswith("device_")} == {None}


def test_what_a_tegra_board_tells_of_a_process():
    text = (
        "CLIENT                        PROCESS      PID        SIZE\n"
        "user                     gnome-shell     2010       39772K\n"
        "user                         python3     2042      123456K\n"
        "total                                              163228K\n"
    )
    assert memory.parse_nvmap(text, 2042) == 123456 * 1024
    assert memory.parse_nvmap(text, 39772) is None
    assert memory.parse_nvmap("", 1) is None


@needs_linux
def test_a_model_that_gives_memory_back_has_retained_nothing():
    held = [bytearray(b"x") * (64 * 2**20)]

    class Shrinking:
        def set_input(self, array):
            held.clear()

        def run(self):
            pass

        def close(self):
            pass

    found = to_plain(memory.measure(Shrinking, [None, None]))
    assert found["retained_bytes"] == 0
    assert min(value for value in found.values() if isinstance(value, int)) >= 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Artifacts of the models by (model, kind, batch), and an executor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        specs = {}
        wanted = [(model, "pt2", batch) for model, batch in CASES]
        wanted.append((MODELS[0], "onnx", 8))
        for model in {model for model, _, _ in wanted}:
            identity = ModelId.parse(model)
            module = build_model(identity, 0)
            for key in wanted:
                if key[0] == model:
                    specs[key] = ArtifactSpec(identity, key[2], key[1], 0)
                    prepare(specs[key], module)
        yield specs, LocalExecutor()


def launched(made, model, backend, kind, batch):
    specs, executor = made
    request = MemoryRequest(
        Case.parse(f"{model}/{backend}/b{batch}/t1"),
        specs[model, kind, batch].path,
        device=BACKENDS.get(backend).device,
    )
    outcome = executor.launch(request, 1, 120)
    assert outcome.status is Status.OK, outcome
    assert outcome.answer["memory"]["method"] == memory.METHOD
    return outcome.answer["memory"]


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize(("model", "batch"), CASES)
def test_torchs_activations_are_those_of_its_own_allocator_within_two_percent(made, model, batch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    identity = ModelId.parse(model)
    array = torch.from_numpy(input_pool((batch, 3, *identity.input), 0, 1)[0])
    expected = allocator_peak_bytes(made[0][model, "pt2", batch].path, array)
    torch.set_num_threads(threads)
    # A few MiB may lie in memory that was freed before the run, which only lowers the peak: of a
    # small network the largest of three launches counts.
    launches = [launched(made, model, "torch-cpu", "pt2", batch) for _ in range(3 // batch or 1)]
    found = max(launches, key=lambda one: one["transient_bytes"])
    # What the allocator keeps at hand, and what the kernel has not yet added up: each processor
    # counts up to 32 pages of a process by itself (128 KiB; percpu_counter_batch of Linux >= 6.2).
    # Below a few MiB freed memory is used again, and the kernel sees no peak: peleenet@160 at
    # batch 1 (1.6 MB) cannot be told (docs/metrics.md).
    assert found["transient_bytes"] == pytest.approx(expected, rel=0.02, abs=128 * 1024)
    # Weights and the exported graph's own objects; imports would be 100 MiB.
    module = build_model(identity, 0)
    weights = sum(p.numel() * 4 for p in [*module.parameters(), *module.buffers()])
    assert weights * 0.9 < found["loaded_bytes"] < weights + 32 * 2**20


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize("backend", ["opencv-cpu", "onnxruntime"])
def test_peaks_of_other_engines_repeat_within_three_percent(made, backend):
    if BACKENDS.get(backend).available() is not None:
        pytest.skip(BACKENDS.get(backend).available())
    peaks = [
        launched(made, MODELS[0], backend, "onnx", 8)["peak_memory_bytes"] for _ in range(3)
    ]  # fmt: skip
    assert max(peaks) <= 1.03 * min(peaks)


@pytest.mark.gpu
def test_weights_and_activations_on_a_cuda_device(made):
    model, batch = MODELS[1], 8
    found = launched(made, model, "torch-cuda", "pt2", batch)
    identity = ModelId.parse(model)
    module = build_model(identity, 0)
    weights = sum(p.numel() * p.element_size() for p in [*module.parameters(), *module.buffers()])
    # The caching allocator rounds every tensor up to 512 bytes.
    tensors = len([*module.parameters(), *module.buffers()])
    assert weights <= found["device_loaded_bytes"] <= weights + 512 * tensors + 2**20
    # What one pass over a loaded model takes on top, as a test process sees it.
    program = torch.export.load(made[0][model, "pt2", batch].path)
    graph = torch.export.passes.move_to_device_pass(program, "cuda").module()
    array = torch.from_numpy(input_pool((batch, 3, *identity.input), 0, 1)[0]).cuda()
    set_precision("fp32")  # as the worker: cuDNN tries algorithms, and TF32 is off
    with torch.inference_mode():
        graph(array)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        graph(array)
    expected = torch.cuda.max_memory_allocated() - before
    # The session keeps the last outputs until the next are there; they are small.
    assert found["device_transient_bytes"] == pytest.approx(expected, rel=0.05)
    assert found["device_peak_bytes"] >= found["device_loaded_bytes"] + expected * 0.95
    if "device_process_bytes" in found:  # the driver counts the context as well
        assert found["device_process_bytes"] > found["device_peak_bytes"]
