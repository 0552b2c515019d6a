"""Models that are not ours: ONNX files, exported programs, other libraries, the user's code."""

from __future__ import annotations

import pickle
import subprocess
import sys
import types
import zipfile

import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from cspbench.core.case import ModelId, Ref
from cspbench.core.options import Axis
from cspbench.errors import InputError, Unavailable, Unsupported
from cspbench.models.build import build, spec_of
from cspbench.models.code import allowing_code
from cspbench.models.sources.files import WEIGHTS, load_checkpoint
from cspbench.models.sources.onnx import stated_inputs
from cspbench.models.spec import SOURCES


class Marked:
    """Unpickling this would leave a mark."""

    def __reduce__(self):
        return (exec, ("import sys; sys.cspbench_was_here = True",))


def test_every_source_is_registered_without_torch():
    code = (
        "import sys\n"
        "from cspbench.models.spec import SOURCES\n"
        "assert SOURCES.names() == "
        "['darknet', 'exported', 'hybrid', 'onnx', 'python', 'timm', 'torchvision']\n"
        "assert SOURCES.get('python').spec('a.b:c').input == 224\n"
        "heavy = {'torch', 'cv2', 'pandas', 'matplotlib', 'timm', 'onnx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_sources_that_run_code_say_so():
    assert [source.name for source in SOURCES if source.runs_code] == ["exported", "python"]


# Options that are paths.


def test_a_path_as_an_option_survives_an_id():
    ref = Ref.of("darknet:a/b.cfg", {"weights": "c d/e.weights"})
    text = '"darknet:a/b.cfg"[weights="c d/e.weights"]'
    assert str(ref) == text
    assert ModelId.parse(text).model == ref
    # Plain text needs no quotes; text that reads as a number does.
    assert str(Ref.of("m", {"weights": "e.weights"})) == "m[weights=e.weights]"
    assert ModelId.parse(str(Ref.of("m", {"weights": "12"}))).model.options == (("weights", "12"),)
    with pytest.raises(InputError, match='a closing "'):
        ModelId.parse('m[weights="a]')


@given(st.text(st.characters(exclude_categories=["C"], exclude_characters='"'), max_size=50))
def test_any_path_survives_an_id(path):
    model = Ref.of("m", {"weights": path})
    assert ModelId.parse(str(model)).model == model


def test_the_axis_of_paths():
    assert isinstance(WEIGHTS, Axis)
    assert WEIGHTS.check("a/b c.pt") == "a/b c.pt"
    for wrong in (3, 'a"b', "a\nb", "\x1b[0m"):
        with pytest.raises(ValueError, match="weights must be printable text"):
            WEIGHTS.check(wrong)


# ONNX files.


def onnx_file(path, shape=(1, 3, 32, 32), weights_as_inputs=False):
    """One convolution; ``weights_as_inputs`` lists its weight as an input before the image."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    weight = helper.make_tensor("w", TensorProto.FLOAT, (2, 3, 1, 1), [0.5] * 6)
    inputs = [image]
    if weights_as_inputs:
        inputs.insert(0, helper.make_tensor_value_info("w", TensorProto.FLOAT, (2, 3, 1, 1)))
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["image", "w"], ["y"])
    graph = helper.make_graph([node], "g", inputs, [out], [weight])
    onnx.save(helper.make_model(graph), path)
    return path


def test_onnx_shape_is_read_without_the_onnx_package(tmp_path):
    def shape(*arguments, **options):
        [one] = stated_inputs(onnx_file(tmp_path / "a.onnx", *arguments, **options))
        assert (one.name, one.dtype) == ("image", "float32")
        return one.shape

    assert shape() == (1, 3, 32, 32)
    assert shape(("n", 3, None, "w")) == ("n", 3, None, "w")
    assert shape(weights_as_inputs=True) == (1, 3, 32, 32)
    assert shape((1, 3, -1, 0)) == (1, 3, None, None)  # as some exporters write an open size


def test_onnx_spec(tmp_path):
    file = onnx_file(tmp_path / "a.onnx")
    source = SOURCES.get("onnx")
    spec = source.spec(str(file))
    assert (spec.size, spec.fixed, spec.batch) == ((32, 32), (32, 32), 1)
    assert source.artifact == "onnx"
    assert source.files(str(file), {}) == (file,)
    onnx_file(file, ("n", 3, "h", "w"))
    spec = source.spec(str(file))
    assert (spec.size, spec.fixed, spec.batch) == (None, (None, None), None)
    with pytest.raises(Unsupported, match="has no torch module"):
        build(f'"onnx:{file}"')


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 8, 20_000), "its input is 1x3x8x20000; only sides of 1 to 16384"),
        ((1, 10**9, 8, 8), "its input 'image' has the size 1x1000000000x8x8"),
        (None, "does not state how many axes 'image' has"),
    ],
)
def test_onnx_inputs_that_cannot_be_made(shape, message, tmp_path):
    file = onnx_file(tmp_path / "a.onnx", shape)
    with pytest.raises(InputError, match=message):
        spec_of(f'"onnx:{file}"')


@settings(max_examples=200)
@given(data=st.data())
def test_damaged_onnx_files(data, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    whole = bytearray(onnx_file(folder / "whole.onnx").read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    file = folder / "damaged.onnx"
    file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        spec = SOURCES.get("onnx").spec(str(file))
    except InputError:
        return
    assert spec.size is None or min(spec.size) >= 1


# Exported programs.


@pytest.fixture
def program(tmp_path):
    """A convolution as torch.export writes it, and the module."""
    module = nn.Conv2d(3, 2, 3).eval()
    torch.export.save(torch.export.export(module, (torch.rand(1, 3, 16, 16),)), tmp_path / "a.pt2")
    return tmp_path / "a.pt2", module


def test_exported_program(program):
    file, module = program
    spec = spec_of(f'"exported:{file}"')
    assert (spec.size, spec.fixed, spec.batch) == ((16, 16), (16, 16), 1)
    with pytest.raises(InputError, match="needs --allow-code"):
        SOURCES.get("exported").build(str(file), {})
    x = torch.rand(1, 3, 16, 16)
    with allowing_code():
        loaded = SOURCES.get("exported").build(str(file), {})
    assert torch.allclose(loaded(x), module(x))


def test_damaged_programs(tmp_path):
    file = tmp_path / "a.pt2"
    file.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="is not a readable exported program"):
        spec_of(f'"exported:{file}"')
    for text, message in (
        ("[" * 100_000, "is not a readable exported program"),
        ("{}", "does not state its inputs"),
        ("[1]", "does not state its inputs"),
    ):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a/models/model.json", text)
        with pytest.raises(InputError, match=message):
            spec_of(f'"exported:{file}"')
    with pytest.raises(InputError, match="there is no such file"):
        spec_of(f'"exported:{tmp_path / "b.pt2"}"')


# Other libraries.


def test_a_missing_library_is_an_answer(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for library in ("timm", "torchvision"):
        assert SOURCES.get(library).available() == (
            f"{library} is not installed (pip install {library})"
        )
        with pytest.raises(Unavailable, match=f"{library} is not installed"):
            build(f"{library}:resnet50")


@pytest.fixture
def timm(monkeypatch):
    """A stand-in with timm's two functions that the source uses."""
    fake = types.ModuleType("timm")
    fake.list_models = lambda: ["cspresnet50", "resnet50"]
    fake.create_model = lambda name, pretrained: nn.Conv2d(3, 2, 1)
    fake.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "timm", fake)
    return fake


def test_timm(timm, tmp_path):
    assert SOURCES.get("timm").available() is None
    before = torch.random.get_rng_state()
    first, second = build("timm:cspresnet50"), build("timm:cspresnet50")
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(InputError, match="timm has no model 'cspresnet5'"):
        build("timm:cspresnet5")
    torch.save({"weight": torch.ones(2, 3, 1, 1), "bias": torch.zeros(2)}, tmp_path / "w.pth")
    loaded = build(f'timm:resnet50[weights="{tmp_path / "w.pth"}"]')
    assert loaded.weight.unique().tolist() == [1.0]


def test_a_library_that_cannot_be_imported_here(timm):
    def fail(name, pretrained):
        raise ImportError("built for another torch")

    timm.create_model = fail
    with pytest.raises(Unavailable, match="timm cannot be imported: built for another torch"):
        build("timm:resnet50")


def test_torchvision_names(monkeypatch):
    package, models = types.ModuleType("torchvision"), types.ModuleType("torchvision.models")
    package.__spec__ = types.SimpleNamespace()
    models.list_models = lambda: ["resnet50"]
    models.get_model = lambda name, weights: nn.Conv2d(3, 1, 1)
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    assert isinstance(build("torchvision:resnet50"), nn.Conv2d)
    with pytest.raises(InputError, match="torchvision has no model 'vgg'"):
        build("torchvision:vgg")
    with pytest.raises(InputError, match="must name a model of torchvision"):
        spec_of('"torchvision:a b"')


# The user's code.


@pytest.fixture
def user_code(tmp_path, monkeypatch):
    """A module in the working directory that leaves a mark when it is imported."""
    (tmp_path / "mine_for_test.py").write_text(
        "import sys\n"
        "import torch\n"
        "sys.cspbench_was_here = True\n"
        "def net():\n    return torch.nn.Conv2d(3, 2, 1)\n"
        "def text():\n    return 'no module'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("mine_for_test", None)
    vars(sys).pop("cspbench_was_here", None)


def test_python_source_needs_leave(user_code):
    name = "python:mine_for_test:net"
    assert spec_of(name).input == 224
    with pytest.raises(InputError, match=r"python:mine_for_test:net runs code .* --allow-code"):
        build(name)
    assert not hasattr(sys, "cspbench_was_here")
    with allowing_code(False), pytest.raises(InputError, match="--allow-code"):
        build(name)
    with allowing_code():
        assert torch.equal(build(name).weight, build(name).weight)
    assert hasattr(sys, "cspbench_was_here")
    with pytest.raises(InputError, match="--allow-code"):
        build(name)


def test_python_source_mistakes(user_code):
    with pytest.raises(InputError, match=r"must be written net\.py:factory or python:"):
        spec_of("python:mine_for_test")
    with allowing_code():
        with pytest.raises(InputError, match="has no attribute 'nett'"):
            build("python:mine_for_test:nett")
        with pytest.raises(InputError, match="No module named 'not_mine_for_test'"):
            build("python:not_mine_for_test:net")
        with pytest.raises(InputError, match="returned str, not a torch module"):
            build("python:mine_for_test:text")


def test_files_that_define_a_model(user_code):
    (user_code / "w.pt").write_bytes(b"")
    files = SOURCES.get("python").files("mine_for_test:net", {"weights": "w.pt"})
    assert [file.name for file in files] == ["mine_for_test.py", "w.pt"]
    assert not hasattr(sys, "cspbench_was_here")


def test_weights_never_run_code(tmp_path):
    module = nn.Conv2d(3, 2, 1)
    torch.save({"weight": Marked()}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps({"weight": Marked()}, protocol=2))
    torch.save([1], tmp_path / "c.pt")
    torch.save({"weight": torch.ones(9, 3, 1, 1), "bias": torch.zeros(2)}, tmp_path / "d.pt")
    for name, message in (
        ("a.pt", "is not a checkpoint of plain tensors"),
        ("b.pt", "is not a checkpoint of plain tensors"),
        ("c.pt", "contains a list, not a state dict"),
        ("d.pt", "does not fit the model .*size mismatch for weight"),
    ):
        with pytest.raises(InputError, match=message):
            load_checkpoint(module, tmp_path / name)
    assert not hasattr(sys, "cspbench_was_here")


def compressed(source, target):
    """The same archive, its members as small as can be."""
    with (
        zipfile.ZipFile(source) as plain,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as small,
    ):
        for member in plain.infolist():
            small.writestr(member.filename, plain.read(member))
    return target


def test_a_checkpoint_that_would_become_far_larger_is_not_loaded(tmp_path, monkeypatch):
    module = nn.Linear(1000, 1000)
    torch.save({name: torch.zeros_like(v) for name, v in module.state_dict().items()},
               tmp_path / "zeros.pt")  # fmt: skip
    load_checkpoint(module, tmp_path / "zeros.pt")  # four megabytes that are four megabytes
    bomb = compressed(tmp_path / "zeros.pt", tmp_path / "bomb.pt")
    assert bomb.stat().st_size < 50_000
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(
        InputError, match=r"bomb\.pt: its .* bytes would become .* store it uncompr"
    ):
        load_checkpoint(module, bomb)


def test_a_checkpoint_that_is_compressed_as_weights_can_be_is_loaded(tmp_path):
    module, other = nn.Linear(100, 100), nn.Linear(100, 100)
    torch.save(other.state_dict(), tmp_path / "a.pt")
    load_checkpoint(module, compressed(tmp_path / "a.pt", tmp_path / "b.pt"))
    assert torch.equal(module.weight, other.weight)


@pytest.mark.parametrize(
    ("method", "part", "said"),
    [
        (zipfile.ZIP_DEFLATED, "[],", "store it uncompressed"),
        (zipfile.ZIP_STORED, "[],", "its graph has more than"),
        (zipfile.ZIP_STORED, "0,", "its graph has more than"),
    ],
)
def test_a_program_whose_graph_would_become_far_larger_is_not_parsed(tmp_path, method, part, said):
    text = "[" + part * (9_000_000 // len(part)) + "0]"
    with zipfile.ZipFile(tmp_path / "a.pt2", "w", method) as archive:
        archive.writestr("a/models/model.json", text)
    with pytest.raises(InputError, match=said):
        spec_of(f'"exported:{tmp_path / "a.pt2"}"')
