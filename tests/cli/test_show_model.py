"""``cspbench show-model``: stages and published numbers of the paper's own network."""

import json

from click.testing import CliRunner

from cspbench.cli.show_model import command


def shown(*arguments):
    result = CliRunner().invoke(command, [*arguments, "--format", "json"], catch_exceptions=False)
    return json.loads(result.stdout)


def test_stages_of_csppeleenet_are_those_of_the_paper():
    model = shown("csppeleenet")
    stages = {row["stage"]: row for row in model["stages"]}
    # Base 64, then c + 32 n with layers (2, 4, 8, 4): 64 + 64, 128 + 128, 256 + 256, 512 + 128.
    wanted = {"stages.0": ("56x56", 128, 2), "stages.1": ("28x28", 256, 4),
              "stages.2": ("14x14", 512, 8), "stages.3": ("7x7", 640, 4)}  # fmt: skip
    found = {name: (stages[name]["output"], stages[name]["channels"], stages[name]["blocks"])
             for name in wanted}  # fmt: skip
    assert found == wanted
    # A two-way dense layer triples the ways (a, b, or past it); part 1 is one more: 3^n + 1.
    assert [stages[name]["gradient_paths"] for name in wanted] == [10, 82, 6562, 82]
    assert sum(row["macs_share"] for row in model["stages"]) == 1
    assert model["confidence"] == "confirmed"


def test_published_counts_stand_beside_ours_and_only_at_their_own_input():
    rows = {(row["metric"], row["input"]): row for row in shown("peleenet+prn")["published"]}
    assert rows["bflops", 416]["agrees"] is True
    assert rows["bflops", 320]["ours"] is None  # computed at 416
    assert rows["params_file_m", 320]["agrees"] is True  # parameters have no input
    assert rows["ap50_pct", 416]["published"] == "45.0"
    assert rows["ap50_pct", 416]["ours"] is None


def test_what_nobody_published_is_not_found():
    result = CliRunner().invoke(command, ["csppeleenet[gamma=0.375]"])
    assert "published numbers: not found" in result.stdout
