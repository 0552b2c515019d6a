"""Untrusted runs through every command that shows one: text stays text, and no traceback.

A whole run is changed in one place, as an attacker might write it. A command then shows it, leaves
a launch out, or refuses it in a sentence. Some changes are random; besides, each kind of place is
tried with each value. If reading accepts the changed run, every command must show it.
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

from cspbench.analysis.record import Analysis, check_stored, is_current
from cspbench.cli.main import cli
from cspbench.errors import InputError
from cspbench.store.launch import read_launch
from cspbench.store.lines import decode_line, encode_line
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE
from cspbench.store.schema import check_meta
from tests.inertness import alive, hidden
from tests.report.runs import demo_run, full_run

TEXTS = (
    "\x1b[2J\x1b]0;owned\x07", "=HYPERLINK(\"http://x\")", "+1", "@SUM(A1)",
    "<script>alert(1)</script>",
    "a|b\n# heading\n", "`x` | <img src=x onerror=alert(1)>", "\u202egnp.exe", "]]>", "\ud800", "",
)  # fmt: skip
VALUES = (*TEXTS, None, True, -1, 0, 10**400, 1e308, [], {}, [[]], {"a": [None]})
#: One of each kind, the largest and the smallest number that may be among them.
KINDS = (TEXTS[0], "", None, True, -1, 0, 1e-300, 10**18, [], {}, [[]], {"a": [None]})
SHOWN = (["--launches"], ["--samples"], ["--layers"], ["--layer-times"])
COMMANDS = (
    ["list", "runs"], ["list", "runs", "--format", "md"],
    *(["show", "RUN", "--format", form] for form in ("table", "json", "csv", "md", "latex")),
    *(["show", "RUN", *which] for which in SHOWN),
    ["report", "RUN", "--out", "page.html"], ["compare", "RUN", "other"], ["history"],
    ["fsck", "RUN"],
)  # fmt: skip


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


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_value_anywhere_is_more_than_a_value(folder, data, monkeypatch):
    spoil(folder, data)
    command = data.draw(st.sampled_from(COMMANDS))
    output = run_command(folder, command, monkeypatch)
    assert not hidden(output)
    if "md" in command:
        assert not alive(output)
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


# Each kind of place with each kind of value -------------------------------------------------------

#: With another value of these, nothing else of the run, the analysis or the launch is looked at.
COVERING = ("format", "version", "job")
#: So many values each leaf has in turn, of those that it may have.
TURNS = 4


def kinds_of_places(value, path=()):
    """Every place below a value, of things that are alike only those in the first one."""
    yield path
    if isinstance(value, dict):
        alike = path in (("analyses",), ("ceilings",))
        for key, below in list(value.items())[: 1 if alike else None]:
            yield from kinds_of_places(below, (*path, key))
    elif isinstance(value, list) and value:
        yield from kinds_of_places(value[0], (*path, 0))


def apply(meta, launches, changes):
    """Both with changes; a path starts with the launch's number, or with None for ``run.json``."""
    launches = list(launches)
    for (number, *path), value in changes:
        if number is None:
            meta = changed(meta, path, value)
        else:
            launches[number] = changed(launches[number], path, value)
    return meta, launches


def is_read(meta, launches, path, value):
    """True if a run with this change is one, with all its launches and layers."""
    try:
        meta, launches = apply(meta, launches, [(path, value)])
        if path[0] is not None:
            read_launch(launches[path[0]])
            return True
        found = check_meta(meta)
        for analysis in found["analyses"].values():
            check_stored(analysis)
        if path[1] == "analyses":
            known = [data for data in found["analyses"].values() if is_current(data)]
            assert all(Analysis.from_dict(data).layers for data in known)
    except (InputError, ValueError):
        return False
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The parts of a run that has something of everything, and a folder to write it to."""
    folder = full_run(tmp_path_factory.mktemp("whole")).path
    meta = json.loads((folder / RUN_FILE).read_text())
    lines = (folder / LAUNCHES_FILE).read_bytes().splitlines()
    return folder, meta, [decode_line(line) for line in lines]


@pytest.fixture(scope="module")
def accepted(whole):
    """What may stand where: by path, the values with which a run is still one."""
    _, meta, launches = whole
    paths = {path: (None, *path) for path in kinds_of_places(meta)}
    for number, launch in enumerate(launches):  # of fields that all have, the first launch's
        for path in kinds_of_places(launch):
            paths.setdefault((*path, "of a launch"), (number, *path))
    values = {
        path: [value for value in KINDS if is_read(meta, launches, path, value)]
        for path in paths.values() if len(path) > 1 and path[-1] not in COVERING
    }  # fmt: skip
    return {path: allowed for path, allowed in values.items() if allowed}


def is_leaf(whole, path):
    number, *rest = path
    value = whole[1] if number is None else whole[2][number]
    for key in rest:
        value = value[key]
    return not (isinstance(value, (dict, list)) and value)


def show_all(whole, changes, monkeypatch):
    """The report and every table of the run with these changes: all are shown."""
    folder, meta, launches = whole
    meta, launches = apply(meta, launches, changes)
    (folder / RUN_FILE).write_text(json.dumps(meta))
    (folder / LAUNCHES_FILE).write_bytes(b"".join(map(encode_line, launches)))
    monkeypatch.chdir(folder.parent)
    tables = [["show", folder.name, "--results", ".", *which] for which in ([], *SHOWN)]
    for command in (["report", folder.name, "--results", ".", "--out", "page.html"], *tables):
        done = CliRunner().invoke(cli, command, standalone_mode=False)
        if done.exception is not None:
            raise AssertionError(f"{command} with {changes}") from done.exception
        assert not hidden(done.output)
    assert not hidden((folder.parent / "page.html").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(TURNS))
def test_every_value_that_may_stand_in_a_run_is_shown(whole, accepted, monkeypatch, turn):
    """Of all leaves at once, each with another of its values."""
    leaves = [(path, found) for path, found in accepted.items() if is_leaf(whole, path)]
    assert len(leaves) > 100
    show_all(
        whole,
        [(path, found[(turn + n) % len(found)]) for n, (path, found) in enumerate(leaves)],
        monkeypatch,
    )


@pytest.mark.slow
def test_every_part_of_a_run_may_be_empty(whole, accepted, monkeypatch):
    """Those of a depth at once, and of deep ones the innermost; without cases nothing is seen."""
    parts = {path: found[0] for path, found in accepted.items() if not is_leaf(whole, path)}
    cases = (None, "cases")
    show_all(whole, [(cases, parts.pop(cases))], monkeypatch)
    assert {(None, "analyses"), (None, "ceilings")} <= parts.keys()
    holders = {path[:end] for path in parts for end in range(len(path))}
    innermost = [path for path in parts if len(path) > 3 and path not in holders]
    for paths in (*([path for path in parts if len(path) == n] for n in (2, 3)), innermost):
        show_all(whole, [(path, parts[path]) for path in paths], monkeypatch)


def with_strange_names(value):
    """Beside what each object of JSON has, the same again by a hostile name."""
    if isinstance(value, list):
        return [with_strange_names(one) for one in value]
    if not isinstance(value, dict) or not value:
        return value
    known = {name: with_strange_names(one) for name, one in value.items()}
    return known | {TEXTS[0]: next(iter(known.values()))}


def test_every_name_may_be_strange(whole, monkeypatch):
    _, meta, launches = whole
    changes = [((None, name), with_strange_names(value)) for name, value in meta.items()]
    changes += [
        ((number, name), with_strange_names(value))
        for number, launch in enumerate(launches) for name, value in launch.items()
    ]  # fmt: skip
    show_all(whole, changes, monkeypatch)


def test_a_strange_id_is_shown(whole, monkeypatch):
    folder, *parts = whole
    strange = json.dumps('"p\x1b\u202e<i>"')[1:-1]
    texts = [json.dumps(part).replace("csppeleenet-ref+prn", strange) for part in parts]
    assert all(strange in text for text in texts)
    show_all((folder, *map(json.loads, texts)), [], monkeypatch)
