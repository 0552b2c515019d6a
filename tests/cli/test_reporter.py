"""What a command says while it measures: quiet, verbose, lines, bar and the log of events."""

import contextlib
import io
import json
import re
import sys
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import click
import pytest

from cspbench.cli.progress import (
    Bar,
    LaunchLines,
    Lines,
    Logged,
    Quiet,
    board_lines,
    duration_text,
)
from cspbench.cli.reporter import Reporter, reporter_options
from cspbench.core.output import inert_streams
from cspbench.errors import InputError
from tests.inertness import commands, hidden
from tests.launches import stored_launch

CASE = "peleenet@64/opencv-cpu/b1/t1"
EVIL = "::error::a\x1b[31m\x1b]0;owned\x07 \u202egnp\u200b\n::stop-commands::b\n##[error]c"


@dataclass
class Plan:
    """As much of a plan as a display looks at: one case that runs, one that cannot."""

    runnable: list = field(default_factory=lambda: [SimpleNamespace(id=CASE, status=None)])
    suite: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(name="demo", measure=SimpleNamespace(rounds=2))
    )

    @property
    def cases(self):
        return [
            *self.runnable,
            SimpleNamespace(id="peleenet@64/jetson/b1/t1", status="unavailable"),
        ]


def launch(milliseconds, **changes):
    seen = {"seconds": 1.0, "foreign_cpu_s": 0.25, "steal_s": 0.5, "load_1m_before": 1.0,
            "load_1m_after": 1.5}  # fmt: skip
    return stored_launch(CASE, ms=[milliseconds] * 3, seconds=1.0, interference=seen, **changes)


def drive(display):
    """A run of two rounds with a crash between."""
    display.preparing("peleenet@64", 0, 1)
    display.started(Plan(), 2)
    display.launching(CASE)
    display.launched(launch(10.0), 1)
    display.launched(launch(0, status="crashed", reason="SIGSEGV"), 1)
    display.launched(launch(12.0, flags=["contended"]), 0)
    display.close()


def test_a_log_gets_one_line_a_case_and_every_failure(capsys):
    drive(Lines())
    out, err = capsys.readouterr()
    assert out == ""
    told = [line for line in err.splitlines() if not line.startswith("  ")]
    assert told == [
        "preparing 1/1 peleenet@64",
        "demo: 1 case, 2 launches, 1 case not runnable here",
        f"{CASE}: crashed: SIGSEGV",
        f"{CASE}: 11.00 ms (2 launches, 20.0 % apart)",  # median of 10 and 12; 12 / 10 - 1
    ]
    assert "1 of 2 launches" in err
    assert "load " in err


@pytest.mark.parametrize("shown", [Lines, Bar])
def test_each_case_is_told_as_soon_as_all_have_a_first_time(shown, capsys):
    """12 ms are 1.2 times 10; a case that fails is not waited for, and later rounds say nothing."""
    names = [f"peleenet@{side}/opencv-cpu/b1/t1" for side in (64, 96, 128)]
    display = shown()
    display.started(Plan([SimpleNamespace(id=name, status=None) for name in names]), 6)
    display.launched(replace(launch(12.0), case=names[1]), 5)
    display.launched(replace(launch(0, status="crashed", reason="SIGSEGV"), case=names[2]), 4)
    assert "fastest first" not in capsys.readouterr().err
    display.launched(replace(launch(10.0), case=names[0]), 3)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if " times" in line]
    assert lines == [
        f"{names[0]}     10.000 ms    1.00 times", f"{names[1]}     12.000 ms    1.20 times",
    ]  # fmt: skip
    display.launched(replace(launch(11.0), case=names[1]), 2)
    display.close()
    assert " times" not in capsys.readouterr().err


def test_verbose_tells_every_launch_and_what_disturbed_it(capsys):
    drive(LaunchLines())
    lines = capsys.readouterr().err.splitlines()
    assert lines[2].startswith("[1/2, ")
    assert lines[2].endswith(f"{CASE}: 10.00 ms (3 samples, load 1.5, steal 0.50 s, others 0.25 s)")
    assert f"{CASE}: crashed: SIGSEGV" in lines[3]
    assert "12.00 ms [contended]" in lines[4]


def test_quiet_says_nothing_and_the_bar_leaves_nothing_behind_but_failures(capsys):
    drive(Quiet())
    assert capsys.readouterr() == ("", "")
    drive(Bar())
    assert "crashed: SIGSEGV" in capsys.readouterr().err


@pytest.mark.parametrize("shown", [Lines, LaunchLines, Bar])
def test_no_display_lets_a_stranger_drive_the_terminal(shown, monkeypatch):
    """The bar draws with sequences of its own, so that those of the stranger are looked for."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "500")
    out, err = Terminal(), Terminal()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), inert_streams():
        display = shown()
        display.preparing(EVIL, 0, 1)
        plan = Plan()
        plan.suite.name = EVIL
        display.started(plan, 2)
        display.launching(EVIL)
        display.on_board(EVIL, "waiting", EVIL)
        print(EVIL)  # a library, below a bar
        print(EVIL, file=sys.stderr)
        display.launched(launch(0, status="crashed", reason=EVIL), 1)
        display.launched(launch(10.0), 0)
        display.close()
    for stream in (out, err):
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())  # of this form are rich's
        assert not hidden(text, kept="\n\r")
        assert "31m" not in stream.getvalue().replace(r"\u001b[31m", "")
        assert shown is Bar or not commands(text)  # no log has a bar
    assert r"\u202egnp" in err.getvalue()


def test_what_a_board_waits_for_is_a_line_and_an_event(capsys):
    log = io.StringIO()
    display = Logged(Lines(), Reporter(log=log))
    display.on_board("pi", "measuring", CASE)
    display.on_board("pi", "waiting", "another run measures on this machine")
    assert capsys.readouterr().err == "pi: another run measures on this machine\n"
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(event["event"], event["board"], event["state"]) for event in events] == [
        ("board", "pi", "measuring"), ("board", "pi", "waiting"),
    ]  # fmt: skip
    assert events[1]["what"] == "another run measures on this machine"


def test_a_terminal_has_one_line_a_board_and_says_how_many_do_not_fit():
    boards = {"two": "5 cases in turn", "one": "waiting: cooling", "three": CASE}
    assert board_lines(boards, 10) == [
        "one    waiting: cooling", f"three  {CASE}", "two    5 cases in turn",
    ]  # fmt: skip
    assert board_lines(boards, 2) == ["one    waiting: cooling", "2 more"]


def test_every_event_is_one_line_of_json():
    log = io.StringIO()
    drive(Logged(Quiet(), Reporter(quiet=True, log=log)))
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "preparing", "started", "launching", "launched", "launched", "launched",
    ]  # fmt: skip
    assert all(event["time"].endswith("+00:00") for event in events)
    assert events[1]["not_runnable"] == ["peleenet@64/jetson/b1/t1"]
    assert (events[3]["median_ms"], events[3]["samples"], events[3]["left"]) == (10.0, 3, 1)
    assert "latencies_ns" not in events[3]
    assert (events[4]["status"], events[4]["reason"]) == ("crashed", "SIGSEGV")
    assert "median_ms" not in events[4]


@click.command()
@reporter_options
def speaker(reporter):
    reporter.report("hello\x1b[31m")
    reporter.event("finished", code=0)
    click.echo("result")


@pytest.fixture
def said(capsys):
    """What the command above writes to standard output and to standard error."""

    def say(*options):
        speaker.main(list(options), standalone_mode=False)
        return tuple(capsys.readouterr())

    return say


def test_tell_goes_to_standard_error_made_harmless(said):
    assert said() == ("result\n", "hello\\u001b[31m\n")
    assert said("--quiet") == ("result\n", "")


def test_the_log_is_appended_to_a_file_or_has_standard_error_to_itself(said, tmp_path):
    file = tmp_path / "events.jsonl"
    said("--log-json", str(file))
    said("--log-json", str(file))
    events = [json.loads(line)["event"] for line in file.read_text().splitlines()]
    assert events == ["message", "finished"] * 2
    stdout, stderr = said("--log-json", "-")
    assert stdout == "result\n"
    assert [json.loads(line)["event"] for line in stderr.splitlines()] == ["message", "finished"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(("-q", "-v"), "exclude each other"), (("--log-json", "/no/such/file"), "cannot write")],
)
def test_what_cannot_be_is_refused(said, options, sentence):
    with pytest.raises(InputError, match=sentence):
        said(*options)


def test_a_log_that_cannot_be_written_does_not_end_the_run():
    class Full(io.StringIO):
        def write(self, text):
            raise OSError("no space left")

    reporter = Reporter(quiet=True, log=Full())
    reporter.event("started")
    reporter.event("finished")


@pytest.mark.parametrize(
    ("seconds", "text"), [(45, "45 s"), (720, "12 min"), (12_000, "3 h 20 min")]
)
def test_durations_are_short(seconds, text):
    assert duration_text(seconds) == text
