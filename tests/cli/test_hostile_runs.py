"""Runs from strangers through every command that shows one: text stays text, and no traceback.

A whole run is changed in one place, by whatever a stranger might write there; a command then shows
it, leaves a launch out, or refuses it in a sentence.
"""

import copy
import csv
import io
import json
import re
import shutil

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cspbench.cli.main import cli
from cspbench.errors import InputError
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE, decode_line, encode_line
from tests.report.runs import demo_run

TEXTS = (
    "\x1b[2J\x1b]0;owned\x07", "=HYPERLINK(\"http://x\")", "+1", "@SUM(A1)",
    "<script>alert(1)</script>",
    "a|b\n# heading\n", "`x` | <img src=x onerror=alert(1)>", "\u202egnp.exe", "]]>", "\ud800", "",
)  # fmt: skip
VALUES = (*TEXTS, None, True, -1, 0, 10**400, 1e308, [], {}, [[]], {"a": [None]})
COMMANDS = (
    ["list", "runs"], ["list", "runs", "--format", "md"],
    *(["show", "RUN", "--format", form] for form in ("table", "json", "csv", "md", "latex")),
    ["report", "RUN", "--out", "page.html"], ["compare", "RUN", "other"], ["history"],
    ["fsck", "RUN"],
)  # fmt: skip
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A good run, twice: one is spoilt for each example."""
    folder = tmp_path_factory.mktemp("strangers")
    demo = demo_run(folder / "results").path
    shutil.copytree(demo, folder / "results" / "other")
    shutil.copytree(demo, folder / "good")
    return folder


def places(value, path=()):
    """Every place below a value, containers included."""
    yield path
    inner = {dict: dict.items, list: enumerate}.get(type(value), lambda _: ())(value)
    for key, below in list(inner)[:30]:
        yield from places(below, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = changed(value[path[0]], path[1:], new)
    return value


def run_command(folder, arguments, monkeypatch):
    monkeypatch.chdir(folder)
    name = next(p.name for p in (folder / "results").iterdir() if p.name != "other")
    words = [name if word == "RUN" else word for word in arguments]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    if done.exception is not None:
        assert isinstance(done.exception, (InputError, SystemExit)), done.exception
        return "\n".join(getattr(done.exception, "problems", ()))
    return done.output


def spoil(folder, data):
    """Change the run in one place."""
    good, spoilt = folder / "good", next(
        p for p in (folder / "results").iterdir() if p.name != "other"
    )  # fmt: skip
    meta = json.loads((good / RUN_FILE).read_text())
    launches = [decode_line(line) for line in (good / LAUNCHES_FILE).read_bytes().splitlines()]
    new = data.draw(st.sampled_from(VALUES))
    if data.draw(st.booleans()):
        meta = changed(meta, data.draw(st.sampled_from(list(places(meta))[1:])), new)
    else:
        number = data.draw(st.integers(0, len(launches) - 1))
        path = data.draw(st.sampled_from(list(places(launches[number]))[1:]))
        launches[number] = changed(launches[number], path, new)
    (spoilt / RUN_FILE).write_text(json.dumps(meta))
    (spoilt / LAUNCHES_FILE).write_bytes(b"".join(map(encode_line, launches)))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_anywhere_is_more_than_a_value(folder, data, monkeypatch):
    spoil(folder, data)
    command = data.draw(st.sampled_from(COMMANDS))
    output = run_command(folder, command, monkeypatch)
    assert not CONTROL.search(output)
    if "md" in command:
        assert "<script" not in output
        assert "<img" not in output
    if "csv" in command:
        for row in csv.reader(io.StringIO(output)):
            assert not [c for c in row if c[:1] in tuple("=+@\t") and not c[1:].isdigit()], row
    if command[0] == "report" and (folder / "page.html").exists():
        page = (folder / "page.html").read_text()
        assert "<script>alert" not in page
        assert "<img src=x" not in page


def test_a_run_that_is_none_stands_in_the_list_beside_the_others(folder, monkeypatch):
    """Its number of cases is unknown, which makes fractions of the others' in a frame."""
    broken = folder / "results" / "other" / RUN_FILE
    whole = broken.read_text()
    broken.write_text("{}")
    shutil.copytree(folder / "good", folder / "results" / "demo", dirs_exist_ok=True)
    try:
        output = run_command(folder, ["list", "runs", "--format", "csv"], monkeypatch)
        assert "other,broken: " in output
        table = run_command(folder, ["list", "runs"], monkeypatch)
        assert re.search(r"demo +demo +9 +7", table)
    finally:
        broken.write_text(whole)
