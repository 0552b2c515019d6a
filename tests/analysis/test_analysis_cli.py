"""``cspbench analyze`` as a user sees it."""

import csv
import io
import json

import pytest
import torch
from click.testing import CliRunner

from cspbench.cli.analyze import command
from cspbench.errors import InputError

FIELDS = {
    *("id", "input", "params", "params_conv", "params_file", "macs", "flops", "bflops"),
    *("cio_conv", "cio_paper", "memory_access_cost", "traffic_bytes", "traffic_bytes_fused"),
    *("peak_live_bytes", "max_layer_bflops", "coverage"),
}


def run(*arguments):
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_is_a_list_of_objects_with_exact_counts():
    (first, second) = json.loads(
        run("peleenet@64", "csppeleenet[gamma=0.25]@64", "--format", "json")
    )
    assert set(first) >= FIELDS
    assert (first["id"], second["id"]) == ("peleenet@64", "csppeleenet[gamma=0.25]@64")
    assert isinstance(first["macs"], int)
    assert "layers" not in first
    (with_layers,) = json.loads(run("peleenet@64", "--layers", "--format", "json"))
    assert sum(layer["macs"] for layer in with_layers["layers"]) == first["macs"]


def test_without_a_size_the_models_own_input_is_taken():
    (found,) = json.loads(run("peleenet", "--format", "json"))
    assert found["id"] == "peleenet@224"
    assert found["input"] == [[1, 3, 224, 224]]


def test_a_suite_stands_for_its_models():
    ids = [row["id"] for row in json.loads(run("quick", "--format", "json"))]
    assert "peleenet@64" in ids
    assert len(ids) == len(set(ids))


def test_tables_say_their_units():
    table = run("peleenet@64")
    assert "GMACs" in table
    assert "peak live (MB)" in table
    assert "Gini of MACs" in run("peleenet@64", "--balance")
    assert "pyramid writes" in run("csppeleenet+efm@64", "--memory")


def test_csv_has_whole_numbers():
    rows = list(csv.DictReader(io.StringIO(run("peleenet@64", "--format", "csv"))))
    assert int(rows[0]["macs"]) > 0
    layers = list(csv.DictReader(io.StringIO(run("peleenet@64", "--layers", "--format", "csv"))))
    assert sum(int(row["macs"]) for row in layers) == int(rows[0]["macs"])


def test_conventions_stand_side_by_side():
    rows = json.loads(run("peleenet@64", "--conventions", "--format", "json"))
    named = {row["convention"]: row for row in rows}
    assert named["flops"]["value"] == 2 * named["macs"]["value"]
    assert "max_pool2d" in named["macs"]["ignored"]
    assert all(row["reason"] for row in rows)
    assert "params_file" in run("peleenet@64", "--conventions")


def test_compare_two_and_only_two_or_more():
    table = run("peleenet@64", "csppeleenet@64", "--compare")
    assert "-43.8%" in table  # the bottleneck, at any input size
    with pytest.raises(InputError, match="two ids"):
        run("peleenet@64", "--compare")


@pytest.mark.parametrize(
    "options",
    [("--memory", "--balance"), ("--layers", "--stages"), ("--roofline", "--layers"),
     ("--compare", "--theory")],
)  # fmt: skip
def test_options_that_choose_a_table_exclude_each_other(options):
    with pytest.raises(InputError, match="exclude each other: use one of them") as mistake:
        run("peleenet@64", *options)
    assert all(option in str(mistake.value) for option in options)


def test_compare_goes_with_layers():
    rows = json.loads(
        run("peleenet@64", "csppeleenet@64", "--compare", "--layers", "--format", "json")
    )
    assert {row["metric"] for row in rows} == {"macs"}
    assert all(row["second"] - row["first"] == row["difference"] != 0 for row in rows)


def test_theory_and_stages():
    (found,) = json.loads(run("cspdensenetb-ref@64", "--theory", "--format", "json"))
    assert found["dense_blocks"][0]["cio_formula"] == found["dense_blocks"][0]["cio_counted"]
    assert "stages.0" in run("peleenet@64", "--stages")


def test_verify_reconciles_with_other_tools():
    rows = json.loads(run("resnet10@64", "--verify", "--format", "json"))
    conv = next(row for row in rows if row["operator"] == "conv")
    assert conv["verdict"] == "equal"
    assert conv["cspbench_macs"] == conv["fvcore"] == conv["flop_counter_half"] > 0


def test_onnx_files_by_id(tmp_path):
    path = tmp_path / "net.onnx"
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU())
    torch.onnx.export(module, (torch.zeros(1, 3, 16, 16),), path, dynamo=False)
    (found,) = json.loads(run(f'"onnx:{path}"', "--format", "json"))
    assert found["macs"] == 4 * 256 * 27
    assert found["source"] == "onnx"


def test_mistakes_name_the_nearest():
    with pytest.raises(InputError, match=r"did you mean 'peleenet'"):
        run("pelenet")


def test_output_goes_to_a_file(tmp_path):
    path = tmp_path / "a.json"
    assert run("peleenet@64", "--format", "json", "--out", str(path)).strip() == str(path)
    assert json.loads(path.read_text())[0]["id"] == "peleenet@64"
