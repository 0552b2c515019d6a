"""Programs of torch.export are read as torch reads them, only faster.

The oracle is ``torch.export.load(path).module()``: the same code and the same weights, hence the
same work when it runs.
"""

import subprocess
import sys
import zipfile

import pytest
import torch
from torch import nn

from cspbench.artifacts.program import load_program
from cspbench.artifacts.program_file import ForTorchError, read_program_file
from cspbench.models.build import build


def exported(module, *inputs, path):
    with torch.no_grad():
        torch.export.save(torch.export.export(module.eval(), inputs), path)
    return path


def by_torch(path):
    return torch.export.load(path).module(check_guards=False)


def assert_same_program(path, *inputs):
    ours, theirs = read_program_file(path), by_torch(path)
    assert ours.code == theirs.code
    assert [n.name for n in ours.graph.nodes] == [n.name for n in theirs.graph.nodes]
    mine, known = ours.state_dict(), theirs.state_dict()
    assert set(mine) == set(known)
    for name, tensor in mine.items():
        assert torch.equal(tensor, known[name])
        assert (tensor.stride(), tensor.dtype) == (known[name].stride(), known[name].dtype)
    with torch.inference_mode():
        got, expected = ours(*inputs), theirs(*inputs)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("model", ["csppeleenet", "yolov3-tiny", "mobilenet-v2", "snet146"])
def test_a_network_of_the_zoo(model, tmp_path):
    size = 224 if model == "snet146" else 64
    module, example = build(model), torch.rand(1, 3, size, size)
    assert_same_program(exported(module, example, path=tmp_path / "a.pt2"), example)


class Many(nn.Module):
    """Several inputs and outputs, buffers that are stored and not, constants, types, chunks."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.read = nn.LSTM(6, 4, batch_first=True)
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)
        self.tied = nn.Linear(4, 4)
        self.tied_again = nn.Linear(4, 4)
        self.tied_again.weight = self.tied.weight
        self.register_buffer("kept", torch.arange(4.0))
        self.register_buffer("unkept", torch.ones(4, dtype=torch.float64), persistent=False)
        self.constant = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, ids, scale):
        x, _ = self.read(self.table(ids))
        x, _ = self.attend(x, x, x, need_weights=False)
        low, high = x.chunk(2, dim=-1)
        x = torch.cat([high, low], -1) + self.kept + self.unkept.to(torch.float32) * self.constant
        x = self.tied(x) + self.tied_again(x)
        x = x.masked_fill(x > 100, float("-inf")).to(memory_format=torch.contiguous_format)
        best, where = x.max(dim=-1)
        zeros = torch.zeros(2, 3, dtype=torch.int64, device="cpu")
        return {"best": best * scale, "where": (where + zeros, x[:, 0])}


def test_several_inputs_and_outputs_constants_and_types(tmp_path):
    torch.manual_seed(0)
    inputs = (torch.randint(0, 7, (2, 3)), torch.rand(()))
    assert_same_program(exported(Many(), *inputs, path=tmp_path / "a.pt2"), *inputs)


def test_a_change_of_type_changes_no_constant(tmp_path):
    inputs = (torch.randint(0, 7, (2, 3)), torch.rand(()))
    path = exported(Many(), *inputs, path=tmp_path / "a.pt2")
    ours, theirs = read_program_file(path), by_torch(path)
    for graph in (ours, theirs):
        graph.to(dtype=torch.bfloat16)
    assert dict(ours.named_buffers()).keys() == dict(theirs.named_buffers()).keys()
    constants = [node.target for node in ours.graph.nodes
                 if node.op == "get_attr" and "constant" in node.target]  # fmt: skip
    assert [getattr(ours, name).dtype for name in constants] == [torch.float32]


def test_weights_that_share_memory_still_share_it(tmp_path):
    inputs = (torch.randint(0, 7, (2, 3)), torch.rand(()))
    graph = read_program_file(exported(Many(), *inputs, path=tmp_path / "a.pt2"))
    assert graph.tied.weight.data_ptr() == graph.tied_again.weight.data_ptr()


class Counting(nn.Module):
    """Writes to a buffer, which torch's reader turns into a copy."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return x + self.count


class Open(nn.Module):
    """One axis is open."""

    def forward(self, x):
        return x.reshape(x.shape[0] * 2, -1)


def test_what_is_not_read_here_is_left_to_torch(tmp_path):
    path = tmp_path / "a.pt2"
    program = torch.export.export(Counting(), (torch.ones(2),)).run_decompositions()
    torch.export.save(program, path)
    with pytest.raises(ForTorchError, match="an output of kind buffer_mutation"):
        read_program_file(path)
    graph = load_program(path)
    assert [float(graph(torch.zeros(2))[0]) for _ in range(2)] == [1, 2]
    axis = torch.export.Dim("n", min=2, max=8)
    program = torch.export.export(Open(), (torch.ones(3, 4),), dynamic_shapes={"x": {0: axis}})
    torch.export.save(program, tmp_path / "open.pt2")
    with pytest.raises(ForTorchError):
        read_program_file(tmp_path / "open.pt2")
    assert load_program(tmp_path / "open.pt2")(torch.ones(5, 4)).shape == (10, 2)


def test_another_version_of_the_format_is_left_to_torch(tmp_path):
    path = exported(nn.ReLU(), torch.ones(2), path=tmp_path / "a.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pt2", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"major": 8', b'"major": 9'))
    with pytest.raises(ForTorchError, match="another version"):
        read_program_file(tmp_path / "b.pt2")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive"])
def test_a_damaged_file_is_left_to_torch_which_says_so(content, tmp_path):
    (tmp_path / "a.pt2").write_bytes(content)
    with pytest.raises(ForTorchError):
        read_program_file(tmp_path / "a.pt2")


def test_it_does_not_import_the_compiler(tmp_path):
    path = exported(nn.Conv2d(3, 4, 3), torch.ones(1, 3, 8, 8), path=tmp_path / "a.pt2")
    code = (
        "import sys; from pathlib import Path; "
        "from cspbench.artifacts.program import load_program; "
        f"load_program(Path({str(path)!r})); print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
