"""A cache holds programs, so one that another user can write is refused."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.errors import InputError

OTHER = 65534  # nobody
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "above" / "cache"
    monkeypatch.setenv("CSPBENCH_CACHE", str(folder))
    monkeypatch.setenv("HOME", "/nowhere")
    return folder


def refusal(*names):
    with pytest.raises(InputError) as error:
        cache_folder(*names)
    (sentence,) = error.value.problems
    assert "CSPBENCH_CACHE" in sentence
    return sentence


def test_a_folder_of_our_own_is_used_and_made_for_us_alone(cache):
    before = os.umask(0)
    try:
        make_cache_folder(cache_folder("artifacts"))
    finally:
        os.umask(before)
    for path in (cache, cache / "artifacts", cache.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert cache_folder("artifacts") == cache / "artifacts"


@pytest.mark.parametrize("name", ["", "..", "artifacts"])
@pytest.mark.parametrize(
    ("mode", "who"), [(0o777, "every user"), (0o703, "every user"), (0o770, "the group")]
)
def test_what_others_may_write_is_refused(cache, name, mode, who):
    make_cache_folder(cache / "artifacts")
    place = (cache / name).resolve()
    os.chown(place, -1, _foreign_group())
    place.chmod(mode)
    sentence = refusal("artifacts")
    assert f"{place} may be written by {who}" in sentence
    assert f"chmod go-w {place}" in sentence
    place.chmod(mode & ~0o022)
    assert cache_folder("artifacts") == cache / "artifacts"


def _foreign_group():
    """A group of which other users are members."""
    if os.getuid() == 0:
        return OTHER
    return next((g for g in os.getgroups() if g != os.getgid()), os.getgid())


@needs_root
@pytest.mark.parametrize("name", ["", "..", "artifacts"])
def test_what_belongs_to_another_user_is_refused(cache, name):
    make_cache_folder(cache / "artifacts")
    place = (cache / name).resolve()
    os.chown(place, OTHER, -1)
    assert f"{place} belongs to the user " in refusal("artifacts")


@needs_root
def test_a_link_of_another_user_is_refused(cache, tmp_path, monkeypatch):
    make_cache_folder(cache)
    link = tmp_path / "link"
    link.symlink_to(cache)
    monkeypatch.setenv("CSPBENCH_CACHE", str(link))
    assert cache_folder() == link
    os.lchown(link, OTHER, -1)
    monkeypatch.setenv("CSPBENCH_CACHE", str(link / "."))
    assert "belongs to the user" in refusal("analyses")


def test_a_link_to_a_folder_that_others_may_write_is_refused(cache, tmp_path, monkeypatch):
    make_cache_folder(cache)
    cache.parent.chmod(0o777)
    (tmp_path / "link").symlink_to(cache)
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path / "link"))
    assert f"{cache.parent} may be written by every user" in refusal()


def test_a_folder_below_one_such_as_tmp_is_safe_and_that_folder_itself_is_not(cache, monkeypatch):
    make_cache_folder(cache)
    cache.parent.chmod(0o1777)
    assert cache_folder() == cache
    monkeypatch.setenv("CSPBENCH_CACHE", str(cache.parent))
    assert "may be written by every user" in refusal()


def test_what_lies_above_the_home_directory_does_not_matter(cache, monkeypatch):
    make_cache_folder(cache)
    cache.parent.parent.chmod(0o777)
    monkeypatch.setenv("HOME", str(cache.parent))
    assert cache_folder() == cache
    monkeypatch.setenv("CSPBENCH_CACHE", str(cache / "deeper"))
    monkeypatch.setenv("HOME", "/nowhere")
    assert "may be written by every user" in refusal()


@pytest.mark.parametrize(
    "command",
    [["plan", "quick"], ["run", "quick"], ["analyze", "peleenet"], ["ceilings"],
     ["gate", "quick", "--base", "set:", "--head", "set:"]],
    ids=lambda command: command[0],
)  # fmt: skip
def test_commands_say_so_in_one_sentence_before_anything_runs(cache, tmp_path, command):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    done = subprocess.run(
        [Path(sys.executable).with_name("cspbench"), *command], cwd=tmp_path, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert f"{cache} may be written by every user" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "results").exists()
    assert list(cache.iterdir()) == []
