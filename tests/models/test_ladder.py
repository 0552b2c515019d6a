"""Hybrids of two networks: where parts fit, and that a hybrid has the parts that it names."""

import pytest

from cspbench.analysis.api import analyze_id
from cspbench.errors import InputError
from cspbench.models.build import build
from cspbench.models.ladder import ladder_between

A, B = "darknet53", "cspdarknet53"


def conv_macs(model):
    """Multiply-accumulates by part: stem, stages in order, head."""
    sums = {}
    for layer in analyze_id(f"{model}@64").layers:
        place = layer.name.split(".")
        part = ".".join(place[:2]) if place[0] == "stages" else place[0]
        sums[part] = sums.get(part, 0) + int(layer["macs"])
    return sums


def test_a_ladder_exchanges_one_part_more_at_each_step():
    ladder = ladder_between(A, B, (64, 64))
    assert [part.label for part in ladder.parts] == [
        "stem", "stages.0", "stages.1", "stages.2", "stages.3", "stages.4", "head",
    ]  # fmt: skip
    assert ladder.notes == ()
    forward, backward = ladder.forward, ladder.backward
    assert (forward[0], forward[-1]) == (backward[0], backward[-1]) == (A, B)
    assert forward[1:3] == [f"hybrid:{A};{B};1000000", f"hybrid:{A};{B};1100000"]
    assert backward[1:3] == [f"hybrid:{A};{B};0000001", f"hybrid:{A};{B};0000011"]
    assert len(forward) == len(ladder.parts) + 1


def test_a_hybrid_has_the_layers_of_both_where_its_digits_say():
    first, second = conv_macs(A), conv_macs(B)
    assert first["stages.2"] != second["stages.2"]
    mixed = conv_macs(f"hybrid:{A};{B};0001010")
    assert mixed == first | {part: second[part] for part in ("stages.2", "stages.4")}


def test_detectors_with_the_same_necks_have_a_ladder_too():
    ladder = ladder_between(f"{A}+yolov3", f"{B}+yolov3", (64, 64))
    hybrid = ladder.hybrid({1, 2})
    assert len(build(hybrid, weights=False).backbone.stages) == 5


def test_parts_whose_borders_do_not_match_go_together():
    ladder = ladder_between("peleenet", "csppeleenet", (64, 64))
    numbers = [number for part in ladder.parts for number in part.numbers]
    assert numbers == list(range(len(numbers)))
    for note in ladder.notes:
        assert note.startswith("Behind ")
        assert " goes together with " in note


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        ("mobilenet-v2", "yolov3-tiny", "has no stem and stages|no part can be exchanged"),
        ("resnet10", "darknet53", "stages|no border"),
    ],
)
def test_networks_without_common_borders_are_refused(a, b, sentence):
    with pytest.raises(InputError, match=sentence):
        ladder_between(a, b, (64, 64))


@pytest.mark.parametrize(
    "target", ["a;b", "darknet53;cspdarknet53;012", "darknet53;cspdarknet53;01"]
)
def test_a_hybrid_that_is_written_wrong_is_one_sentence(target):
    with pytest.raises(InputError, match="hybrid"):
        build(f"hybrid:{target}", weights=False)
