"""What an artifact is known by, where it lies, and that it is made once."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from cspbench.artifacts import cache, export
from cspbench.artifacts.cache import ArtifactSpec, cache_folder
from cspbench.core.case import ModelId
from cspbench.errors import Unsupported


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))


def spec(model="m@32", batch=1, kind="onnx", seed=0):
    return ArtifactSpec(ModelId.parse(model), batch, kind, seed)


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
    monkeypatch.setattr(cache, "_version", lambda package: "another torch")
    keys.append(spec().key)
    assert len(set(keys)) == len(keys)


def test_the_key_is_the_same_in_every_process():
    code = (
        "from cspbench.artifacts.cache import ArtifactSpec\n"
        "from cspbench.core.case import parse_model_id\n"
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
    assert not artifact.exists
    export.prepare(artifact, Two())
    assert artifact.exists
    with np.load(artifact.reference) as stored:
        outputs = [stored[name] for name in stored.files]
    assert [output.shape for output in outputs] == [(2, 4, 30, 30), (2, 4)]
    # All weights are 0.1: a value is a tenth of the sum of 27 inputs, each 0.5 on average.
    assert abs(outputs[1].mean() - 27 * 0.5 * 0.1) < 0.02
    assert sorted(path.name for path in artifact.path.parent.iterdir()) == sorted(
        [artifact.path.name, artifact.reference.name]
    )  # no temporary file is left


def test_an_artifact_is_made_once(monkeypatch):
    export.prepare(spec(), Two())
    made = spec().path.stat().st_mtime_ns
    monkeypatch.setattr(export, "export_onnx", lambda *arguments: pytest.fail("exported again"))
    export.prepare(spec(), Two())
    assert spec().path.stat().st_mtime_ns == made


def test_a_model_without_its_reference_is_not_ready():
    """The reference is written last: a run that was killed between the two makes both again."""
    export.prepare(spec(), Two())
    spec().reference.unlink()
    assert not spec().exists
    export.prepare(spec(), Two())
    assert spec().exists


def test_an_export_that_breaks_off_leaves_nothing(monkeypatch):
    def torn(module, example, path):
        path.write_bytes(b"half a model")
        raise KeyboardInterrupt

    monkeypatch.setattr(export, "export_onnx", torn)
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
    assert [entry.version for entry in model.opset_import if not entry.domain] == [cache.OPSET]
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
