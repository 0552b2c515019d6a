"""Profiles joined to an Analysis: by hand on a small network, then every backend on a real one."""

import json

import pytest

from cspbench.analysis.api import analyze_id
from cspbench.analysis.derive import derive_layers
from cspbench.analysis.layer import Layer
from cspbench.artifacts.cache import ArtifactSpec
from cspbench.artifacts.export import build_model, prepare
from cspbench.artifacts.spec import Node
from cspbench.backends._onnxruntime_profile import kernel_times
from cspbench.backends.common.profiling import combine
from cspbench.backends.openvino import mean_between
from cspbench.backends.spec import BACKENDS, LayerProfiler, LayerTime
from cspbench.core.case import Case, ModelId
from cspbench.jobs.layers import LayerTimes
from cspbench.jobs.spec import JOBS
from cspbench.jobs.worker import perform
from cspbench.views.layer_join import join, match
from cspbench.views.layer_times import RESIDUAL, Conditions, layer_time_rows
from tests.backends.requirements import skip_without_engine


def layer(index, name, op, kind, inputs, outputs, **facts):
    return Layer(index, name, op, kind, inputs=inputs, outputs=outputs, **facts)


def small():
    """conv, norm, activation; conv, activation; add: activations 0 to 6."""
    layers = [
        layer(0, "a.conv", "conv2d", "conv", (0,), (1,), weight_shape=(4, 3, 1, 1), groups=1,
              output_shapes=((1, 4, 8, 8),), output_elements=256, input_bytes=768,
              output_bytes=1024, weight_bytes=48),
        layer(1, "a.bn", "batch_norm", "norm", (1,), (2,), input_bytes=1024, output_bytes=1024),
        layer(2, "a.act", "relu", "activation", (2,), (3,), input_bytes=1024, output_bytes=1024),
        layer(3, "b.conv", "conv2d", "conv", (3,), (4,), weight_shape=(4, 4, 1, 1), groups=1,
              output_shapes=((1, 4, 8, 8),), output_elements=256, input_bytes=1024,
              output_bytes=1024, weight_bytes=64),
        layer(4, "b.act", "relu", "activation", (4,), (5,), input_bytes=1024, output_bytes=1024),
        layer(5, "", "add", "elementwise", (3, 5), (6,), input_bytes=2048, output_bytes=1024),
    ]  # fmt: skip
    derive_layers(layers)
    return layers


NODES = [
    ["/a/conv/Conv", "Conv", [], []], ["/a/act/Relu", "Relu", [0], []],
    ["/b/conv/Conv", "Conv", [1], []], ["/b/act/Relu", "Relu", [2], []],
    ["/Add", "Add", [1, 3], ["result"]],
]  # fmt: skip


def found(entries, nodes=NODES, total_ns=1000):
    return LayerTimes(entries, nodes, total_ns, runs=5, method="m")


def told(entries, **more):
    return [(row.name, row.ns, row.layers) for row in join(found(entries, **more), small())]


def test_a_profile_with_an_entry_a_node():
    # OpenCV's classic engine: what was fused reads 0 and goes to the convolution that did it.
    entries = [[name, op, ns, [name]] for (name, op, *_), ns in
               zip(NODES, (300, 0, 400, 100, 50), strict=True)]  # fmt: skip
    assert told(entries) == [
        ("/a/conv/Conv", 300, (0, 1, 2)),  # the norm was folded by the export
        ("/b/conv/Conv", 400, (3,)),
        ("/b/act/Relu", 100, (4,)),
        ("/Add", 50, (5,)),
    ]


def test_a_kernel_that_is_named_after_its_last_node():
    # ONNX Runtime: Conv + Relu are one kernel under the Relu's name.
    entries = [
        ["/a/act/Relu_output_0_nchwc", "Conv", 300, ["/a/act/Relu"]],
        ["reorder", "ReorderOutput", 10, ["reorder"]],
        ["/b/act/Relu_output_0_nchwc", "Conv", 400, ["/b/act/Relu"]],
        ["result_nchwc", "Add", 50, ["result"]],  # an output of the graph has its own name
    ]
    assert [row[2] for row in told(entries)] == [(0, 1, 2), (), (3, 4), (5,)]


def test_an_entry_that_names_all_its_members():
    entries = [
        ["x", "Convolution", 300, ["/a/conv/Conv", "/a/act/Relu"]],
        ["y", "Convolution", 450, ["/b/conv/Conv", "/b/act/Relu", "/Add"]],
    ]
    assert [row[2] for row in told(entries)] == [(0, 1, 2), (3, 4, 5)]


def test_what_does_not_fit_is_not_guessed():
    # One convolution more than the Analysis has: no convolution is joined.
    extra = [*NODES, ["/c/conv/Conv", "Conv", [4], []]]
    entries = [[name, op, 100, [name]] for name, op, *_ in extra]
    rows = told(entries, nodes=extra)
    assert [row[2] for row in rows if "conv" in row[0]] == [(), (), ()]
    # As many, but of other names: neither.
    renamed = [["/a/depthwise/Conv", "Conv", [], []], *NODES[1:]]
    assert 0 not in match([Node(n, o, tuple(p)) for n, o, p, _ in renamed], small())


def test_nodes_are_paired_with_layers_of_their_names():
    # Shape arithmetic is an Add as well, which the analysis folded: by their order nothing fits.
    nodes = [Node("p2o.Add.0", "Add"), Node("p2o.Add.1", "Add", (0,)), Node("p2o.Conv.0", "Conv")]
    layers = [Layer(0, "p2o.Add.1", "add", "elementwise"), Layer(1, "p2o.Conv.0", "conv2d", "conv")]
    assert match(nodes, layers) == {1: 0, 2: 1}


def test_an_activation_that_the_file_spells_out_is_one_layer_and_costs_no_addition_its_own():
    # x sigmoid(x) is Sigmoid and Mul in the file and one layer of the module, behind a
    # convolution; then it is added. By families there are two elementwise nodes for one layer.
    nodes = [Node("/conv/Conv", "Conv"), Node("/act/Sigmoid", "Sigmoid", (0,)),
             Node("/act/Mul", "Mul", (0, 1)), Node("/Add", "Add", (0, 2))]  # fmt: skip
    layers = [
        layer(0, "conv", "conv2d", "conv", (0,), (1,)),
        layer(1, "act", "silu", "activation", (1,), (2,)),
        layer(2, "", "add", "elementwise", (1, 2), (3,)),
    ]
    assert match(nodes, layers) == {0: 0, 1: 1, 2: 1, 3: 2}


def test_a_product_of_something_else_is_no_part_of_an_activation():
    # relu(x) times a factor that the analysis does not know.
    nodes = [Node("/act/Relu", "Relu"), Node("/scale", "Constant"), Node("/Mul", "Mul", (0, 1))]
    assert match(nodes, [layer(0, "act", "relu", "activation", (0,), (1,))]) == {0: 0}


def test_without_an_analysis_the_entries_stand_alone():
    rows = join(found([["/a/conv/Conv", "Conv", 300, ["/a/conv/Conv"]]]), [])
    assert [(row.name, row.ns, row.layers) for row in rows] == [("/a/conv/Conv", 300, ())]


def test_an_artifact_kind_without_a_reader_of_nodes_leaves_the_entries_alone():
    entries = [["/a/conv/Conv", "Conv", 300, ["/a/conv/Conv"]]]
    assert told(entries, nodes=[]) == [("/a/conv/Conv", 300, ())]


def test_rows_of_the_frame_by_hand():
    entries = [["/a/conv/Conv", "Conv", 300, ["/a/conv/Conv"]],
               ["/b/conv/Conv", "Conv", 500, ["/b/conv/Conv"]]]  # fmt: skip
    first, second, residual = layer_time_rows("case", found(entries), small())
    # 1x1 convolution of 3 to 4 channels on 8 x 8: 3 * 4 * 64 = 768 MAC, 1536 FLOP in 300 ns.
    assert first["macs"] == 768
    assert first["gflops_per_s"] == pytest.approx(1536 / 300)
    assert first["layers"] == ["a.conv", "a.bn", "a.act"]
    assert first["traffic_bytes"] == 768 + 48 + 1024  # as one: input, weights, last output
    assert first["gb_per_s"] == pytest.approx(1840 / 300)
    assert (first["time_ms"], first["share"]) == (300e-6, 0.3)
    assert second["kind"] == "conv"
    # 1000 ns in all, 800 of them in layers.
    assert (residual["entry"], residual["time_ms"]) == (RESIDUAL, pytest.approx(200e-6))
    assert residual["gflops_per_s"] is None


def test_a_norm_that_ran_alone_moves_its_own_input_and_output():
    """As torch eager times it; with its convolution it would cost no traffic of its own."""
    entries = [["conv", "aten.conv2d.default", 300, ["conv"]],
               ["bn", "aten.batch_norm.default", 256, ["bn"]]]  # fmt: skip
    nodes = [["conv", "aten.conv2d.default", [], []], ["bn", "aten.batch_norm.default", [0], []],
             ["act", "aten.relu.default", [1], []]]  # fmt: skip
    given = Conditions(2, "fp32", CEILINGS, "cpu/t1")
    _, norm, *_ = layer_time_rows("case", found(entries, nodes), small()[:3], given)
    assert norm["layers"][0] == "a.bn"
    # Two images: 2 * (1024 + 1024) B in 256 ns are 16 GB/s, twice the triad's 8 (a cache helps).
    moved = 4096 * len(norm["layers"])
    assert norm["traffic_bytes"] == moved
    assert norm["gb_per_s"] == pytest.approx(moved / 256)
    assert norm["memory_utilisation"] == pytest.approx(moved / 256 / 8)


CEILINGS = {"gflops": {"fp32": 20.0, "bf16": 80.0}, "bandwidth_gbs": {"triad": 8.0}}


@pytest.mark.parametrize(
    ("batch", "precision", "traffic_bytes", "compute", "memory"),
    [
        # 1536 FLOP in 300 ns are 5.12 GFLOP/s of 20; (768 + 48 + 1024) B are 6.133 GB/s of 8.
        (1, "fp32", 1840, 5.12 / 20, 1840 / 300 / 8),
        # Four images: four times the work, but the 48 B of weights are read once.
        (4, "fp32", 4 * 1792 + 48, 4 * 5.12 / 20, 7216 / 300 / 8),
        # Half the bytes, and the ceiling of the same precision.
        (1, "bf16", 920, 5.12 / 80, 920 / 300 / 8),
    ],
)
def test_utilisation_by_hand(batch, precision, traffic_bytes, compute, memory):
    entries = [["/a/conv/Conv", "Conv", 300, ["/a/conv/Conv"]]]
    given = Conditions(batch, precision, CEILINGS, "cpu/t1")
    first, residual = layer_time_rows("case", found(entries), small(), given)
    assert first["macs"] == 768 * batch
    assert first["traffic_bytes"] == traffic_bytes
    assert first["compute_utilisation"] == pytest.approx(compute)
    assert first["memory_utilisation"] == pytest.approx(memory)
    assert first["ceilings"] == residual["ceilings"] == "cpu/t1"
    # What is between layers uses nothing: unknown, not 0.
    assert (residual["compute_utilisation"], residual["memory_utilisation"]) == (None, None)


@pytest.mark.parametrize("ceilings", [{}, {"gflops": {"fp16": 40.0}, "bandwidth_gbs": {}}])
def test_without_a_ceiling_of_its_precision_a_layer_has_rates_and_no_utilisation(ceilings):
    entries = [["/a/conv/Conv", "Conv", 300, ["/a/conv/Conv"]]]
    first, _ = layer_time_rows("case", found(entries), small(), Conditions(1, "fp32", ceilings))
    assert first["gflops_per_s"] == pytest.approx(1536 / 300)
    assert (first["compute_utilisation"], first["memory_utilisation"]) == (None, None)


def test_means_are_taken_entry_by_entry_over_the_faster_three_quarters():
    # Of four inferences the slowest, which was disturbed, does not count.
    runs = [
        (total, [LayerTime("a", "Conv", ns, ("a",)), LayerTime("b", "Add", 1)])
        for total, ns in ((20, 5), (400, 300), (22, 9), (30, 7))
    ]
    profile = combine(runs, "m")
    assert (profile.total_ns, profile.runs) == (24, 3)
    assert [(entry.name, entry.ns, entry.members) for entry in profile.entries] == [
        ("a", 7, ("a",)), ("b", 1, ()),
    ]  # fmt: skip


def test_entries_that_vary_from_run_to_run_are_matched_by_name():
    # The second inference has no entry b; both have two of the name c.
    first = [LayerTime("b", "Add", 4), LayerTime("c", "Copy", 1), LayerTime("c", "Copy", 9)]
    second = [LayerTime("c", "Copy", 3), LayerTime("c", "Copy", 11)]
    profile = combine([(20, first), (20, second)], "m")
    assert [(entry.name, entry.ns) for entry in profile.entries] == [("b", 2), ("c", 2), ("c", 10)]


def test_running_means_of_openvino_become_the_mean_of_the_measured_runs():
    # 2 warm runs of 30 us each, then 8 of 10 us: the mean of all ten is (60 + 80) / 10 = 14 us.
    assert mean_between(30_000, 2, 14_000, 10) == 10_000
    # Rounded down to whole us: 3 runs of 1.9 us read as 1 us, and the fourth of 0.1 us as 1 us.
    assert mean_between(1_000, 3, 1_000, 4) == 1_000
    assert mean_between(9_000, 3, 1_000, 4) == 0  # never below 0


def test_layer_times_of_openvino_leave_out_its_cold_first_inference(monkeypatch, tmp_path):
    """One thread runs the nodes, so their means sum to less than the mean of the whole."""
    if (reason := BACKENDS.get("openvino").available()) is not None:
        pytest.skip(reason)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    model = ModelId.parse("mobilenet-v2@32")
    spec = ArtifactSpec(model, 1, "onnx", 0)
    prepare(spec, build_model(model, 0))
    job = {"job": "layers", "case": f"{model}/openvino/b1/t1", "seed": 0, "max_seconds": 0.001,
           "artifact": str(spec.path)}  # fmt: skip
    for _ in range(5):
        answer = json.loads(json.dumps(perform(job, lambda phase: None)))
        assert answer["status"] == "ok", answer
        profile = JOBS.get("layers").read(answer).layers
        spent = sum(ns for _, _, ns, _ in profile.entries)
        assert spent > 0
        # 5 runs after 2: rounding down to 1 us makes an entry at most 2 us / 5 too long.
        assert spent < profile.total_ns + 400 * len(profile.entries)


def kernel(name, ts, dur):
    """An event of ONNX Runtime's profile, in microseconds."""
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur,
            "args": {"op_name": "Conv"}}  # fmt: skip


def test_kernels_of_an_onnx_runtime_profile_by_run():
    events = [
        {"cat": "Session", "name": "session_initialization", "ts": 0, "dur": 50},
        kernel("x_output_0_nchwc", 110, 7), kernel("Reorder_token_3", 120, 2),
        {"cat": "Session", "name": "model_run", "ts": 100, "dur": 90},
        kernel("x_output_0_nchwc", 210, 9), kernel("Reorder_token_3", 220, 4),
        {"cat": "Session", "name": "model_run", "ts": 200, "dur": 80},
    ]  # fmt: skip
    first, second = kernel_times(events)
    assert [(e.name, e.ns, e.members) for e in first.entries] == [
        ("x_output_0_nchwc", 7000, ("x",)), ("Reorder_token_3", 2000, ("Reorder",)),
    ]  # fmt: skip
    assert [e.ns for e in second.entries] == [9000, 4000]
    # From 117 to 120 and from 219 to 220 us.
    assert (first.between_ns, second.between_ns) == (3000, 1000)


def test_a_loop_of_onnx_runtime_holds_the_kernels_of_its_body():
    """Its kernel is written after those of two turns, and lasts as long as all of them."""

    events = [kernel("a", 10, 4), kernel("body", 16, 5), kernel("body", 23, 5),
              kernel("loop", 15, 15), kernel("shape", 30, 0), kernel("b", 30, 6),
              {"name": "model_run", "ts": 0, "dur": 40}]  # fmt: skip
    [run] = kernel_times(events)
    assert [(one.name, one.ns) for one in run.entries] == [
        ("a", 4000), ("loop", 15000), ("shape", 0), ("b", 6000),
    ]  # fmt: skip
    assert run.between_ns == 1000  # from 14 to 15 us


def test_a_fusion_of_onnx_runtime_bears_the_name_of_its_last_node():
    """As seen in a profile of ONNX Runtime 1.27: x sigmoid(x) becomes one QuickGelu."""
    fused = {"cat": "Node", "name": "/act/Mul/QuickGeluFusion/_kernel_time", "ts": 0, "dur": 1,
             "args": {"op_name": "QuickGelu"}}  # fmt: skip
    [run] = kernel_times([{"name": "model_run", "ts": 0, "dur": 5}, fused])
    [entry] = run.entries
    assert (entry.op, entry.members) == ("QuickGelu", ("/act/Mul",))


# Every backend -----------------------------------------------------------------------------------

MODEL = "yolov3-tiny-prn@96"
SETTINGS = ["opencv-cpu[engine=classic]", "opencv-cpu[engine=new]", "onnxruntime", "openvino",
            "torch-cpu", "torch-cpu[mode=fused]"]  # fmt: skip


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        model = ModelId.parse(MODEL)
        module = build_model(model, 0)
        specs = {kind: ArtifactSpec(model, 1, kind, 0) for kind in ("onnx", "pt2")}
        for spec in specs.values():
            prepare(spec, module)
        yield {**specs, "layers": analyze_id(model).layers}


@pytest.mark.parametrize("backend", SETTINGS)
def test_every_convolution_of_a_real_network_is_found_once(artifacts, backend):
    name = backend.partition("[")[0]
    spec = BACKENDS.get(name)
    if spec.available() is not None:
        pytest.skip(f"{name}: {spec.available()}")
    skip_without_engine(name, dict(Case.parse(f"{MODEL}/{backend}/b1/t1").backend.options))
    assert isinstance(spec, LayerProfiler)
    job = {
        "job": "layers", "case": f"{MODEL}/{backend}/b1/t1", "seed": 0, "max_seconds": 0.05,
        "artifact": str(artifacts[spec.artifact].path),
    }  # fmt: skip
    phases = []
    answer = perform(job, phases.append)
    assert answer["status"] == "ok", answer
    profile = JOBS.get("layers").read(json.loads(json.dumps(answer, allow_nan=False))).layers
    layers = artifacts["layers"]
    rows = layer_time_rows("case", profile, layers)
    convs = [layer.index for layer in layers if layer.kind == "conv"]
    owned = [index for row in rows for index in row["index"]]
    assert len(owned) == len(set(owned))  # nothing is counted twice
    assert set(convs) <= set(owned)
    norms = {layer.index for layer in layers if layer.kind == "norm"}
    assert norms <= set(owned)  # folded, or with a time of their own
    total = sum(row["time_ms"] for row in rows)
    assert total == pytest.approx(profile.total_ns / 1e6)
    # Each convolution's MACs stand in one row: their sum is the network's.
    macs = sum(row["macs"] for row in rows if row["macs"])
    assert macs == sum(int(layer["macs"]) for layer in layers)


def test_what_cannot_be_told_apart_is_unsupported(artifacts):
    job = {
        "job": "layers", "case": f"{MODEL}/torch-cpu[mode=compile]/b1/t1", "seed": 0,
        "max_seconds": 0.05, "artifact": str(artifacts["pt2"].path),
    }  # fmt: skip
    answer = perform(job, lambda phase: None)
    assert answer["status"] == "unsupported"
    assert "no single operators to time" in answer["reason"]
