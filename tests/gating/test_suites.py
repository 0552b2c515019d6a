"""Whose suite decides: a pull request cannot change the rules of its own judgement unnoticed."""

import json
import re

import pytest

from cspbench.cli.main import main
from cspbench.gating.suites import changed_cases, changed_settings
from cspbench.suite.load import load_suite

CASE = '"darknet:models/smallcsp.cfg"@64/opencv-cpu/b1/t1'


@pytest.fixture
def suite(repository, monkeypatch):
    monkeypatch.chdir(repository)
    return repository / "suites/gate.yaml"


def gate(capsys, tmp_path, *arguments, head="set:"):
    """Run the command; return the exit code and every form of its output."""
    files = {name: tmp_path / f"out/gate.{name}" for name in ("md", "xml", "html")}
    with pytest.raises(SystemExit) as end:
        main(["gate", "suites/gate.yaml", "--base", "git:main~1", "--head", head,
              "--results", str(tmp_path / "results"), "--annotations",
              "--markdown", str(files["md"]), "--junit", str(files["xml"]),
              "--html", str(files["html"]), *arguments])  # fmt: skip
    output = capsys.readouterr()
    written = {name: path.read_text() for name, path in files.items() if path.exists()}
    stored = sorted((tmp_path / "results").glob("*/gate.json")) if written else []
    data = json.loads(stored[-1].read_text()) if stored else {}
    return end.value.code, {"out": output.out, "err": output.err, "json": data, **written}


def loosen(suite):
    """Rules under which the slower model of ``main`` would pass."""
    text = re.sub(r"macs: 0%", "macs: 100%", suite.read_text())
    text = re.sub(r"tolerance: 2\.5%", "tolerance: 80%", text)
    assert "macs: 100%" in text
    assert "tolerance: 80%" in text
    suite.write_text(re.sub(r"params: 0%", "params: 100%", text))


def test_the_base_s_rules_judge_a_head_that_loosens_them(suite, capsys, tmp_path):
    loosen(suite)
    code, forms = gate(capsys, tmp_path)
    assert code == 1
    assert forms["json"]["rules"]["macs"] == 0
    assert forms["json"]["rules_from"] == "base"
    # Every form of the output tells what the head changes.
    for sentence in ("changes gate.macs from 0 % to 100 %",
                     "changes gate.latency.tolerance from 2.5 % to 80 %"):  # fmt: skip
        assert sentence in forms["out"]
        assert any(sentence in change for change in forms["json"]["suite_changes"])
        assert sentence in forms["md"]
        assert sentence in forms["xml"]
        assert sentence in forms["html"]
        assert sentence.replace("%", "%25") in forms["err"]  # an annotation
    assert "::warning file=" in forms["err"]
    headline = "the head changes the suite, and the base's suite decided"
    assert headline in forms["out"]
    assert headline in forms["json"]["headline"]


def test_the_head_s_rules_are_used_where_that_is_said_and_this_is_told(suite, capsys, tmp_path):
    suite.write_text(suite.read_text().replace("macs: 0%", "macs: 100%"))
    blocked = {}
    for rules in ("base", "head"):
        code, forms = gate(capsys, tmp_path / rules, "--rules", rules)
        assert code == 1  # by the rule of params, which both suites have
        blocked[rules] = {c["metric"] for c in forms["json"]["static"] if c["blocked"]}
        assert "changes gate.macs from 0 % to 100 %" in forms["out"]
        assert f"and the {rules}'s suite decided" in forms["out"]
    assert blocked["base"] - blocked["head"] == {"macs"}


def test_a_case_that_the_head_leaves_out_is_judged_and_a_new_one_is_told(suite, capsys, tmp_path):
    suite.write_text(suite.read_text().replace("input: 64", "input: 96"))
    code, forms = gate(capsys, tmp_path)
    assert code == 1
    (verdict,) = forms["json"]["verdicts"]
    assert (verdict["case"], verdict["reason"]) == (CASE, "static_rule")
    assert f"lacks a case ({CASE}), which the base's suite has" in forms["out"]
    (new,) = [skipped for skipped in forms["json"]["skipped"] if skipped["status"] == "new"]
    assert new["case"] == CASE.replace("@64", "@96")
    assert new["case"] in forms["md"]


def test_a_link_in_the_place_of_the_suite_leads_to_no_other_suite_of_the_base(
    suite, repository, git, capsys, tmp_path
):
    """A laxer suite exists at the base; the head makes the gate's suite a link to it."""
    git("checkout", "-q", "main~1")
    lax = repository / "suites/lax.yaml"
    lax.write_text(suite.read_text())
    loosen(lax)
    git("add", ".")
    git("commit", "-q", "-m", "another suite")
    base = git("rev-parse", "HEAD")
    git("checkout", "-q", "main", "--", "models")
    suite.unlink()
    suite.symlink_to("lax.yaml")
    code, forms = gate(capsys, tmp_path, "--base", f"git:{base}")
    assert code == 1
    assert "changes gate.macs from 0 % to 100 %" in forms["out"]


def test_a_head_without_the_model_is_refused_with_what_to_do(suite, repository, capsys, tmp_path):
    model = repository / "models/smallcsp.cfg"
    model.rename(model.with_name("other.cfg"))
    suite.write_text(suite.read_text().replace("smallcsp.cfg", "other.cfg"))
    code, forms = gate(capsys, tmp_path)
    assert code == 2
    assert "the suite of the other side decides" in forms["err"]
    assert "--rules head" in forms["err"]


def test_a_base_without_the_suite_says_what_to_do(suite, repository, git, capsys, tmp_path):
    git("mv", "suites/gate.yaml", "suites/old.yaml")
    git("commit", "-q", "-m", "no such suite yet")
    (repository / "suites/gate.yaml").write_text((repository / "suites/old.yaml").read_text())
    code, forms = gate(capsys, tmp_path, "--base", "git:main")
    assert code == 2
    assert "the suite suites/gate.yaml does not exist at git:main" in forms["err"]
    assert "--rules head" in forms["err"]
    code, forms = gate(capsys, tmp_path, "--base", "git:main", "--rules", "head")
    assert code == 0
    assert "git:main has no suite of this name: the head's suite holds for both" in forms["out"]


def test_an_unchanged_suite_is_not_mentioned(suite, capsys, tmp_path):
    code, forms = gate(capsys, tmp_path)
    assert code == 1
    assert forms["json"]["suite_changes"] == []
    assert "changes the suite" not in forms["out"] + forms["err"] + forms["md"]


# The sentences


def loaded(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return load_suite(path)


def test_settings_of_measuring_and_rules_that_only_one_suite_has(tmp_path):
    old = loaded(tmp_path, "name: a\nmatrix: {model: [peleenet], backend: [opencv-cpu]}\n"
                 "gate: {macs: 1%}")  # fmt: skip
    new = loaded(tmp_path, "name: a\nmatrix: {model: [peleenet, densenet201], "
                 "backend: [opencv-cpu]}\nmeasure: {seed: 3}\ngate: {params: 2.5%}")  # fmt: skip
    assert changed_settings(old, new) == [
        "the head's suite changes gate.macs from 1 % to no rule",
        "the head's suite changes measure.seed from 0 to 3",
        "the head's suite changes gate.params from no rule to 2.5 %",
    ]
    assert changed_settings(old, old) == changed_cases(old, old) == []
    (added,) = changed_cases(old, new)
    assert added.startswith("the head's suite adds a case (densenet201@")
    (lacks,) = changed_cases(new, old)
    assert lacks.endswith("which the base's suite has: judged all the same")
