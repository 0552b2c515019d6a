"""``--csp``: cross-stage-partial forms of a network of one's own, measured beside the plain one."""

from __future__ import annotations

import json

import pytest

from cspbench.errors import InputError
from tests.cli.test_own_model import QUICK, called, conv_file
from tests.models.csp_net import NET

PLAIN = "python:net.py:network"
FORMS = [f"{PLAIN}[csp.fusion={fusion}{gamma}]"
         for fusion in ("csp", "last") for gamma in (",csp.gamma=0.25", "")]  # fmt: skip
STAGE = "1.0 to 3: 4 blocks on 16 of 32 channels at 32x32, 16 bypass"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "net.py").write_text(NET)


def models(text):
    return list(dict.fromkeys(case["id"].partition("@")[0] for case in json.loads(text)["cases"]))


def test_run_compares_the_forms_with_the_plain_network():
    arguments = ["run", "net.py:network@64", "--csp", "gamma=0.5", "--fusion", "csp,last",
                 "--backend", "onnxruntime", "--threads", "1", "--allow-code", *QUICK]  # fmt: skip
    rows = json.loads(called(*arguments, "--format", "json").splitlines()[-1])["csp"]
    assert [row["case"].partition("@")[0] for row in rows] == [PLAIN, *FORMS[1::2]]
    plain, *forms = rows
    assert plain["ratio"] == 1
    for row in forms:
        assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
        for total in ("macs", "params"):
            assert row[total] < plain[total]
        assert {"cio_conv", "peak_live_bytes", "max_layer_bflops"} <= row.keys()
    printed = called(*arguments)
    assert "measured, ratio to the plain network with the same settings" in printed
    assert STAGE in printed
    assert "\\n" not in printed  # a line is a line


def test_the_plain_network_comes_first_so_that_it_is_the_reference():
    planned = called("plan", "net.py:network@64", "--csp", "gamma=0.25,0.5", "--fusion",
                     "csp,last", "--format", "json")  # fmt: skip
    assert sorted(models(planned)) == sorted([PLAIN, *FORMS])
    assert models(planned)[0] == PLAIN


def test_the_options_say_the_same_in_a_suite(tmp_path):
    called("plan", "net.py:network@64", "--csp", "gamma=0.25,split=slice", "--save-suite", "a.yaml")
    text = (tmp_path / "a.yaml").read_text()
    assert 'csp: {"fusion": ["none", "csp"], "gamma": [0.25], "split": ["slice"]}' in text
    assert models(called("plan", "a.yaml", "--format", "json")) == [
        PLAIN, f"{PLAIN}[csp.fusion=csp,csp.gamma=0.25,csp.split=slice]"
    ]  # fmt: skip


def test_analyze_and_show_model_say_what_became_of_each_stage():
    name = "net.py:network[csp.gamma=0.5]@64"
    for command in ("analyze", "show-model"):
        assert STAGE in map(str.strip, called(command, name, "--allow-code").splitlines())
        told = json.loads(called(command, name, "--allow-code", "--format", "json"))
        assert (told if isinstance(told, dict) else told[0])["notes"] == [STAGE]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--csp", "0.5"], "write it as --csp gamma=0.25,0.5,0.75"),
        (["--csp", "gamma="], "write it as --csp gamma=0.25,0.5,0.75"),
        (["--csp", "gamma=0.5", "--csp", "gamma=0.25"], "gamma is given twice"),
        (["--csp", "fusion=csp", "--fusion", "last"], "give the fusion once"),
        (["--csp", "gamma=2"], "strictly between 0 and 1"),
        (["--csp", "gama=0.5"], "csp.gamma"),
        (["--fusion", "middle"], "must be one of"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, sentence):
    with pytest.raises(InputError) as error:
        called("plan", "net.py:network@64", *arguments)
    [problem] = error.value.problems
    assert sentence in problem


def test_a_fixed_graph_is_refused_with_the_reason():
    conv_file("a.onnx")
    for arguments in (["plan", "a.onnx", "--csp", "gamma=0.5"],
                      ["analyze", "a.onnx[csp.gamma=0.5]"],
                      ["plan", "a.onnx[csp.gamma=0.5]"]):  # fmt: skip
        with pytest.raises(InputError, match=r"a\.onnx is a fixed graph whose blocks cannot be"):
            called(*arguments)


def test_a_network_that_has_no_stage_is_unsupported_with_the_reason():
    row = json.loads(
        called("run", "net.py:flat@32", "--csp", "gamma=0.5", "--backend", "onnxruntime",
               "--threads", "1", "--allow-code", "--format", "json", *QUICK).splitlines()[-1]
    )["cases"][1]  # fmt: skip
    assert row["status"] == "unsupported"
    assert "no stage of Sequential can be split" in row["reason"]
