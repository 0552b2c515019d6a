"""``suites/paper`` holds what the claims and tables need."""

from __future__ import annotations

from pathlib import Path

import pytest

from cspbench import literature
from cspbench.paper.claims import models_of_claims
from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced import TABLES
from cspbench.paper.sections.tables import FIGURES_OF
from cspbench.paper.suites import PREFIX
from cspbench.suite.load import load_suite

SUITES = {
    suite.name: suite
    for suite in map(load_suite, sorted((Path(__file__).parents[2] / "suites/paper").iterdir()))
}


def models(name: str) -> set[str]:
    return {str(case.model_id) for case in SUITES[name].cases}


def test_the_report_knows_the_suites_by_their_names():
    assert all(name.startswith(PREFIX) for name in SUITES)
    assert {name for _, names in FIGURES_OF.values() for name in names} <= set(SUITES)


def test_every_network_of_a_claim_is_analysed():
    known = set().union(*map(models, SUITES))
    assert set(models_of_claims()) <= known


@pytest.mark.parametrize(
    "claim", [c for c in literature.claims() if c.test["kind"] in ("faster", "ratio")]
)
def test_cases_that_are_compared_are_in_one_suite(claim):
    pair = {claim.test["of"], claim.test.get("than") or claim.test["against"]}
    holding = [suite for name, suite in SUITES.items() if pair <= models(name)]
    backends = {case.backend.name for suite in holding for case in suite.cases}
    assert set(claim.test["backends"]) <= backends


@pytest.mark.parametrize("number", TABLES)
def test_every_row_of_a_table_is_measured(number):
    table = TABLES[number](Evidence())
    assert set(table.models) <= models(f"{PREFIX}table{number}")
