"""The report's section "Why one is slower": static text, from the run alone."""

import re

import pytest

from cspbench.report.page import render
from cspbench.report.rows import case_rows
from cspbench.report.sections import explain
from cspbench.report.sections.explain import MAX_PAIRS, explanations
from tests.attribution.stored import PARTIAL, PLAIN, pair_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pair_run(tmp_path_factory.mktemp("results"))


def section_of(page):
    """The section's HTML, which no script has touched."""
    [found] = re.findall(r'<section id="explain".*?</section>', page, re.DOTALL)
    return found


def test_partial_networks_are_paired_with_their_plain_ones(run):
    found, left_out = explanations([run], case_rows([run]))
    assert [(why.a, why.b, why.setting) for why in found] == [
        (PLAIN, PARTIAL, "opencv-cpu"),
        (PLAIN, PARTIAL, "opencv-cpu b8"),
    ]
    assert left_out == 0
    assert MAX_PAIRS > 2


def test_sentences_and_parts_stand_in_the_page_without_a_script(run):
    page = section_of(render([run]))
    assert "B is slower by 2.00 ms (+20 %; " in page
    assert "22 % fewer MACs" in page
    assert "residual: " in page
    assert "<script" not in page
    command = re.search(r"<code>(cspbench explain .*? --by groups)</code>", page)[1]
    assert f"--run {run.name}" in command


def test_a_run_without_layer_times_says_how_to_get_them(tmp_path):
    page = render([pair_run(tmp_path, layers=False)])
    assert '<section id="explain"' not in page
    [left_out] = re.findall(r'<details class="left-out">.*?</details>', page, re.DOTALL)
    assert "Why one is slower: These runs hold no partial network" in left_out
    assert "cspbench run explain" in left_out


def test_of_many_pairs_a_table_links_to_each_which_is_folded(run, monkeypatch):
    assert "<details" not in section_of(render([run])), "two pairs are shown as they are"
    monkeypatch.setattr(explain, "MOST_OPEN", 1)
    page = section_of(render([run]))
    assert page.count('<details class="explained"><summary><h3>') == 2
    links, targets = (
        re.findall(pattern, page) for pattern in (r'href="#(why-\d)"', r'id="(why-\d)"')
    )
    assert links == targets == ["why-1", "why-2"]
    [table] = re.findall(r"Pairs that are explained.*?</table>", page, re.DOTALL)
    assert table.count("+2.00") == 1
    assert page.index("Pairs that are explained") < page.index("<details")
