"""Models as people type them: a file is an argument, and one grammar holds in all places."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.case import Case, ModelId, Ref
from cspbench.errors import InputError
from cspbench.models.typed import parse_case, parse_model


@pytest.mark.parametrize(
    ("typed", "canonical"),
    [
        ("model.onnx", "onnx:model.onnx"),
        ("onnx:model.onnx", "onnx:model.onnx"),
        ("nets/a.cfg", '"darknet:nets/a.cfg"'),
        ("darknet:nets/a.cfg", '"darknet:nets/a.cfg"'),
        ('"darknet:nets/a.cfg"@416', '"darknet:nets/a.cfg"@416'),  # quotes stay valid
        ("/abs/my net.onnx@640x384", '"onnx:/abs/my net.onnx"@640x384'),
        ("../m.PT2", '"exported:../m.PT2"'),
        ("net.py:network", "python:net.py:network"),
        ("src/net.py:network[csp.gamma=0.4]@64", '"python:src/net.py:network"[csp.gamma=0.4]@64'),
        ("python:package.module:factory@64", "python:package.module:factory@64"),
        ("nets/a+b@2[c].onnx@224", '"onnx:nets/a+b@2[c].onnx"@224'),
        ('a.cfg[weights="w/b.cfg"]@416', 'darknet:a.cfg[weights="w/b.cfg"]@416'),
        ("a.cfg[weights=b.cfg]", "darknet:a.cfg[weights=b.cfg]"),
        ("onnx:model.bin@224", "onnx:model.bin@224"),  # another ending: the source says it
        ("netz/größe.onnx", '"onnx:netz/größe.onnx"'),
        ("timm:resnet50@224", "timm:resnet50@224"),
        ("csppeleenet[gamma=0.25]+prn@224", "csppeleenet[gamma=0.25]+prn@224"),
    ],
)
def test_what_people_type_and_the_id_that_it_means(typed, canonical):
    model = parse_model(typed)
    assert str(model) == canonical
    assert parse_model(canonical) == model == ModelId.parse(canonical)


def test_a_name_that_is_no_utf8_survives_an_id():
    name = os.fsdecode(b"nets/caf\xe9.onnx")
    text = str(parse_model(name))
    assert text == r'"onnx:nets/caf\xe9.onnx"'
    assert os.fsencode(parse_model(text).model.name) == b"onnx:nets/caf\xe9.onnx"


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=60))
def test_every_name_survives_quotes(name):
    text = str(ModelId(Ref(name), None, (8, 8)))
    assert ModelId.parse(text).model.name == name
    assert text.isprintable()


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
       st.sampled_from(["", "@64", "@64x32", "[weights=w.pt]@64", "+prn@64"]))  # fmt: skip
def test_any_path_is_an_argument(name, tail):
    """Whatever a file is called, its path and a tail mean the file and the tail."""
    if not name or name[0] == '"':
        return
    model = parse_model(f"./{name}.onnx{tail}")
    assert model.model.name == f"onnx:./{name}.onnx"
    assert (model.input is not None) == ("@" in tail)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.onnx@huge", "'huge' is not an input size"),
        ("a.cfg[gamma", "key=value was expected"),
        ("nets/a.bin", "a model's file ends in .cfg or .onnx or .pt2 or .py:NAME"),
        ("onx:a.onnx", "unknown source 'onx' (did you mean 'onnx'?)"),
        ("net.py", "must be written net.py:factory"),
        ("a" * 2001, "is too long"),
    ],
)
def test_a_mistake_says_how_to_write_it(text, said):
    from cspbench.models.build import spec_of

    with pytest.raises(InputError) as caught:
        spec_of(text)
    [problem] = caught.value.problems
    assert said in problem


def test_a_file_without_an_ending_is_told_how_to_be_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(
        InputError, match=r"model\.bin: what the file holds is not clear .* onnx:PATH"
    ):
        parse_model("model.bin")


def test_a_case_with_a_path_is_typed_as_it_is():
    model, case = parse_case("nets/a.onnx@64/opencv-cpu[engine=classic]/b2/t1")
    assert str(model) == '"onnx:nets/a.onnx"@64'
    assert case == Case.parse("m@1/opencv-cpu[engine=classic]/b2/t1")
    assert parse_case("nets/a.onnx")[1] is None
    model, case = parse_case('"onnx:nets/a.onnx"@64/openvino/b1/t4')
    assert (str(model), case.threads) == ('"onnx:nets/a.onnx"@64', 4)
