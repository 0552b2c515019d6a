"""docs/adding.md: every sample works as a package of its own, found by its entry points."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
SAMPLES = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
SUITES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
GROUPS = {
    "cspbench.models": "stripes", "cspbench.necks": "flat_neck",
    "cspbench.backends": "reference_backend", "cspbench.sensors": "uptime",
    "cspbench.metrics": "depthwise", "cspbench.figures": "launches_figure",
}  # fmt: skip
#: Everything at once, because each process pays for importing torch.
CHECK = r"""
import json, sys
from pathlib import Path
import torch
from cspbench import analyze, build
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.tensors import input_pool
from cspbench.backends.spec import BACKENDS
from cspbench.figures import style
from cspbench.figures.spec import FIGURES
from cspbench.core.case import ModelId
from cspbench.measure.agreement import check_agreement
from cspbench.report.rows import case_rows
from cspbench.machine.sensors.spec import SENSORS
from tests.report.runs import demo_run
import loading, plugin

torch.set_num_threads(1)
found = {}
x = torch.zeros(1, 3, 64, 64)
found["classes"] = list(build("stripes")(x).shape)
found["heads"] = [list(map.shape) for map in build("stripes+flat@64")(x)]
found["split"] = type(build("stripes[csp.fusion=csp]").stages[0]).__name__
found["depthwise_share"] = analyze(build("mobilenet-v2"), x, cache=False).depthwise_share
y = torch.zeros(1, 16, 8, 8)
found["plugin"] = [list(plugin.Network()(y).shape), list(plugin.partial_network()(y).shape)]
model = ModelId.parse("stripes@64")
spec = ArtifactSpec(model, 1, "onnx", 0)
prepare(spec, build_model(model, 0))
session = BACKENDS.get("onnx-reference").load(spec.path, {}, 1)
session.set_input(input_pool((1, 3, 64, 64), seed=0)[0])
session.run()
found["agreement"] = check_agreement(session.outputs(), spec.reference, {})["max_relative_error"]
session.close()
found["uptime"] = SENSORS.get("uptime").open().read().counters["uptime_s"]
run = demo_run(Path(sys.argv[1]))
found["figure"] = len(style.svg_bytes(FIGURES.get("launches").draw([run]), "launches"))
found["loading"] = loading.loading(case_rows([run]))[0]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Folder with the samples as modules of one distribution, and the environment that has it."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in SAMPLES.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    points = [f"[{group}]\n{module} = {module}\n" for group, module in GROUPS.items()]
    (info / "entry_points.txt").write_text("\n".join(points))
    path = os.pathsep.join([str(folder), str(ROOT)])
    return folder, {**os.environ, "PYTHONPATH": path, "CSPBENCH_CACHE": str(folder / "cache")}


def test_the_page_holds_a_sample_of_everything():
    assert set(SAMPLES) == {*GROUPS.values(), "plugin", "loading"}


def test_the_samples_do_what_the_page_says(package, tmp_path):
    folder, environment = package
    result = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path)], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["classes"] == [1, 1000]
    assert found["heads"] == [[1, 255, 2, 2], [1, 255, 4, 4]]  # strides 32 and 16 of 64 pixels
    assert found["split"] == "CspStage"
    assert 0 < found["depthwise_share"] < 0.2
    assert found["plugin"] == [[1, 64, 8, 8]] * 2
    assert found["agreement"] < 1e-4
    assert found["uptime"] > 0
    assert found["figure"] > 5000
    assert found["loading"][2] == "12.00"  # load_ns of every launch of the demo run: 12 ms


def test_the_suite_is_planned_with_the_samples(package, tmp_path):
    _, environment = package
    [text] = SUITES
    suite = tmp_path / "stripes.yaml"
    suite.write_text(text)
    command = [sys.executable, "-m", "cspbench.cli.main", "plan", str(suite), "--format", "json"]
    result = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert [case["id"] for case in json.loads(result.stdout)["cases"]] == [
        f"{model}@64/{backend}/b1/t1"
        for model in ("stripes", "stripes[csp.fusion=csp]", "stripes+flat")
        for backend in ("onnx-reference", "opencv-cpu")
    ]
