"""The one way out: what any code prints while a command runs leaves inert."""

import ast
import contextlib
import io
import logging
import sys
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core.output import (
    InertStream,
    Styled,
    annotate,
    event_stream,
    inert_streams,
    raw_stderr,
    say,
    show,
)
from cspbench.core.text import printable
from tests.inertness import ATTACKS, GOOD, Runner, commands, hidden

PACKAGE = Path(__file__).parents[2] / "cspbench"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def streams(monkeypatch):
    """Standard output and error, of a terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return Terminal(), Terminal()


@contextlib.contextmanager
def command(out, err):
    """A command that prints to these streams."""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), inert_streams():
        yield


def every_way(text):
    """Ways in which we, a plug-in and a library print."""
    say(text)
    show(f"{text}\n{text}", headed=True)
    say(Styled(text, "green"), text, err=True)
    print(text)
    print(text, end="", file=sys.stderr)
    click.echo(text)
    click.secho(text, fg="red", err=True)
    sys.stdout.write(text)
    sys.stderr.writelines([text, text])
    logger = logging.Logger("stranger")
    logger.addHandler(logging.StreamHandler())
    logger.error("%s", text)


def without_our_style(text):
    for sequence in ("\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[0m"):
        text = text.replace(sequence, "")
    return text


@pytest.mark.parametrize("text", [*ATTACKS, *(f"{attack}\n" for attack in ATTACKS)])
def test_no_way_of_printing_lets_an_attack_out(streams, text):
    with command(*streams):
        every_way(text)
    for stream in streams:
        assert len(stream.getvalue()) > 2 * len(text)
        assert not hidden(without_our_style(stream.getvalue()))
        assert not commands(stream.getvalue())
        assert "\x1b[31m" not in stream.getvalue()


@given(
    st.lists(st.text(alphabet=st.one_of(st.characters(), st.sampled_from(":#[\n vso"))), max_size=5)
)
def test_no_text_in_any_parts_becomes_a_command(parts):
    raw = io.StringIO()

    class Silent:
        def stop(self):
            """No GitHub."""

    stream = InertStream(raw, Silent())
    for part in parts:
        stream.write(part)
    assert not hidden(raw.getvalue())
    assert not [line for line in raw.getvalue().split("\n") if line.lstrip().startswith("::")]


@given(st.text())
def test_a_line_is_one_line(text):
    raw = io.StringIO()
    with contextlib.redirect_stdout(raw):
        say(text)
    assert raw.getvalue() == f"{printable(text)}\n"


@pytest.mark.parametrize("text", GOOD)
def test_what_people_write_stays(streams, text):
    with command(*streams):
        say(text)
        show(f"{text}\n  {text}: a\n")
    assert streams[0].getvalue() == f"{text}\n{text}\n  {text}: a\n\n"


def test_style_is_ours_and_for_terminals_only(streams, monkeypatch):
    with command(*streams):
        say(Styled("a\x1b[31m", "bold"), " b")
        monkeypatch.setenv("NO_COLOR", "1")
        say(Styled("c", "bold"))
        monkeypatch.delenv("NO_COLOR")
        monkeypatch.setattr(streams[0], "isatty", lambda: False)
        say(Styled("d", "bold"))
    assert streams[0].getvalue() == "\x1b[1ma\\u001b[31m\x1b[0m b\nc\nd\n"


def test_what_an_old_terminal_cannot_show_is_escaped():
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with command(raw, io.StringIO()):
        say("γ 3×3")
    raw.flush()
    assert raw.buffer.getvalue() == b"\\u03b3 3\\xd73\n"


def test_streams_come_back_and_closed_ones_are_no_error():
    before = sys.stdout, sys.stderr
    err = io.StringIO()
    with command(None, err):
        assert sys.stdout is None
        say("a")
        assert raw_stderr() is err
    assert (sys.stdout, sys.stderr) == before


# GitHub ------------------------------------------------------------------------------------------


@pytest.fixture
def log(monkeypatch):
    """The log of a step, in which both streams end."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    return io.StringIO()


def test_github_obeys_our_annotations_and_nothing_else(log):
    with command(log, log):
        for attack in ATTACKS:
            say(attack)
        sys.stdout.write("half a line")
        annotate(["::error title=a::b\n::warning::c", "::notice::d"])
        # A process or a library that writes past Python.
        say("\n")
        raw_stderr().write("::set-output name=a::b\n")
    found = Runner(log.getvalue())
    assert found.executed == [r"::error title=a::b\n::warning::c", "::notice::d"]
    assert not found.stopped
    assert found.stops == 2
    assert "half a line" in found.shown


def test_each_token_is_another_and_long(log):
    for _ in range(2):
        with command(log, log):
            say("a")
    tokens = [line.rpartition("::")[2] for line in log.getvalue().splitlines() if "stop-" in line]
    assert len(set(tokens)) == 2
    assert all(len(bytes.fromhex(token)) == 16 for token in tokens)


def test_a_stream_of_events_gets_no_command_of_ours(log):
    with command(log, log):
        event_stream().write('{"text": "##[error]x \x7f"}\n')
        say("a")
    assert log.getvalue() == '{"text": "#\\u0023[error]x \\u007f"}\na\n'


def test_elsewhere_there_are_no_tokens(streams):
    with command(*streams):
        say("a")
        annotate(["::notice::b"])
    assert [stream.getvalue() for stream in streams] == ["a\n", "::notice::b\n"]


# Nothing passes it -------------------------------------------------------------------------------


def test_no_code_of_ours_prints_in_another_way():
    """By name: print, echo and the like, and what is written to a stream of the process."""
    found = []
    for path in set(PACKAGE.rglob("*.py")) - {PACKAGE / "core/output.py"}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            printing = called in ("print", "pprint", "Console") or called.endswith(
                (".echo", ".secho", ".style", "stdout.write", "stderr.write", ".print_exc")
            )
            if printing:
                found.append(f"{path.relative_to(PACKAGE).as_posix()}: {called}")
    assert sorted(found) == [
        "cli/fleet.py: Console",  # asks whether a person reads, and redraws a table
        "cli/fleet.py: Console",
        "cli/progress.py: Console",  # asks whether a person reads
        "jobs/prepare.py: traceback.print_exc",  # a worker's, into the log of the launch
        "jobs/worker.py: traceback.print_exc",
        "views/formats.py: Console",  # makes the text of a table
        "views/formats.py: Console",
    ]
