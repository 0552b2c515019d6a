"""The suites of the paper's tables and figures hold the systems that were published there."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench import literature
from cspbench.suite.load import load_suite

SUITES = Path(__file__).parents[2] / "suites" / "paper"


def ids(name: str) -> set[str]:
    return {str(case.model_id) for case in load_suite(SUITES / f"{name}.yaml").cases}


def published(*tables: str) -> set[str]:
    return {
        f"{row['name']}@{row['input']}"
        for table in tables
        for row in literature.rows(table)
        if row["name"] and row["input"]
    }


def test_table_1_has_every_partial_ratio_and_fusion():
    found = ids("table1")
    assert published("figure4", "gamma_text") <= found
    assert len(found) == 3 + 3 * 3


def test_table_3_has_every_published_classifier():
    assert ids("table3") == published("classification", "classification_pytorch")


def test_table_4_has_the_published_detectors():
    rows = published("detection", "paper_text", "pelee")
    assert {name for name in rows if "-ref" not in name} <= ids("table4")


def test_table_5_is_the_published_table():
    assert ids("table5") == published("table5")


@pytest.mark.parametrize("name", ["figure7", "figure8"])
def test_figures(name):
    systems = {
        "figure7": {"peleenet+yolov3@416", "peleenet+prn@416", "csppeleenet+efm@416"},
        "figure8": published("figure8"),
    }
    assert ids(name) == systems[name]
