"""Attacks on the reader of a terminal, of a CI log and of Markdown, by the real command line.

A stranger's suite, run and folder hold them wherever text may stand.
"""

import json
import shutil
import subprocess

import pytest

from cspbench.store.lines import decode_line, encode_line
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE
from tests.gating.test_stored import CASES, around, make_run
from tests.inertness import ATTACKS, Runner, alive, commands, hidden
from tests.report.runs import demo_run

#: All at once, each on a line of its own: more than any one place needs.
EVIL = "\n".join(ATTACKS)
#: Keys of a stored run whose text a command may show.
TEXTS = {"description", "reason", "cpu", "host", "os", "kernel", "governor", "machine", "log",
         "stop", "path", "cspbench", "python", "git_commit", "version", "engine"}  # fmt: skip
SUITE = f"""
name: stored
description: {json.dumps(EVIL.replace(chr(0xD800), ""))}
matrix: {{model: peleenet@64, backend: opencv-cpu}}
"""


def with_evil(value):
    """The same run, its texts evil."""
    if isinstance(value, dict):
        return {
            key: EVIL if key in TEXTS and isinstance(one, str) else with_evil(one)
            for key, one in value.items()
        }
    return [with_evil(one) for one in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """A folder as it comes from a stranger: runs, a suite, and a folder that is no run."""
    folder = tmp_path_factory.mktemp("strangers")
    path = demo_run(folder / "results").path.rename(folder / "results" / "run")
    meta = with_evil(json.loads((path / RUN_FILE).read_text()))
    meta["suite"]["name"] = "::set-output name=a::b"
    meta["suite"]["notes"] = [EVIL]
    meta["environment"]["libraries"] = {"::warning::x\x1b[31m": EVIL}
    (path / RUN_FILE).write_text(json.dumps(meta))
    lines = (path / LAUNCHES_FILE).read_bytes().split(b"\n")[:-1]
    launches = [with_evil(decode_line(line)) for line in lines]
    damaged = [{**launches[0], "status": EVIL}, {**launches[0], "case": EVIL}]
    (path / LAUNCHES_FILE).write_bytes(b"".join(map(encode_line, [*launches, *damaged])))
    shutil.copytree(path, folder / "results" / "other")
    bad = folder / "results" / "\n::error::c\x1b[2J\u202e"
    bad.mkdir()
    (bad / RUN_FILE).write_text(json.dumps({"format": 3, "suite": EVIL, EVIL: 1}))
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "wrong.yaml").write_text(
        f"name: a\nmatrix: {{model: {json.dumps('::error::d' + chr(0x202E))}, backend: opencv-cpu,"
        f" {json.dumps('::error::e' + chr(27))}: 1}}\n"
    )
    (folder / "\n::error::f.cfg").write_text("[net]\n\x1b[2J=\u202e\n[::error::g]\n")
    return folder


BAD = "results/\n::error::c\x1b[2J\u202e"
FORMS = ("table", "csv", "md", "latex", "json")
COMMANDS = [
    *(["show", "run", "--format", form] for form in FORMS),
    *(["show", "run", f"--{which}"] for which in ("launches", "samples", "layers", "layer-times")),
    *(["list", "runs", "--format", form] for form in FORMS),
    *(["compare", "run", "other", "--format", form] for form in FORMS),
    ["show", BAD], ["report", BAD], ["fsck", BAD], ["history"],
    ["fsck", "run"], ["report", "run"],
    ["plan", "suite.yaml"], ["plan", "suite.yaml", "--format", "md"], ["plan", "wrong.yaml"],
    ["analyze", "darknet:\n::error::f.cfg"], ["analyze", '"darknet:\n::error::f.cfg"@64'],
    ["show", "\n::error::h\x1b[2J"], ["\n::error::i\x1b[2J"], ["show", "--\n::error::j\x1b[2J"],
    ["run", "suite.yaml", "--set", "\n::error::k\x1b[2J=1"],
    ["gate", "suite.yaml", "--base", "\n::error::l\x1b[2J"],
    ["explain", "\n::error::m", "\x1b[2J", "--run", "run"],
    ["export", "\n::error::n\x1b[2J", "--to", "onnx", "--out", "o"],
]  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words))[1:40])
def test_no_command_lets_an_attack_out(strangers, words, call, monkeypatch):
    monkeypatch.chdir(strangers)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, err = call(*words)
    assert code in (0, 2, 3), err
    assert hidden(out + err) == []
    log = Runner(err)
    assert (log.executed, log.stops, log.stopped) == ([], 1, False)
    # Neither needs the mark: the two streams may reach the runner in any order.
    assert commands(out) == commands("\n".join(log.shown)) == []
    if "md" in words:
        assert alive(out) == []


def test_the_runner_of_github_obeys_nothing_in_the_log_of_a_step(strangers, cspbench):
    """Both streams end in one log, as they do there."""
    done = subprocess.run(
        [cspbench.script, "show", BAD],
        cwd=strangers, env={**cspbench.environment, "GITHUB_ACTIONS": "true"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert r"\n::error::c\u001b[2J\u202e" in done.stdout
    log = Runner(done.stdout)
    assert (log.executed, log.stops, log.stopped) == ([], 1, False)


@pytest.mark.parametrize("words", [["report", "run", "--out", "o"], ["figures", "run"],
    *(["show", "run", "--out", "o", "--format", form] for form in FORMS)], ids=str)  # fmt: skip
def test_no_file_holds_an_attack(strangers, words, tmp_path, call):
    shutil.copytree(strangers / "results", tmp_path / "results")
    code, out, err = call(*words)
    assert code == 0, err
    files = [tmp_path / line for line in out.splitlines()]
    assert files
    for file in files:
        if file.suffix != ".png":
            assert hidden(file.read_text()) == []
            assert words[-1] != "md" or alive(file.read_text()) == []


def test_a_gate_in_ci_is_obeyed_in_its_annotations_only(tmp_path, cspbench):
    """A fact of the stranger's run is a note of the gate, in the log as in the comment."""
    (tmp_path / "suite.yaml").write_text(SUITE)
    machine = {"host": "here", "cpu": "c", "python": "3.11.2", "libraries": {"torch": "2.13"}}
    for name, ms in (("base", 10.0), ("head", 13.0)):
        make_run(tmp_path / "results", name, {CASES[0]: around(ms)},
                 machine={**machine, "os": f"{name}{EVIL}"})  # fmt: skip
    done = subprocess.run(
        [cspbench.script, "gate", "suite.yaml", "--base", "run:base", "--head", "run:head",
         "--annotations", "--markdown", "gate.md", "--html", "gate.html", "--junit", "gate.xml"],
        cwd=tmp_path, env={**cspbench.environment, "GITHUB_ACTIONS": "true"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert hidden(done.stdout) == []
    found = Runner(done.stdout)
    assert [line.split(" ")[0] for line in found.executed] == ["::error", "::notice"]
    assert not found.stopped
    comment = (tmp_path / "gate.md").read_text()
    assert "org/repo" in comment
    for ours in ("<!-- cspbench gate -->", "</details>", "<details><summary>"):
        comment = comment.replace(ours, "")
    assert alive(comment.replace("</summary>", "")) == []
    for name in ("gate.md", "gate.html", "gate.xml"):
        assert hidden((tmp_path / name).read_text()) == []


def test_standard_output_stays_data_in_ci(strangers, cspbench):
    """The marks of the log go to standard error; the events, which are all of it, get none."""
    shutil.copytree(strangers / "results", cspbench.folder / "results")
    done = cspbench("show", "run", "--format", "json", GITHUB_ACTIONS="true")
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["status"] == "ok"
    assert Runner(done.stderr).stops == 1


def test_the_log_of_events_stays_json_in_ci(cspbench):
    cspbench.write("s.yaml", "name: s\nmatrix: {model: peleenet@64, backend: fake}\n")
    done = cspbench("run", "s.yaml", "--no-report", "--set", "measure.rounds=1", "--log-json", "-",
                    GITHUB_ACTIONS="true")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()]
