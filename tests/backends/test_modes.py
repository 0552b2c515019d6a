"""torch's modes on small exported programs: folding by hand, agreement, persisted compilation.

Modes of a CUDA device run where there is one.
"""

import gc
import importlib.util
import os
import subprocess
import sys
import typing

import numpy as np
import pytest
import torch

from cspbench.artifacts.kinds import pt2
from cspbench.artifacts.program import load_program
from cspbench.artifacts.tensors import as_list
from cspbench.backends._compiling import MODES
from cspbench.backends._torch_fold import fold_batch_norms
from cspbench.backends.precisions import PRECISIONS
from cspbench.backends.spec import (
    BACKENDS,
    Compiles,
    Warms,
    Workload,
)
from cspbench.errors import Unavailable, Unsupported
from cspbench.measure.agreement import relative_error

BATCH_NORM = torch.ops.aten.batch_norm.default


class Net(torch.nn.Module):
    """Norms behind a grouped, a biased and a shared convolution, and one behind an activation."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.first_bn = torch.nn.BatchNorm2d(8)
        self.grouped = torch.nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=True)
        self.grouped_bn = torch.nn.BatchNorm2d(8, eps=1e-3)
        self.read_twice = torch.nn.Conv2d(8, 8, 1)
        self.kept_bn = torch.nn.BatchNorm2d(8)
        self.late_bn = torch.nn.BatchNorm2d(8, affine=False)
        for norm in (self.first_bn, self.grouped_bn, self.kept_bn, self.late_bn):
            torch.nn.init.uniform_(norm.running_mean, -1, 1)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
            if norm.affine:
                torch.nn.init.uniform_(norm.weight, 0.5, 2)
                torch.nn.init.uniform_(norm.bias, -1, 1)

    def forward(self, x):
        x = torch.relu(self.first_bn(self.first(x)))
        x = self.grouped_bn(self.grouped(x))
        y = self.read_twice(x)
        x = y + self.kept_bn(y)
        return self.late_bn(torch.relu(x)), x.mean((2, 3))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The exported net, an input, and torch's outputs."""
    torch.manual_seed(0)
    net = Net().eval()
    array = torch.rand(2, 3, 16, 16)
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    pt2.export(net, array, path)
    with torch.inference_mode():
        expected = [tensor.numpy() for tensor in as_list(net(array))]
    return path, array.numpy(), expected


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The same of a convolution, its norm and an activation: one kernel to compile."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
    ).eval()
    array = torch.rand(2, 3, 16, 16)
    path = tmp_path_factory.mktemp("small") / "net.pt2"
    pt2.export(net, array, path)
    with torch.inference_mode():
        return path, array.numpy(), [net(array).numpy()]


def run(program, name, options, runs=1):
    path, array, _ = program
    session = BACKENDS.get(name).load(path, options, 1)
    for _ in range(runs):
        session.set_input(array)
        session.run()
    return session


def worst(session, program):
    return max(
        relative_error(*pair) for pair in zip(session.outputs(), program[2], strict=True)
    )  # fmt: skip


def test_folding_by_hand(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1, bias=True), torch.nn.BatchNorm2d(1, eps=0.0))
    conv, norm = net
    values = ((conv.weight, 3.0), (conv.bias, 1.0), (norm.weight, 5.0), (norm.bias, 7.0),
              (norm.running_mean, 2.0), (norm.running_var, 4.0))  # fmt: skip
    for tensor, value in values:
        torch.nn.init.constant_(tensor, value)
    path = tmp_path / "net.pt2"
    pt2.export(net.eval(), torch.ones(1, 1, 1, 1), path)
    graph = load_program(path)
    assert fold_batch_norms(graph) == 1
    # scale = 5 / sqrt(4) = 2.5; weight = 2.5 * 3 = 7.5; bias = 7 + 2.5 * (1 - 2) = 4.5.
    folded = dict(graph.named_parameters())
    assert {name: parameter.item() for name, parameter in folded.items()} == {
        "folded_0_weight": 7.5, "folded_0_bias": 4.5,
    }  # fmt: skip
    # For x = 2: (3 * 2 + 1 - 2) / 2 * 5 + 7 = 19.5 = 7.5 * 2 + 4.5.
    assert graph(torch.full((1, 1, 1, 1), 2.0)).item() == 19.5


def test_only_what_can_be_folded_is(program):
    graph = load_program(program[0])
    assert fold_batch_norms(graph) == 2  # first and grouped
    left = [node for node in graph.graph.nodes if node.target is BATCH_NORM]
    assert len(left) == 2  # its convolution is read twice; its input is an activation
    assert fold_batch_norms(graph) == 0
    with torch.inference_mode():
        outputs = graph(torch.from_numpy(program[1]))
    for output, expected in zip(outputs, program[2], strict=True):
        assert relative_error(output.numpy(), expected) < 1e-6


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("mode", ["eager", "fused"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_mode_agrees_with_torch(program, mode, layout, precision):
    options = {"mode": mode, "layout": layout, "precision": precision}
    session = run(program, "torch-cpu", options, runs=2)
    error = worst(session, program)
    assert error <= PRECISIONS.get(precision).tolerance
    if precision == "bf16":
        assert error > 1e-4  # it did compute in bfloat16
    facts = session.describe()
    assert {name: facts[name] for name in options} == options
    assert all(output.dtype == np.float32 for output in session.outputs())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["compile", "max-autotune"])
def test_compilation_agrees_on_any_input_and_its_cache_stays(small, tmp_path, monkeypatch, mode):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    torch.compiler.reset()
    backend = BACKENDS.get("torch-cpu")
    assert isinstance(backend, Compiles)
    assert backend.compiles({"mode": mode})
    assert not backend.compiles({"mode": "fused"})
    session = run(small, "torch-cpu", {"mode": mode}, runs=2)
    assert worst(session, small) <= 1e-4
    first = session.outputs()[0].copy()
    uncompiled = load_program(small[0])
    for image in (np.zeros_like(small[1]), 100 * small[1], small[1]):  # nothing of it was folded
        session.set_input(image)
        session.run()
        [expected] = as_list(uncompiled(torch.from_numpy(image)))
        assert relative_error(session.outputs()[0], expected.detach().numpy()) <= 1e-4
    assert np.array_equal(session.outputs()[0], first)  # the same input, the same result again
    made = [path for path in tmp_path.rglob("*") if path.suffix in (".so", ".cpp")]
    assert made
    # A second program from the same file finds what the first one left.
    torch.compiler.reset()
    before = {path: path.stat().st_mtime_ns for path in made}
    again = run(small, "torch-cpu", {"mode": mode})
    assert worst(again, small) <= 1e-4
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {p for p in tmp_path.rglob("*") if p.suffix in (".so", ".cpp")} == set(made)


@pytest.mark.slow
def test_what_was_compiled_ahead_agrees_and_is_found_again(small, tmp_path):
    """Each in a process of its own, as in a run: the second finds what the first one left."""
    path, array, expected = small
    np.savez(tmp_path / "case.npz", array, *expected)
    code = f"""
import sys
import numpy as np
from pathlib import Path
from cspbench.backends.spec import BACKENDS
from cspbench.measure.agreement import relative_error
array, *expected = np.load({str(tmp_path / "case.npz")!r}).values()
backend = BACKENDS.get("torch-cpu")
session = backend.load(Path({str(path)!r}), {{"mode": "aot"}}, 1)
for _ in range(2):
    session.set_input(array)
    session.run()
worst = max(map(relative_error, session.outputs(), expected))
print(worst < 1e-4, backend.compiled_from_cache())
"""
    environment = os.environ | {
        "CSPBENCH_CACHE": str(tmp_path / "cache"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "i"),
    }  # fmt: skip
    answers = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
            check=True,
        ).stdout.split()[-2:]
        for _ in range(2)
    ]  # fmt: skip
    assert answers == [["True", "False"], ["True", "True"]]


def test_what_compiles_needs_a_launch_of_its_own():
    for name in ("torch-cpu", "torch-cuda"):
        backend = BACKENDS.get(name)
        assert isinstance(backend, Compiles)
        [axis] = [axis for axis in backend.axes if axis.name == "mode"]
        assert {mode for mode in axis.choices if backend.compiles({"mode": mode})} == set(
            axis.choices
        ) - {"eager", "fused", "cudagraph", "cudagraph-eager"}


@pytest.mark.parametrize("mode", ["compile", "max-autotune", "aot"])
def test_without_a_compiler_compiled_modes_are_unavailable(program, monkeypatch, mode):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match=f"mode {mode} needs a C\\+\\+ compiler"):
        run(program, "torch-cpu", {"mode": mode})


@pytest.mark.parametrize(
    ("mode", "found", "text"),
    [("compile", (), "Triton"), ("compile", ("triton",), "C compiler: gcc"),
     ("aot", ("triton",), r"C\+\+ compiler: g\+\+")],
)  # fmt: skip
def test_what_a_compiled_mode_lacks_on_a_device(program, monkeypatch, mode, found, text):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in found or None)
    with pytest.raises(Unavailable, match=f"mode {mode} needs .*{text}"):
        BACKENDS.get("torch-cuda").load(program[0], {"mode": mode}, 1)


def test_programs_run_without_the_graphs_own_checks(program):
    graph = load_program(program[0])
    assert not [node for node in graph.graph.nodes if node.op == "call_module"]


def test_reading_a_program_quickly_changes_nothing_else(program):
    hints, collecting = typing.get_type_hints, gc.isenabled()
    ours = load_program(program[0])
    assert (typing.get_type_hints, gc.isenabled()) == (hints, collecting)
    plain = torch.export.load(program[0]).module()
    ours_weights, plain_weights = ours.state_dict(), plain.state_dict()
    assert ours_weights.keys() == plain_weights.keys()
    assert all(torch.equal(ours_weights[name], plain_weights[name]) for name in plain_weights)
    found = [[str(node.target) for node in graph.graph.nodes if "aten" in str(node.target)]
             for graph in (ours, plain)]  # fmt: skip
    assert found[0] == found[1] != []


def test_nodes_of_a_program_are_its_operators_in_order(program):
    nodes = pt2.nodes(program[0])
    assert [node.op for node in nodes[:3]] == [
        "aten.conv2d.default", "aten.batch_norm.default", "aten.relu.default",
    ]  # fmt: skip
    assert [node.producers for node in nodes[:3]] == [(), (0,), (1,)]


@pytest.mark.parametrize("mode", ["eager", "fused"])
def test_warming_imports_what_loading_and_running_need(program, mode):
    """In a fresh process: what a first inference still imports would count as the model's."""
    path, _, _ = program
    code = f"""
import sys
import numpy as np
from pathlib import Path
from cspbench.backends.spec import BACKENDS
backend = BACKENDS.get("torch-cpu")
backend.warm({{"mode": {mode!r}}})
known = set(sys.modules)
session = backend.load(Path({str(path)!r}), {{"mode": {mode!r}}}, 1)
session.set_input(np.zeros((2, 3, 16, 16), np.float32))
session.run()
print(*sorted(set(sys.modules) - known))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    later = [name for name in done.stdout.split() if not name.startswith("cspbench")]
    assert later == []


def test_both_torch_backends_warm():
    for name in ("torch-cpu", "torch-cuda"):
        assert isinstance(BACKENDS.get(name), Warms)


def test_a_flush_is_refused_where_none_would_happen(program):
    backend, array = BACKENDS.get("torch-cuda"), np.zeros((2, 3, 16, 16), np.float32)
    with pytest.raises(Unsupported, match="scope inference"):
        backend.load(program[0], {"flush_l2": True, "scope": "pipeline"}, 1)
    with pytest.raises(Unsupported, match="overlap"):
        backend.throughput(Workload(program[0], {"flush_l2": True}, 1, [array], 0.1))


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16"])
def test_every_cuda_mode_agrees_and_tells_device_times(program, mode, precision):
    if BACKENDS.get("torch-cuda").compiles({"mode": mode}) and precision != "fp32":
        pytest.skip("one compilation is enough")
    session = run(program, "torch-cuda", {"mode": mode, "precision": precision}, runs=5)
    assert worst(session, program) <= PRECISIONS.get(precision).tolerance
    # Another input gets another answer: also a captured graph reads what was put in.
    before = session.outputs()
    session.set_input(program[1][::-1].copy())
    session.run()
    assert not np.array_equal(before[0], session.outputs()[0])
    session.stage([program[1]])
    session.choose(0)
    times = session.device_times(3)
    assert 0 < times["device_ns"] <= 1.02 * times["span_ns"] < 1e9
    assert times["transfer_ns"] > 0
    facts = session.describe()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    assert facts["device_uuid"] == str(torch.cuda.get_device_properties(0).uuid), visible
    session.close()
