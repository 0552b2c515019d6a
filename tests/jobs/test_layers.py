"""Times of layers: what a launch can hold of them."""

from types import SimpleNamespace

import onnx
import pytest
from onnx import TensorProto, helper

from cspbench.backends.spec import LayerProfile, LayerTime
from cspbench.errors import Unsupported
from cspbench.jobs.layers import MOST_LISTS, layer_times
from cspbench.jobs.spec import to_plain
from cspbench.store.lines import decode_line, encode_line


@pytest.fixture
def request_(tmp_path):
    """A case of a network of one node."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1,)) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    backend = SimpleNamespace(artifact="onnx")
    return SimpleNamespace(backend=backend, artifact=tmp_path / "a.onnx")


def profile_of(count):
    entries = tuple(LayerTime(f"layer{number}", "Op", 5, ("a",)) for number in range(count))
    return LayerProfile(entries, 5 * count, 1, "a clock")


#: An entry is a list with the list of its nodes in it, a node one with two.
MOST = (MOST_LISTS - 3) // 2


def test_the_most_entries_that_are_kept_are_read_again(request_):
    found = layer_times(request_, profile_of(MOST))
    line = encode_line({"job": "layers", "layers": to_plain(found)}).rstrip(b"\n")
    assert len(decode_line(line)["layers"]["entries"]) == MOST


def test_more_entries_are_refused_with_their_number(request_):
    with pytest.raises(Unsupported, match=r"an inference has 8,999 entries in a clock, too many"):
        layer_times(request_, profile_of(MOST + 1))
