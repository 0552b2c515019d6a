"""The table of comparability: what each cell of it does, where it is read, and its page."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from cspbench.fleet.devices import BoardInfo
from cspbench.machine.comparability import (
    TABLE,
    Severity,
    Use,
    differences,
    identity,
    refusals,
    severity,
)
from cspbench.machine.facts import fingerprint

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
HERE: dict[str, Any] = {
    "host": "here", "cpu": "A", "cores_usable": 4, "governor": "performance",
    "memory_bytes": 16 * 2**30, "gpu": "NVIDIA GeForce RTX 3090", "gpu_uuid": "1",
    "libraries": {"torch": "2.13", "openvino": "2026.4"},
}  # fmt: skip
#: The kind of machine, as opposed to the one machine: equal on two boards of one label.
ANOTHER = {**HERE, "host": "there", "gpu_uuid": "2"}


def changed(use: Use, **facts: Any) -> list[str]:
    return [found.fact for found in differences(HERE, {**HERE, **facts}, use)]


def test_every_fact_of_a_machine_has_a_rule_and_every_rule_a_fact() -> None:
    ruled = {rule.fact.partition(".")[0] for rule in TABLE}
    assert ruled == set(fingerprint(()))
    assert {len(rule.severities) for rule in TABLE} == {len(Use)}


def test_the_page_holds_the_table() -> None:
    section = (
        PAGE.read_text("utf-8").split("## When machines count as the same")[1].split("\n## ")[0]
    )
    rows = re.findall(r"^\| `([a-z0-9_.]+)` \|(.*)\|$", section, re.MULTILINE)
    page = {fact: [cell.strip() for cell in cells.split("|")] for fact, cells in rows}
    words = {Severity.IGNORE: "", Severity.WARN: "warn", Severity.REFUSE: "refuse"}
    assert page == {
        rule.fact: [*(words[found] for found in rule.severities), rule.why] for rule in TABLE
    }
    head = ["fact", *(use.name.lower() for use in Use), "because"]
    assert f"| {' | '.join(head)} |" in section


@pytest.mark.parametrize("use", Use)
def test_another_kind_of_card_matters_to_every_use(use: Use) -> None:
    assert changed(use, gpu="NVIDIA GeForce RTX 4090") == ["gpu"]


def test_boards_of_one_kind_are_equal_for_the_fleet_and_for_nothing_else() -> None:
    assert differences(HERE, ANOTHER, Use.FLEET) == []
    for use in set(Use) - {Use.FLEET}:
        assert [found.fact for found in differences(HERE, ANOTHER, use)] == ["host", "gpu_uuid"]


def test_a_case_moves_to_a_board_of_one_kind_only() -> None:
    home = BoardInfo("a1", "tcp://a1", environment=HERE)
    assert home.alike(BoardInfo("a2", "tcp://a2", environment=ANOTHER))
    other = {**ANOTHER, "gpu": "NVIDIA GeForce RTX 4090"}
    assert not home.alike(BoardInfo("a3", "tcp://a3", environment=other))


def test_a_library_is_named_by_itself() -> None:
    (found,) = differences(HERE, {**HERE, "libraries": {"torch": "2.14", "openvino": "2026.4"}},
                           Use.RESUME)  # fmt: skip
    assert str(found) == "libraries.torch was '2.13' and is '2.14'"
    upgraded = {"torch": "2.13", "openvino": "2026.5", "pandas": "3.1"}
    assert changed(Use.GATE, libraries=upgraded) == ["libraries.openvino"]
    assert changed(Use.CEILINGS, libraries=upgraded) == []


def test_what_was_not_recorded_is_none_and_what_is_not_known_is_ignored() -> None:
    assert differences({"gpu": None}, {}, Use.GATE) == []
    assert changed(Use.GATE, nvpmodel="15W") == ["nvpmodel"]
    assert changed(Use.GATE, colour="green") == []
    assert severity("colour", Use.GATE) is Severity.IGNORE
    deep: dict[str, Any] = {}
    for _ in range(sys.getrecursionlimit()):
        deep = {"deeper": deep}
    assert changed(Use.GATE, colour=deep) == []


def test_memory_may_differ_by_what_the_firmware_keeps() -> None:
    assert changed(Use.GATE, memory_bytes=16 * 2**30 - 2**29) == []  # 0.5 of 16 GiB: 3 %
    assert changed(Use.GATE, memory_bytes=8 * 2**30) == ["memory_bytes"]
    assert changed(Use.GATE, memory_bytes=None) == ["memory_bytes"]


def test_only_refusals_refuse() -> None:
    renamed = {**HERE, "os": "Debian 12.8", "cpu": "B"}
    both = differences({**HERE, "os": "Debian 12.7"}, renamed, Use.GATE)
    assert [(found.fact, found.severity.name) for found in both] == [
        ("cpu", "REFUSE"), ("os", "WARN"),
    ]  # fmt: skip
    assert [found.fact for found in refusals(HERE, renamed, Use.GATE)] == ["cpu"]
    assert refusals(HERE, renamed, Use.COMPARE) == []


def test_what_is_kept_for_a_machine_is_found_by_what_would_refuse_it() -> None:
    assert identity({**HERE, "kernel": "6.1", "governor": None}, Use.CEILINGS) == {
        "cores_usable": 4, "cpu": "A", "gpu": "NVIDIA GeForce RTX 3090", "gpu_uuid": "1",
        "host": "here", "libraries.torch": "2.13",
    }  # fmt: skip
