"""Networks of timm and torchvision, one of each family; `make zoo` installs both and runs these."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAMPLE = 40


@pytest.fixture
def benchmark(monkeypatch):
    """A benchmark as a module, with the modules beside it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def sample(rows, family):
    """The smallest of each family, the families with the most architectures first."""
    families = {}
    for row in rows:
        families.setdefault(family(row["model"]), []).append(row)
    by_size = sorted(families.values(), key=len, reverse=True)
    return [min(members, key=lambda row: int(row["macs"])) for members in by_size[:SAMPLE]]


@pytest.mark.timm
@pytest.mark.slow
def test_one_of_each_family_of_timm_is_counted_exactly(benchmark):
    benchmark("torchvision_alone").import_torchvision()
    zoo = benchmark("timm_zoo")
    rows = sample(zoo.rows(), zoo.family)
    assert len(rows) == SAMPLE
    answers = [zoo.counted(row) for row in rows]
    assert [row for row in answers if row["answer"] != "equal"] == []


TORCHVISION = (
    *("mobilenet_v2", "googlenet", "swin_t", "vit_b_16", "maxvit_t", "quantized_resnet18"),
    *("lraspp_mobilenet_v3_large", "raft_small", "mvit_v1_b"),
)


@pytest.mark.timm
@pytest.mark.slow
@pytest.mark.parametrize("model", TORCHVISION)
def test_networks_of_torchvision_are_counted_exactly(benchmark, model):
    zoo = benchmark("torchvision_zoo")
    answers = [zoo.counted(row) for row in zoo.rows([model])]
    assert [row for row in answers if row["answer"] != "equal"] == []


DETECTORS = {
    "ssdlite320_mobilenet_v3_large": "",
    "fasterrcnn_mobilenet_v3_large_320_fpn": "0 boxes, 0 detections",
    "keypointrcnn_resnet50_fpn": "1000 boxes, 0 detections",
}


@pytest.mark.timm
@pytest.mark.slow
@pytest.mark.parametrize("model", DETECTORS)
def test_detectors_of_torchvision_are_counted_up_to_their_boxes(benchmark, model):
    zoo = benchmark("torchvision_zoo")
    rows = zoo.rows([model])
    answers = [zoo.counted(row) for row in rows]
    assert {answer["answer"] for answer in answers} == {"equal as far as known without data"}
    assert DETECTORS[model] in {answer.get("rest", "") for answer in answers}
    assert all(answer["coverage"] < 100 for answer in answers)


def test_the_table_of_expected_counts_is_whole(benchmark):
    rows = benchmark("timm_zoo").rows()
    assert len(rows) == len({(row["model"], row["size"]) for row in rows}) == 1144
    assert all(int(row["params"]) > 0 and int(row["macs"]) > 0 for row in rows)


def test_a_comparison_goes_on_where_it_was_stopped(benchmark, tmp_path):
    answers, calls = benchmark("resumable").answers, []

    def count(row):
        calls.append(row["model"])
        return row | {"macs": len(calls)}

    def ask(*models):
        asked = [{"model": model} for model in models]
        return answers(tmp_path / "rows.csv", ("model", "macs"), asked, ("model",), count)

    assert ask("a") == [{"model": "a", "macs": "1"}]
    assert ask("a", "b") == [{"model": "a", "macs": "1"}, {"model": "b", "macs": "2"}]
    assert calls == ["a", "b"]
