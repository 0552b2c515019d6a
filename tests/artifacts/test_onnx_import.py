"""ONNX files of strangers: the data of tensors lie beside the file, and nowhere else."""

import numpy as np
import pytest

from cspbench.artifacts.kinds.onnx import import_file

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
FIRST = np.ones((1, 3, 2, 2), dtype=np.float32)
WEIGHTS = np.arange(3, dtype=np.float32)


def make_model(path, location, *, where):
    """A network whose weights, a constant or one of a branch, are data of another file."""
    from onnx import helper

    tensor = helper.make_tensor(
        "w", onnx.TensorProto.FLOAT, (1, 3, 1, 1), WEIGHTS.tobytes(), raw=True
    )
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "12")):
        tensor.external_data.add(key=key, value=value)
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    if where == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    image = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 2, 2])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3, 2, 2])
    weights = [tensor] if where == "initializer" else []
    graph = helper.make_graph(nodes, "g", [image], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_data_beside_the_file_are_read(where, tmp_path):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    make_model(tmp_path / "a.onnx", "w.bin", where=where)
    (output,) = import_file(tmp_path / "a.onnx", tmp_path / "copy.onnx", FIRST)
    assert output[0, :, 0, 0].tolist() == WEIGHTS.tolist()
