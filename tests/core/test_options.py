"""Axes (options with a default and a check), and the registry that everything is added to."""

import importlib.metadata
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.core import registry
from cspbench.core.options import Axis, resolve, without_defaults
from cspbench.core.registry import Registry
from cspbench.core.text import nearest
from cspbench.errors import InputError

GAMMA = Axis("gamma", 0.5, "fraction")
ACT = Axis("act", "leaky", "choice", ("leaky", "relu", "swish"))
FUSE = Axis("fuse", False, "flag")
DEPTH = Axis("depth", 3, "integer")
PATH = Axis("weights", "", "text")
ALL = (GAMMA, ACT, FUSE, DEPTH, PATH)


@pytest.mark.parametrize(
    ("axis", "value"),
    [(GAMMA, 0.25), (ACT, "swish"), (FUSE, True), (DEPTH, 1), (PATH, "w/a b.weights"), (PATH, "")],
)
def test_a_valid_value_is_returned(axis, value):
    checked = axis.check(value)
    assert checked == value
    assert type(checked) is type(value)


@pytest.mark.parametrize(
    ("axis", "value", "said"),
    [
        (GAMMA, 0.0, "strictly between 0 and 1"),
        (GAMMA, 1, "strictly between 0 and 1"),
        (GAMMA, float("nan"), "strictly between 0 and 1"),
        (GAMMA, True, "strictly between 0 and 1"),
        (GAMMA, "0.5", "strictly between 0 and 1"),
        (ACT, "swich", "(did you mean 'swish'?)"),
        (ACT, True, "leaky, relu, swish"),
        (FUSE, 1, "true or false"),
        (DEPTH, 0, "at least 1"),
        (DEPTH, True, "at least 1"),
        (DEPTH, 2.0, "at least 1"),
        (PATH, 'a"b', "printable text"),
        (PATH, "a\x1b[31m", "printable text"),
        (PATH, 3, "printable text"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_valid(axis, value, said):
    with pytest.raises(ValueError, match=f"^{axis.name} must be .*{re.escape(said)}"):
        axis.check(value)


def test_true_is_not_one():
    """In Python True == 1; an axis whose choices are numbers must not take it."""
    axis = Axis("width", 1, "choice", (1, 2))
    assert axis.check(1) == 1
    with pytest.raises(ValueError, match="not True"):
        axis.check(True)


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_every_number_between_zero_and_one_is_a_fraction(value):
    assert GAMMA.check(value) == value


def test_resolve_fills_in_defaults_and_without_defaults_leaves_them_out():
    assert resolve(ALL, {"gamma": 0.25}) == {
        "gamma": 0.25, "act": "leaky", "fuse": False, "depth": 3, "weights": "",
    }  # fmt: skip
    assert without_defaults(ALL, {"gamma": 0.5, "fuse": True, "act": "relu"}) == {
        "act": "relu",
        "fuse": True,
    }


def test_an_unknown_option_names_the_nearest_and_all_valid_ones():
    with pytest.raises(ValueError, match=r"unknown option 'gama' \(did you mean 'gamma'\?\)") as e:
        resolve(ALL, {"gama": 0.5})
    assert "valid: act, depth, fuse, gamma, weights" in str(e.value)
    with pytest.raises(ValueError, match="valid: none"):
        resolve((), {"x": 1})


def test_nearest_suggests_only_what_is_close():
    assert nearest("csppelenet", ["peleenet", "csppeleenet"]) == " (did you mean 'csppeleenet'?)"
    assert nearest("zebra", ["peleenet", "csppeleenet"]) == ""


# A registry with a package and an entry point, both made up on disk -----------------------------


class Thing:
    def __init__(self, name):
        self.name = name


PACKAGE = """
import sys
from test_registry_host import THINGS, Thing
THINGS.add(Thing({name!r}))
"""


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A registry of a package (one.py, two.py, _private.py) and another distribution."""
    package = tmp_path / "things_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "one.py").write_text(PACKAGE.format(name="one"))
    (package / "two.py").write_text(PACKAGE.format(name="two[x]"))
    (package / "_private.py").write_text("raise RuntimeError('a spec\\'s heavy half was imported')")
    (tmp_path / "foreign_thing.py").write_text(PACKAGE.format(name="foreign"))
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[test.things]\nforeign = foreign_thing\n")
    (tmp_path / "test_registry_host.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import test_registry_host as host

    host.Thing = Thing
    host.THINGS = Registry("thing", ("things_package",), "test.things")
    # Distributions are scanned once a process; what was found before stays for other tests.
    monkeypatch.setattr(registry, "_entry_points", importlib.metadata.entry_points)
    yield host.THINGS
    for name in [n for n in sys.modules if n.startswith(("things_package", "foreign_thing"))]:
        del sys.modules[name]
    del sys.modules["test_registry_host"]


def test_files_and_entry_points_register_themselves_and_private_files_stay_unread(things):
    assert things.names() == ["foreign", "one", "two[x]"]
    assert [thing.name for thing in things] == ["foreign", "one", "two[x]"]
    assert "one" in things
    assert "three" not in things
    assert things.get("foreign").name == "foreign"


def test_discovery_waits_for_the_first_look_up(things):
    assert "things_package.one" not in sys.modules
    things.names()
    assert "things_package.one" in sys.modules


def test_an_entry_in_a_module_of_its_name_needs_no_other_file(things):
    assert things.get("one").name == "one"
    assert "one" in things
    assert "things_package.two" not in sys.modules
    assert "foreign_thing" not in sys.modules
    assert things.names() == ["foreign", "one", "two[x]"]  # the others are found all the same


def test_an_entry_may_say_in_which_module_it_is(things):
    things._homes = {"two[x]": "two"}
    assert things.get("two[x]").name == "two[x]"
    assert "things_package.one" not in sys.modules


@pytest.mark.parametrize("name", ["_private", "../one", "one.two", "", "one two", "one\0"])
def test_no_name_reaches_another_file(things, name):
    with pytest.raises(InputError):
        things.get(name)


def test_names_by_pattern_only_star_and_question_mark_are_special(things):
    assert things.names("*o*") == ["foreign", "one", "two[x]"]
    assert things.names("?ne") == ["one"]
    assert things.names("two[x]") == ["two[x]"]


def test_an_unknown_name_is_an_input_error_with_the_nearest(things):
    with pytest.raises(InputError, match=r"unknown thing 'on' \(did you mean 'one'\?\)"):
        things.get("on")


def test_two_entries_of_one_name_are_a_programming_error():
    things = Registry("thing", (), "test.nothing")
    first = things.add(Thing("a"))
    assert things.add(first) is first  # the same one again, as after a reload
    with pytest.raises(ValueError, match="two things are named 'a'"):
        things.add(Thing("a"))
