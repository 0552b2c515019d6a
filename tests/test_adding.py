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
#: Module -> group. A kind of artifact in a backend's file needs no entry point of its own.
GROUPS = {
    "stripes": "cspbench.models", "flat_neck": "cspbench.necks",
    "reference_backend": "cspbench.backends", "fx_backend": "cspbench.backends",
    "w8_precision": "cspbench.precisions", "numpy_device": "cspbench.devices",
    "uptime": "cspbench.sensors", "depthwise": "cspbench.metrics", "retained": "cspbench.rules",
    "launches_figure": "cspbench.figures", "loading": "cspbench.sections",
    "reload": "cspbench.jobs",
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
from cspbench.jobs.spec import JOBS
from cspbench.jobs.worker import perform
from cspbench.measure import ceilings
from cspbench.measure.agreement import check_agreement
from cspbench.report.page import render
from cspbench.machine.sensors.spec import SENSORS
from cspbench.views.layer_times import layer_time_rows
from tests.report.runs import demo_run
import plugin

torch.set_num_threads(1)
found = {}
x = torch.zeros(1, 3, 64, 64)
found["classes"] = list(build("stripes")(x).shape)
found["heads"] = [list(map.shape) for map in build("stripes+flat@64")(x)]
found["split"] = type(build("stripes[csp.fusion=csp]").stages[0]).__name__
found["depthwise_share"] = analyze(build("mobilenet-v2"), x).depthwise_share
y = torch.zeros(1, 16, 8, 8)
found["plugin"] = [list(plugin.Network()(y).shape), list(plugin.partial_network()(y).shape)]
model = ModelId.parse("stripes@64")
spec = ArtifactSpec(model, 1, "onnx", 0)
prepare(spec, build_model(model, 0))
session = BACKENDS.get("onnx-reference").load(spec.path, {}, 1)
session.set_input(input_pool((1, 3, 64, 64), seed=0)[0])
session.run()
found["agreement"] = check_agreement(session.outputs(), spec.reference).max_relative_error
session.close()
fx = ArtifactSpec(model, 1, "fx", 0)
found["fx"] = [fx.key != spec.key, fx.path.suffix]
job = {"job": "prepare", "model": "stripes@64", "seed": 0,
       "artifacts": [{"batch": 1, "kind": "fx", "key": fx.key}]}
prepared = perform(job, lambda phase: None)
found["fx"] += [prepared["status"], prepared.get("unsupported", {})]
job = {"case": "stripes@64/fx[precision=w8]/b1/t1", "seed": 0, "artifact": str(fx.path),
       "reference": str(fx.reference), "warmup_seconds": 0.1, "target_ci": 0.5, "max_seconds": 0.1}
found["w8"] = perform({"job": "load", **job}, lambda phase: None)["agreement"]
profile = JOBS.get("layers").read(perform({"job": "layers", **job}, lambda phase: None)).layers
layers = analyze(build("stripes"), x, cache=False).layers
owned = [index for row in layer_time_rows("case", profile, layers) for index in row["index"]]
found["joined"] = [{layer.kind for layer in layers if layer.index in owned} >= {"conv", "norm"},
                   sum(layer.kind == "conv" for layer in layers if layer.index in owned)]
ceilings.TRIES, ceilings.TRY_SECONDS, ceilings.DEFAULT_WORKING_SET = 1, 0.001, 2**20
measured = perform({"job": "ceilings", "device": "numpy", "threads": 1}, lambda phase: None)
found["ceilings"] = measured["ceilings"]
found["uptime"] = SENSORS.get("uptime").open().read().counters["uptime_s"]
run = demo_run(Path(sys.argv[1]))
found["cases"] = [run.cases.columns[-2], bool(run.cases["depthwise_share"].notna().any())]
found["figure"] = len(style.svg_bytes(FIGURES.get("launches").draw([run]), "launches"))
found["page"] = render([run])
print(json.dumps(found))
"""


GATED = """\
name: gated
matrix: {model: [resnet10], input: 64, backend: [opencv-cpu]}
gate: {depthwise_share: 10%, retained_bytes: 99%}
"""
COMMAND = [sys.executable, "-m", "cspbench.cli.main"]


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """Folder with the samples as modules of one distribution, and the environment that has it."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in SAMPLES.items():
        (folder / f"{name}.py").write_text(text)
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    groups = {}
    for module, group in GROUPS.items():
        groups.setdefault(f"[{group}]", []).append(f"{module} = {module}")
    text = "\n".join(line for group, lines in groups.items() for line in (group, *lines))
    (info / "entry_points.txt").write_text(text)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return folder, {**os.environ, "PYTHONPATH": path, "CSPBENCH_CACHE": str(folder / "cache")}


def test_the_page_holds_a_sample_of_everything():
    assert set(SAMPLES) == {*GROUPS, "plugin"}


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
    assert found["cases"] == ["depthwise_share", True]  # the demo run is made with the metric
    assert found["plugin"] == [[1, 64, 8, 8]] * 2
    assert found["agreement"] < 1e-4
    assert found["fx"] == [True, ".fx", "ok", {}]
    assert found["w8"]["tolerance"] == 0.2
    assert 1e-4 < found["w8"]["max_relative_error"] < 0.2  # too far for fp32
    assert found["joined"] == [True, 10]  # stem, two in each of four stages, classifier
    assert found["ceilings"]["name"] == "numpy"
    assert found["ceilings"]["gflops"].keys() == {"fp32"}
    assert found["ceilings"]["bandwidth_gbs"].keys() == {"copy", "read", "triad"}
    assert min(found["ceilings"]["gflops"]["fp32"], found["ceilings"]["overhead_us"]) > 0
    assert found["uptime"] > 0
    assert found["figure"] > 5000
    assert 'id="fig-launches"' in found["page"]
    assert '<a href="#loading">Loading</a>' in found["page"]
    [section] = re.findall('<section id="loading".*?</section>', found["page"], re.DOTALL)
    assert section.count('<td class="num main">12.00</td>') == 7, "load_ns of every launch: 12 ms"


@pytest.fixture(scope="module")
def plain(package):
    """The same environment, cache included, without the samples."""
    return {**package[1], "PYTHONPATH": str(ROOT)}


def run(environment, folder, *arguments):
    result = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_metric_is_in_analyses_that_were_cached_without_it(package, plain, tmp_path):
    _, environment = package
    analyze = ("analyze", "mobilenet-v2@64", "--format", "json")
    (before,) = json.loads(run(plain, tmp_path, *analyze))
    (with_it,) = json.loads(run(environment, tmp_path, *analyze))
    assert "depthwise_share" not in before
    assert 0 < with_it["depthwise_share"] < 0.2
    assert "depthwise share" in run(environment, tmp_path, "analyze", "mobilenet-v2@64")
    (after,) = json.loads(run(plain, tmp_path, *analyze))
    assert after == before


RELOADED = """\
name: reloaded
matrix: {model: [resnet10], input: 64, backend: [opencv-cpu]}
measure: {rounds: 1, warmup: 0, max_seconds: 0.1, memory: false, sensors: none, reload: true}
"""


def test_a_run_makes_the_launch_of_the_sample_where_the_suite_asks(package, plain, tmp_path):
    _, environment = package
    (tmp_path / "reloaded.yaml").write_text(RELOADED)
    schema = json.loads(run(environment, tmp_path, "schema"))
    told = schema["$defs"]["MeasureSection"]["properties"]["reload"]
    assert told["description"] == "one more launch a case: time of loading, best of three"
    run(environment, tmp_path, "run", "reloaded.yaml", "--verbose", "--no-report")
    (case,) = json.loads(run(environment, tmp_path, "show", "latest", "--format", "json"))
    assert 0 < case["reload_ms"] < 10_000
    launches = json.loads(
        run(environment, tmp_path, "show", "latest", "--launches", "--format", "json")
    )
    jobs = [launch["job"] for launch in launches]  # a busy machine repeats the timed one
    assert (set(jobs), jobs[-1]) == ({"time", "reload"}, "reload")
    # Where the kind is not installed its launch is there, without a result.
    (stored,) = json.loads(run(plain, tmp_path, "show", "latest", "--format", "json"))
    assert "reload_ms" not in stored
    assert stored["latency_ms"] == case["latency_ms"]


def test_rules_are_in_the_schema_and_the_lists(package, plain, tmp_path):
    _, environment = package
    schema = json.loads(run(environment, tmp_path, "schema"))
    told = schema["$defs"]["GateSection"]["properties"]
    assert told["retained_bytes"]["description"].startswith("workspace and activations")
    assert told["depthwise_share"]["description"] == "how depthwise a network is"
    rules = json.loads(run(environment, tmp_path, "list", "rules", "--format", "json"))
    kinds = {rule["name"]: rule["kind"] for rule in rules}
    assert kinds["depthwise_share"] == "static"
    assert kinds["retained_bytes"] == "measured"
    without = json.loads(run(plain, tmp_path, "list", "rules", "--format", "json"))
    assert kinds.keys() - {rule["name"] for rule in without} == {
        "depthwise_share", "retained_bytes",
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="memory is told by Linux")
def test_a_gate_measures_and_compares_by_the_samples(package, tmp_path):
    """A tenth of the rounds of a real gate: what is looked at are the rules."""
    _, environment = package
    suite = tmp_path / "gate.yaml"
    suite.write_text(GATED)
    code = f"""
import json
from pathlib import Path
from cspbench.gating.decide import InterimAnalysis
from cspbench.gating.job import GateSettings, run_gate
from cspbench.gating.sides import parse_side
suite = Path({str(suite)!r})
sides = [parse_side(text, suite, Path(".")) for text in ("set:batch=1", "set:batch=1")]
report = run_gate(suite, *sides, GateSettings(interim=(InterimAnalysis(2, 0.02),), pairs=2))
print(json.dumps(report.as_dict()))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**environment, "CSPBENCH_LOCK_DIR": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["rules"] == {"depthwise_share": 0.1, "retained_bytes": 0.99}
    (taken,) = report["measured"]
    assert (taken["metric"], taken["unit"], taken["blocked"]) == ("retained_bytes", "bytes", False)
    assert len(taken["base"]) == len(taken["head"]) == 3


def test_the_suite_is_planned_with_the_samples(package, tmp_path):
    _, environment = package
    [text] = SUITES
    suite = tmp_path / "stripes.yaml"
    suite.write_text(text)
    plan = json.loads(run(environment, tmp_path, "plan", str(suite), "--format", "json"))
    assert [case["id"] for case in plan["cases"]] == [
        f"{model}@64/{backend}/b1/t1"
        for model in ("stripes", "stripes[csp.fusion=csp]", "stripes+flat")
        for backend in ("onnx-reference", "fx[precision=w8]", "opencv-cpu")
    ]
