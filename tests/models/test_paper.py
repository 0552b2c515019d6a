"""Published numbers: digits, sources, and names that can be built."""

from __future__ import annotations

import pytest

from cspbench import literature
from cspbench.core.case import ModelId
from cspbench.errors import InputError
from cspbench.models.identity import canonical
from cspbench.models.spec import MODELS


def entry(text: str) -> literature.Published:
    return literature.Published("x", "X", "bflops", text, 224, None, "t", "s")


def test_a_number_agrees_if_it_rounds_to_the_printed_digits():
    assert entry("0.888").agrees(0.88799)
    assert not entry("0.888").agrees(0.8886)
    assert entry("41").agrees(40.5)
    assert entry("2.50").digits == 2
    assert entry("2.50").residual(2.0) == pytest.approx(-0.2)


def test_a_missing_cell_reads_not_found():
    missing = literature.Published("x", "X", "bflops", None, 224, None, "t", "s")
    assert str(missing) == "not found"
    assert missing.value is None
    assert missing.residual(1.0) is None
    assert not missing.agrees(0.0)
    assert literature.published("cspdarknet53-elastic", metric="top5_pct") == []
    assert literature.find("no such system", "bflops") is None


def test_every_entry_has_a_source_and_a_number():
    for table in literature.tables():
        assert literature.source(table)
    for item in literature.everything():
        assert item.label
        if item.text is not None:
            assert item.value is not None
        assert (item.device is not None) == (item.metric == "fps")


def test_every_named_system_can_be_built():
    for name in {item.name for item in literature.everything() if item.name}:
        try:
            canonical(name)
        except InputError as error:
            pytest.fail(str(error))
        # Written as ids are: sorted options, none at its default.
        assert str(ModelId.parse(name)) == name


def test_published_numbers_are_found_by_the_names_of_the_models():
    unpublished = {spec.name for spec in MODELS if not literature.published(spec.name)}
    assert unpublished == {"centernet-resnet18", "densenet201", "vovnet39"}


def test_table_5_by_device():
    find = literature.find
    assert find("csppeleenet-ref+prn", "fps", device="Jetson TX2").text == "52"
    assert find("csppeleenet-ref+prn", "fps", device="i9-9900K, OpenCV DNN").text == "75"
    # The CPU of ThunderNet's numbers is another one.
    assert find("thundernet-snet49", "fps", device="i9-9900K, OpenCV DNN") is None
    assert find("thundernet-snet49", "fps", device="Xeon E5-2682v4").text == "47"


def test_input_chooses_the_row():
    assert literature.find("peleenet+prn", "bflops", input_side=320).text == "2.39"
    assert literature.find("peleenet+prn", "bflops", input_side=416).text == "4.04"
    misprint = literature.find("peleenet+prn-3l", "bflops", input_side=320)
    assert "typing error" in misprint.note


def test_figure_1_and_figure_7():
    families = literature.figure1()
    assert next(iter(families)) == "CSPNet (ours)", "drawn strongest"
    assert (106.0, 38.3) in families["Pelee"]
    assert (109.0, 50.4) in families["CSPNet (ours)"]
    assert len(families["CSPNet (ours)"]) == 9
    assert len(literature.figure7("peleenet+prn")) == 8
    facts = literature.figure7_facts()
    assert facts["max_layer_bflops"]["csppeleenet+efm"] == 0.199361
    heads = literature.figure7("csppeleenet+efm")
    assert sum(heads) == pytest.approx(facts["head_bflops"]["csppeleenet+efm"], abs=0.003)


def test_claims_have_numbers():
    claims = {claim.name: claim for claim in literature.claims()}
    assert claims["cio"].numbers == {"cio_paper_m": 34.4, "cio_paper_m_csp": 32.6}
    assert claims["bottleneck"].numbers["max_layer_change_pct"] == -44
