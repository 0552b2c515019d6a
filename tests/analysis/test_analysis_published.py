"""Counts beside the published ones, as ``cspbench analyze`` prints them."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cspbench import literature
from cspbench.analysis.api import analyze_id
from cspbench.cli.analyze import command
from cspbench.literature import Published
from cspbench.paper.published_counts import (
    BFLOPS,
    CHANGE,
    bottleneck_rows,
    compare,
    needs_baseline,
    published_row,
    readable,
)

SUITES = Path(__file__).parents[2] / "suites" / "paper"
#: Published numbers that no network can meet, with the reason.
EXCEPTIONS = {
    ("darknet-ref@256", "bflops"): "printed cut off: 0.967 as 0.96",
    ("res2netlite72@224", "bflops"): "counts the additions of shortcuts too",
    ("yolov3-tiny-prn@416", "params"): "4.95 fits no convention: 4.940",
    ("pelee-ssd@304", "bflops"): "2 x 1.29 where ours is 2 x 1.285",
}


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(shared_cache, monkeypatch):
    """One cache for all tests here: they ask for the same models."""
    monkeypatch.setenv("CSPBENCH_CACHE", str(shared_cache))


def run(*arguments):
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def number(text, metric="bflops"):
    return Published("net", "Net", metric, text, 224, None, "t", "source")


def test_equal_is_equal_in_every_printed_digit():
    assert compare(BFLOPS, number("1.02"), 1.0151)["equal"] is True
    missed = compare(BFLOPS, number("1.00"), 1.0151)
    assert missed["equal"] is False
    assert missed["difference"] == pytest.approx(0.0151)
    assert compare(BFLOPS, None, 1.0)["difference"] is None


def test_a_published_change_differs_in_points():
    found = compare(CHANGE, number("-26", CHANGE.metric), -30.4)
    assert found["difference"] == pytest.approx(-4.4)


@pytest.mark.parametrize("suite", ["table1", "table3", "table4", "table5", "figure7", "figure8"])
def test_confirmed_and_solved_rows_equal_the_published_digits(suite):
    rows = json.loads(run(str(SUITES / f"{suite}.yaml"), "--published", "--format", "json"))
    assert rows
    compared = 0
    for row in rows:
        for name in ("params", "bflops", "cio_paper", "max_layer_bflops", "bflops_change"):
            if row["confidence"] in ("confirmed", "solved") and (row["id"], name) not in EXCEPTIONS:
                assert row[name]["equal"] is not False, (row["id"], name, row[name])
                compared += row[name]["equal"] is True
    assert compared >= (0 if suite == "table5" else 2)


def test_a_suites_table_is_followed_by_what_was_published():
    table = run(str(SUITES / "table3.yaml"))
    line = next(
        line for line in table.rpartition("published and")[2].splitlines() if "resnet50@" in line
    )
    assert line.split()[:4] == ["resnet50@256", "confirmed", "22.73", "22.734"]
    # The PyTorch count stands beside it: 22.780 M parameters, 4.871 GMACs.
    assert line.split()[-3:] == ["22.780", "4.871", "75.8"]
    assert "not found" in table
    assert "published" not in run("peleenet@64")


def test_every_published_cell_without_a_number_reads_not_found():
    table, _ = readable([published_row(analyze_id("vovnet39@64"))])
    assert table[0]["published params (M)"] == table[0]["published BFLOPs"] == literature.NOT_FOUND
    assert table[0]["BFLOPs difference"] == ""


def test_changes_are_against_peleenet_at_the_same_input():
    analysis = analyze_id("csppeleenet@224")
    assert needs_baseline(analysis) == "peleenet@224"
    assert needs_baseline(analyze_id("resnet10@256")) is None
    change = published_row(analysis, analyze_id("peleenet@224"))["bflops_change"]
    # 0.887993 / 1.016630 - 1 = -12.65 %, printed -13 %
    assert change["ours"] == pytest.approx(-12.65, abs=0.01)
    assert change["equal"]


def test_variants_are_labelled_by_their_own_numbers():
    def label(id_):
        return published_row(analyze_id(id_))["confidence"]

    assert label("csppeleenet@224") == "confirmed"
    assert label("csppeleenet[fusion=first]@224") == "open"  # misses the published 0.755
    assert label("csppeleenet[gamma=0.75]@224") == "open"  # nothing was published
    assert label("peleenet[act=swish]@224") == "confirmed"  # only its accuracy was
    assert label("peleenet+efm@224") == "searched"  # the weaker of network and neck


def test_figure_7_changes_need_both_networks_at_416():
    pair = [analyze_id("peleenet+prn@416"), analyze_id("csppeleenet+efm@416")]
    [row] = bottleneck_rows(pair)
    assert row["ours"] == row["published"] == -0.4375
    assert bottleneck_rows(pair[:1]) == []
