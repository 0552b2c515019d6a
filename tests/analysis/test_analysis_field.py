"""Architectures of timm, one of each family; skipped where timm is not installed."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SAMPLE = 40


@pytest.fixture(scope="module")
def zoo():
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is no requirement (docs/metrics.md says how to install it)")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        importlib.import_module("torchvision_alone").import_torchvision()
        yield importlib.import_module("timm_zoo")
    finally:
        sys.path.remove(str(BENCHMARKS))


def sample(rows, family):
    """The smallest of each family, the families with the most architectures first."""
    families = {}
    for row in rows:
        families.setdefault(family(row["model"]), []).append(row)
    by_size = sorted(families.values(), key=len, reverse=True)
    return [min(members, key=lambda row: int(row["macs"])) for members in by_size[:SAMPLE]]


@pytest.mark.slow
def test_one_of_each_family_is_counted_exactly(zoo):
    rows = sample(zoo.rows(), zoo.family)
    assert len(rows) == SAMPLE
    answers = [zoo.counted(row) for row in rows]
    assert [row for row in answers if row["answer"] != "equal"] == []


def test_the_table_of_expected_counts_is_whole():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        zoo = importlib.import_module("timm_zoo")
    finally:
        sys.path.remove(str(BENCHMARKS))
    rows = zoo.rows()
    assert len(rows) == len({(row["model"], row["size"]) for row in rows}) == 1144
    assert all(int(row["params"]) > 0 and int(row["macs"]) > 0 for row in rows)
