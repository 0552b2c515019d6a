"""Data files of ONNX files: part of the model's identity, and never another file of the machine."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cspbench.analysis.onnx_fold import infer
from cspbench.artifacts import export
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.tensors import input_tensor
from cspbench.cli.main import main
from cspbench.core.case import ModelId
from cspbench.errors import InputError, Unsupported
from cspbench.models.sources import onnx_data
from cspbench.models.sources.onnx_data import data_files

WEIGHTS = np.arange(6, dtype=np.float32)


def outside(location="w.bin", name="w", shape=(2, 3, 1, 1), **entries):
    """A tensor whose values lie in a file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape,
                         data_location=TensorProto.EXTERNAL)  # fmt: skip
    for key, value in {"location": location, "length": "24", **entries}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    return tensor


def model_of(path, *initializers, nodes=(), functions=()):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 32, 32))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    conv = helper.make_node("Conv", ["image", "w"], ["y"])
    graph = helper.make_graph([*nodes, conv], "g", [image], [out], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              functions=list(functions))  # fmt: skip
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for models, with weights beside a model and a secret outside."""
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "secret").write_bytes(WEIGHTS.tobytes())
    made = tmp_path / "models"
    made.mkdir()
    (made / "w.bin").write_bytes(WEIGHTS.tobytes())
    monkeypatch.chdir(made)
    return made


def spec_of(path):
    return ArtifactSpec(ModelId.parse(f'"onnx:{path}"@32'), 1, "onnx", 0)


def test_a_tensor_is_read_from_its_place(folder):
    (folder / "below").mkdir()
    (folder / "below/all.bin").write_bytes(b"head" + WEIGHTS.tobytes() + b"tail")
    path = model_of(folder / "a.onnx", outside("below/all.bin", offset="4"))
    assert data_files(path) == ((folder / "below/all.bin").resolve(),)
    spec = spec_of(path)
    export.maker(spec.model, 0)(spec)
    (tensor,) = onnx.load(spec.path, load_external_data=False).graph.initializer
    assert tensor.data_location == TensorProto.DEFAULT
    assert tensor.raw_data == WEIGHTS.tobytes()
    with np.load(spec.reference) as stored:  # what ONNX Runtime makes of these weights
        image = input_tensor((1, 3, 32, 32), 0, 0)
        expected = np.einsum("oi,nihw->nohw", WEIGHTS.reshape(2, 3), image)
        np.testing.assert_allclose(stored["arr_0"], expected, rtol=1e-5)


def test_other_weights_are_another_artifact(folder):
    path = model_of(folder / "a.onnx", outside())
    before = spec_of(path).key
    assert spec_of(path).key == before
    (folder / "new").write_bytes(WEIGHTS[::-1].tobytes())
    (folder / "new").replace(folder / "w.bin")  # of the same size
    assert spec_of(path).key != before


def link(folder):
    (folder / "w.bin").unlink()
    (folder / "w.bin").symlink_to("../secret")


def linked_folder(folder):
    (folder / "below").symlink_to("..")
    return "below/secret"


def hard_link(folder):
    (folder / "w.bin").unlink()
    os.link(folder.parent / "secret", folder / "w.bin")


def pipe(folder):
    (folder / "w.bin").unlink()
    os.mkfifo(folder / "w.bin")


def directory(folder):
    (folder / "below").mkdir()
    return "below"


ATTACKS = {
    "absolute": (lambda folder: str(folder.parent / "secret"), "lies outside of its folder"),
    "up": (lambda folder: "../secret", "lies outside of its folder"),
    "up_inside": (lambda folder: "x/../../secret", "lies outside of its folder"),
    "windows": (lambda folder: "..\\secret", "lies outside of its folder"),
    "drive": (lambda folder: "C:/secret", "lies outside of its folder"),
    "null": (lambda folder: "w.bin\0", "lies outside of its folder"),
    "link": (link, "is a link that leads out of its folder"),
    "linked_folder": (linked_folder, "is a link that leads out of its folder"),
    "hard_link": (hard_link, "has another name somewhere"),
    "pipe": (pipe, "is not a regular file"),
    "directory": (directory, "is not a regular file"),
    "memory": (lambda folder: "*/_ORT_MEM_ADDR_/*", "cannot be read (No such file"),
    "missing": (lambda folder: "none.bin", "cannot be read (No such file"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_model_that_names_another_file_is_refused_before_anything_runs(folder, capsys, attack):
    prepare, why = ATTACKS[attack]
    location = prepare(folder) or "w.bin"
    path = model_of(folder / "a.onnx", outside(location))
    suite = folder / "suite.yaml"
    suite.write_text(f"name: a\nmatrix: {{model: ['onnx:{path.name}'], backend: [opencv-cpu]}}\n")
    for command in (["plan"], ["run", "-q", "--no-report", "--results", str(folder / "results")]):
        with pytest.raises(SystemExit) as end:
            main([command[0], str(suite), *command[1:]])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.onnx: its data file" in line
        assert why in line
    assert not (folder / "results").exists()


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ({"offset": "1"}, "takes the bytes 1 to 25 of its data file 'w.bin', which has 24"),
        ({"offset": "25", "length": None}, "takes the bytes 25 to 24"),
        ({"length": "99999999999"}, "takes the bytes 0 to 99999999999"),
        ({"offset": "-1"}, "is damaged"),
        ({"length": "1e3"}, "is damaged"),
        ({"offset": "9" * 30}, "is damaged"),
        ({"location": ""}, "is damaged"),
    ],
)
def test_places_outside_of_the_data_file(folder, entries, sentence):
    path = model_of(folder / "a.onnx", outside(**entries))
    with pytest.raises(InputError, match=sentence):
        spec_of(path).key  # noqa: B018


def test_a_place_that_is_stated_twice_is_not_clear(folder):
    tensor = outside()
    tensor.external_data.add(key="location", value="../secret")
    with pytest.raises(InputError, match="is not clear"):
        data_files(model_of(folder / "a.onnx", tensor))


def branch(tensor):
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    out = helper.make_tensor_value_info("c", TensorProto.FLOAT, None)
    graph = helper.make_graph([constant], "branch", [], [out])
    return helper.make_node("If", ["b"], ["z"], then_branch=graph, else_branch=graph)


def sparse(tensor):
    indices = helper.make_tensor("i", TensorProto.INT64, (6,), range(6))
    values = helper.make_sparse_tensor(tensor, indices, (6,))
    return helper.make_node("Constant", [], ["s"], sparse_value=values)


def test_tensors_outside_are_found_wherever_a_model_can_hold_them(folder):
    """In a node, a branch of a node, a sparse tensor, a list, a function, a training graph."""
    names = ("node", "branch", "sparse", "list", "function", "training", "plain")
    for name in names:
        (folder / name).write_bytes(WEIGHTS.tobytes())
    tensors = {name: outside(name, name) for name in names}
    many = helper.make_node("Other", [], ["m"], domain="x")
    many.attribute.add(name="all", type=onnx.AttributeProto.TENSORS).tensors.append(tensors["list"])
    nodes = [
        helper.make_node("Constant", [], ["k"], value=tensors["node"]), branch(tensors["branch"]),
        sparse(tensors["sparse"]), many,
    ]  # fmt: skip
    function = helper.make_function(
        "x", "f", [], ["r"], [helper.make_node("Constant", [], ["r"], value=tensors["function"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    path = model_of(folder / "a.onnx", tensors["plain"], nodes=nodes, functions=[function])
    model = onnx.load(path, load_external_data=False)
    model.training_info.add().algorithm.initializer.append(tensors["training"])
    path.write_bytes(model.SerializeToString())
    assert {file.name for file in data_files(path)} == set(names)
    onnx_data.embed(model, path)
    assert all(t.data_location == TensorProto.DEFAULT for t in onnx_data._tensors(model))
    assert len(list(onnx_data._tensors(model))) > len(names)


def test_tensors_that_share_a_large_file_do_not_fill_the_memory(folder, monkeypatch):
    monkeypatch.setattr(onnx_data, "MAX_BYTES", 2000)
    tensors = [outside(name=f"w{i}") for i in range(90)]
    (folder / "w.bin").write_bytes(bytes(24))
    path = folder / "a.onnx"
    model_of(path, outside())
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer.extend(tensors)
    with pytest.raises(Unsupported, match="has more than 1999 bytes with its data files"):
        onnx_data.embed(model, path)


def test_an_analysis_reads_no_data_file(folder, tmp_path, monkeypatch):
    """A constant's shape comes from a file: of the working directory, if it were read."""
    (folder / "shape").write_bytes(np.array([1, 2, 1024], np.int64).tobytes())
    where = tmp_path / "elsewhere"
    where.mkdir()
    (where / "shape").write_bytes(np.array([2, 1, 1024], np.int64).tobytes())
    shape = TensorProto(name="t", data_type=TensorProto.INT64, dims=[3],
                        data_location=TensorProto.EXTERNAL)  # fmt: skip
    shape.external_data.add(key="location", value="shape")
    nodes = [helper.make_node("Constant", [], ["t"], value=shape)]
    path = model_of(folder / "a.onnx", outside(), nodes=nodes)
    model = onnx.load(path, load_external_data=False)
    model.graph.node.append(helper.make_node("Reshape", ["y", "t"], ["z"]))
    path.write_bytes(model.SerializeToString())
    monkeypatch.chdir(where)
    graph = infer(model).graph
    shapes = {info.name: [dim.dim_value for dim in info.type.tensor_type.shape.dim]
              for info in (*graph.value_info, *graph.output)}  # fmt: skip
    assert shapes["y"] == [1, 2, 32, 32]
    assert not any(shapes.get("z", ()))
