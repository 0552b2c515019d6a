"""What an artifact is known by, where it lies, and that it is made once."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from cspbench.artifacts import cache, export
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.kinds.onnx import OPSET
from cspbench.artifacts.reference import read_reference
from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind
from cspbench.core.cache import cache_folder
from cspbench.core.case import ModelId
from cspbench.errors import InputError, Unsupported
from cspbench.models.spec import MODELS, ModelSpec


@pytest.fixture(autouse=True)
def _own_cache_and_model(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    assert "peleenet" in MODELS  # discovered, so that discovery does not meet the model below
    model = ModelSpec("m", "invented", "no paper", "open", lambda options: Two())
    monkeypatch.setitem(MODELS._entries, "m", model)


def spec(model="m@32", batch=1, kind="onnx", seed=0):
    return ArtifactSpec(ModelId.parse(model), batch, kind, seed)


def exporting(monkeypatch, function):
    """Let another function export ONNX."""
    kind = replace(ARTIFACTS.get("onnx"), export=function)
    monkeypatch.setitem(ARTIFACTS._entries, "onnx", kind)


class Two(nn.Module):
    """Two outputs of different shapes, in a dict."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        nn.init.constant_(self.conv.weight, 0.1)

    def forward(self, x):
        y = self.conv(x)
        return {"map": y, "mean": y.mean((2, 3))}


def test_whatever_changes_the_content_changes_the_key(monkeypatch):
    keys = [
        spec().key, spec(model="m@64").key, spec(model="m[gamma=0.25]@32").key, spec(batch=2).key,
        spec(kind="pt2").key, spec(seed=1).key,
    ]  # fmt: skip
    monkeypatch.setattr(cache, "models_digest", lambda: "another definition")
    keys.append(spec().key)
    monkeypatch.setattr(cache, "version", lambda package: "another torch")
    keys.append(spec().key)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    ("kind", "key"),
    [("onnx", "867bcfd241f0883a30a35a313afa890a"), ("pt2", "c3312e64435cf1f9c928a1e45c9603f3")],
)
def test_artifacts_of_earlier_versions_are_found_again(monkeypatch, kind, key):
    """Both keys were noted when a kind was still one of two words; facts may only be added."""
    monkeypatch.setattr(cache, "models_digest", lambda: "the definitions")
    monkeypatch.setattr(cache, "version", lambda package: "2.0")
    assert spec(kind=kind).key == key


def test_what_a_kind_says_of_its_exporter_is_in_the_key(monkeypatch):
    before = spec().key
    kind = replace(ARTIFACTS.get("onnx"), identity=lambda: {"opset": 18})
    monkeypatch.setitem(ARTIFACTS._entries, "onnx", kind)
    assert spec().key != before


def test_an_unknown_kind_is_named():
    with pytest.raises(InputError, match=r"unknown artifact kind 'onxx'.*did you mean 'onnx'"):
        _ = spec(kind="onxx").key


@pytest.mark.parametrize("suffix", ["npz", "sha256", "a/b", "../x", "", "TFLITE"])
def test_a_suffix_is_a_suffix_and_not_that_of_references(suffix):
    with pytest.raises(ValueError, match="suffix of artifact kind"):
        ArtifactKind("a b", "", lambda *arguments: None, suffix=suffix)


def test_a_file_of_another_kind_is_not_imported(tmp_path):
    made = ArtifactSpec(ModelId.parse(f'"onnx:{tmp_path}/a.onnx"@32'), 1, "pt2", 0)
    with pytest.raises(Unsupported, match=r"a.onnx\S* runs only on backends that read onnx files"):
        export.maker(made.model, 0)(made)


def test_the_key_is_the_same_in_every_process():
    code = (
        "from cspbench.artifacts.cache import ArtifactSpec\n"
        "from cspbench.core.case import ModelId\n"
        "import sys\n"
        "print(ArtifactSpec(ModelId.parse('m@32'), 1, 'onnx', 0).key, 'torch' in sys.modules)"
    )
    found = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert found == [spec().key, "False"]  # and a plan asks for it without importing torch


def test_the_cache_is_the_users_or_the_one_that_the_environment_names(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    assert spec().path == tmp_path / "cache" / "artifacts" / f"{spec().key}.onnx"
    assert spec(kind="pt2").reference == spec(kind="pt2").path.with_suffix(".npz")
    monkeypatch.setenv("CSPBENCH_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cspbench"


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_an_artifact_lies_beside_what_torch_answers_to_input_0(kind):
    artifact = spec(batch=2, kind=kind)
    assert not artifact.ready
    export.prepare(artifact, Two())
    assert artifact.ready
    reference = read_reference(artifact.reference)
    assert (reference.name, len(reference.outputs)) == ("torch", 3)
    outputs = reference.outputs[0]
    assert [output.shape for output in outputs] == [(2, 4, 30, 30), (2, 4)]
    # All weights are 0.1: a value is a tenth of the sum of 27 inputs, each 0.5 on average.
    assert abs(outputs[1].mean() - 27 * 0.5 * 0.1) < 0.02
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == sorted(
        [artifact.path.name, artifact.reference.name, artifact.hashes.name]
    )  # no temporary file is left


def test_an_artifact_is_made_once(monkeypatch):
    export.prepare(spec(), Two())
    made = spec().path.stat().st_mtime_ns
    exporting(monkeypatch, lambda *arguments: pytest.fail("exported again"))
    export.prepare(spec(), Two())
    assert spec().path.stat().st_mtime_ns == made


def test_a_model_without_its_reference_is_not_ready():
    """A run that was killed between the two makes both again."""
    export.prepare(spec(), Two())
    spec().reference.unlink()
    assert not spec().ready
    export.prepare(spec(), Two())
    assert spec().ready


@pytest.mark.parametrize("name", ["path", "reference", "hashes"])
def test_what_was_exchanged_in_the_cache_is_made_again(name):
    export.prepare(spec(), Two())
    files = [spec().path, spec().reference]
    made = [file.read_bytes() for file in files]
    with getattr(spec(), name).open("r+b") as file:  # a byte of a file that stays as long
        file.write(b"?")
    assert not spec().ready
    export.prepare(spec(), Two())
    assert spec().ready
    assert files[0].read_bytes() == made[0]
    assert not files[1].read_bytes().startswith(b"?")


def test_an_export_that_breaks_off_leaves_nothing(monkeypatch):
    def torn(module, example, path):
        path.write_bytes(b"half a model")
        raise KeyboardInterrupt

    exporting(monkeypatch, torn)
    with pytest.raises(KeyboardInterrupt):
        export.prepare(spec(), Two())
    assert list(spec().path.parent.iterdir()) == []


class Branches(nn.Module):
    """What an export that follows one path of the code cannot express."""

    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_what_the_exporter_cannot_express_is_unsupported_with_its_words():
    with pytest.raises(Unsupported, match=r"torch.export refuses the model: .+"):
        export.prepare(spec(kind="pt2"), Branches())


def test_onnx_has_static_shapes_the_opset_and_one_file():
    import onnx

    export.prepare(spec(batch=2), Two())
    model = onnx.load(spec(batch=2).path)
    onnx.checker.check_model(model)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [2, 3, 32, 32]


def test_weights_follow_from_the_seed():
    model = ModelId.parse("yolov3-tiny-prn@96")
    first, again = export.build_model(model, 0), export.build_model(model, 0)
    other = export.build_model(model, 1)
    assert not first.training
    one, two, three = (
        torch.cat([p.flatten() for p in m.parameters()]) for m in (first, again, other)
    )
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
