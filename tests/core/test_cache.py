"""A cache holds programs, so one that another user can write is refused."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cspbench.core.cache import cache_folder, make_cache_folder
from cspbench.errors import InputError
from tests.conftest import missing_namespaces

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


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory that decides where the cache lies, and a temporary folder beside it."""
    for name in ("CSPBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def fallback(home, capsys, why):
    """The folder below the temporary one, with one sentence that says why, once."""
    folder = cache_folder("artifacts")
    cache_folder("analyses")
    assert folder == home.parent / f"cspbench-{os.getuid()}" / "artifacts"
    [sentence] = capsys.readouterr().err.splitlines()
    assert f"cannot be the cache, because {why}" in sentence
    assert f"; it lies in {folder.parent} instead" in sentence
    assert "CSPBENCH_CACHE" in sentence
    make_cache_folder(folder)
    assert folder.parent.stat().st_mode & 0o777 == 0o700


def test_a_home_directory_of_our_own_holds_the_cache(home, capsys):
    home.mkdir()
    assert cache_folder() == home / ".cache" / "cspbench"
    assert capsys.readouterr().err == ""


def test_a_home_that_is_no_folder_is_not_used(home, capsys):
    home.touch()
    fallback(home, capsys, f"{home} is no folder")


@needs_root
def test_the_cache_of_another_user_is_left_alone(home, capsys):
    """As with sudo, which keeps HOME."""
    make_cache_folder(home / ".cache" / "cspbench")
    os.chown(home / ".cache" / "cspbench", OTHER, -1)
    fallback(home, capsys, "it belongs to the user ")


@pytest.mark.skipif(missing_namespaces() is not None, reason=str(missing_namespaces()))
def test_a_read_only_home_is_not_used(home, tmp_path):
    home.mkdir()
    code = "from cspbench.core.cache import cache_folder; print(cache_folder())"
    mount = f'mount --bind {home} {home} && mount -o remount,ro,bind {home} && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mount, "sh", sys.executable, "-c", code],
        capture_output=True, text=True, check=True, env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / f"cspbench-{os.getuid()}")
    assert f"{home} cannot be written" in done.stderr


def test_a_folder_of_that_name_that_others_may_write_is_refused(home):
    home.touch()
    place = home.parent / f"cspbench-{os.getuid()}"
    place.mkdir()
    place.chmod(0o777)
    assert f"{place} may be written by every user" in refusal()


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
