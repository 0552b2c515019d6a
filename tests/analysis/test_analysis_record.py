"""The record: JSON and back, columns, caches, and no heavy import on the way."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from cspbench.analysis import Analysis
from cspbench.analysis import cache as store
from cspbench.analysis.api import analyze, analyze_id
from cspbench.analysis.layer import COLUMNS
from cspbench.analysis.metric import GRAPH_METRICS, LAYER_METRICS, TOTAL_METRICS, LayerMetric
from cspbench.analysis.record import analysis_of, check_stored
from cspbench.analysis.trace import trace
from cspbench.errors import InputError
from tests.analysis.nets import Pelee


@pytest.fixture(scope="module")
def pelee():
    return analyze(Pelee(), (1, 3, 64, 64))


def test_json_and_back(pelee):
    again = Analysis.from_json(pelee.to_json())
    assert again == Analysis.from_json(again.to_json())
    assert again.totals == pelee.totals
    assert again.layers == pelee.layers
    assert again.to_json() == pelee.to_json()
    json.loads(pelee.to_json())


def test_counts_are_exact_integers(pelee):
    whole = [name for name, total in pelee.totals.items() if isinstance(total, int)]
    assert {"macs", "flops", "params", "cio_conv", "traffic_bytes", "peak_live_bytes"} <= set(whole)
    assert pelee.macs == sum(layer["macs"] for layer in pelee.layers)


def test_other_versions_are_refused(pelee):
    data = json.loads(pelee.to_json())
    with pytest.raises(ValueError, match="version"):
        Analysis.from_json(json.dumps(data | {"version": 0}))
    with pytest.raises(ValueError, match="columns"):
        Analysis.from_json(json.dumps(data | {"columns": ["index"]}))


def test_frame_has_the_columns_of_the_documentation(pelee):
    frame = pelee.frame()
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == len(pelee.layers)
    assert frame["macs"].sum() == pelee.macs
    assert frame["live_bytes"].max() == pelee.peak_live_bytes


def test_stages_sum_to_the_whole(pelee):
    stages = pelee.stages()
    assert stages["macs"].sum() == pelee.macs
    assert next(iter(stages["stage"])) == "stem"


def test_unknown_totals_are_attribute_errors(pelee):
    with pytest.raises(AttributeError, match=r"no metric .gflops. .did you mean"):
        _ = pelee.gflops


@pytest.mark.parametrize(
    "net", [Pelee(), nn.ReLU(inplace=True), nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))]
)
def test_a_record_holds_the_facts_that_totals_are_computed_from(net):
    """So that a metric sees of a stored record what it sees of a new one."""
    seen = trace(net, (torch.zeros(1, 3, 64, 64),), {})
    made = analysis_of("net", "torch", seen.input_shapes, seen.layers, seen.facts)
    assert Analysis.from_json(made.to_json()).facts == seen.facts


def test_a_metric_is_a_function_and_a_registry_entry():
    metric = LayerMetric(
        "outputs_only", "elements", "outputs", "here", lambda la: la.output_elements
    )
    LAYER_METRICS.add(metric)
    try:
        layer = analyze(nn.Conv2d(1, 2, 1), (1, 1, 3, 3)).layers[0]
        assert layer["outputs_only"] == 18
    finally:
        del LAYER_METRICS._entries["outputs_only"]


def test_every_metric_says_what_it_is():
    for metric in (*LAYER_METRICS, *GRAPH_METRICS, *TOTAL_METRICS):
        assert metric.unit
        assert metric.summary
        assert metric.source


def test_a_module_that_changed_is_analysed_again():
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    first = analyze(net, (1, 3, 8, 8))
    assert analyze(net, (1, 3, 8, 8)) is first
    net[0].stride = (2, 2)
    assert analyze(net, (1, 3, 8, 8)).macs * 4 == first.macs
    net[0] = nn.Conv2d(3, 8, 1)
    assert analyze(net, (1, 3, 8, 8)).macs == 8 * 64 * 3
    assert analyze(net, (1, 3, 4, 4)).macs == 8 * 16 * 3


def test_ids_are_cached_by_what_defines_them(monkeypatch):
    first = analyze_id("peleenet@64")
    assert first.id == "peleenet@64"
    from cspbench.analysis import api

    monkeypatch.setattr(api, "_analyze_id", lambda *_: pytest.fail("it was in the cache"))
    again = analyze_id("peleenet@64")
    assert again.totals == first.totals
    assert again.layers == first.layers


def test_a_damaged_entry_is_made_again():
    first = analyze_id("peleenet@64")
    path = store.entry("peleenet@64/b1")
    path.write_text("{", encoding="utf-8")
    assert analyze_id("peleenet@64").totals == first.totals


def test_a_changed_file_is_another_model(tmp_path):
    cfg = tmp_path / "net.cfg"
    text = "[net]\nwidth=32\nheight=32\nchannels=3\n[convolutional]\nfilters={}\nsize=3\npad=1\n"
    text += "stride=1\nactivation=linear\n"
    cfg.write_text(text.format(4), encoding="utf-8")
    id_ = f'"darknet:{cfg}"'
    assert analyze_id(id_).macs == 4 * 32 * 32 * 27
    cfg.write_text(text.format(8), encoding="utf-8")
    assert analyze_id(id_).macs == 8 * 32 * 32 * 27


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    monkeypatch.setenv("CSPBENCH_CACHE", str(blocked))
    assert analyze_id("peleenet@64").macs > 0


def test_unknown_ids_suggest_the_nearest():
    with pytest.raises(InputError, match="peleenet"):
        analyze_id("pelenet")


def test_a_cached_analysis_imports_nothing_heavy():
    analyze_id("peleenet@64")
    code = (
        "import sys\nfrom cspbench.analysis.api import analyze_id\n"
        "analysis = analyze_id('peleenet@64'); analysis.layers\n"
        "heavy = [m for m in ('torch', 'pandas', 'numpy', 'onnx') if m in sys.modules]\n"
        "print(analysis.macs, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    macs, _, heavy = done.stdout.strip().partition(" ")
    assert int(macs) == analyze_id("peleenet@64").macs
    assert heavy == "[]"


def test_weights_on_meta_or_not_make_no_difference():
    with torch.device("meta"):
        empty = Pelee()
    real = analyze(Pelee(), (1, 3, 64, 64))
    assert analyze(empty, (1, 3, 64, 64)).totals == real.totals


def test_the_documentation_names_every_number():
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for metric in (*LAYER_METRICS, *GRAPH_METRICS, *TOTAL_METRICS):
        assert f"`{metric.name}`" in text, metric.name
    for column in COLUMNS:
        assert f"`{column}`" in text, column


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 5), ("op", None), ("groups", "2"), ("groups", True), ("transposed", 0),
        ("input_bytes", "\x1b[2J"), ("live_bytes", None), ("weight_shape", 3),
        ("weight_shape", ["3"]), ("input_shapes", [[1, None]]), ("inputs", [[[1]]]),
        ("output_bytes", -1), ("input_elements", 10**400), ("kernel", [-1, 1]),
    ],
)  # fmt: skip
def test_a_stored_layer_with_a_value_of_another_type_is_refused(name, value):
    """A run may be untrusted, and its layers' facts are used in computations."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    data = json.loads(analyze(net, (1, 3, 8, 8), cache=False).to_json())
    check_stored(data)  # as it was written
    data["rows"][0][data["columns"].index(name)] = value
    with pytest.raises(ValueError, match=f"{name} of a layer"):
        check_stored(data)


def test_analyses_of_another_version_are_not_looked_at():
    check_stored({"version": 0, "rows": "anything"})
