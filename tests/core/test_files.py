"""Files are written as a whole or not at all."""

import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cspbench.core.files import (
    file_digest,
    new_folder,
    open_input,
    replacing,
    write_output,
    write_whole,
)
from cspbench.errors import InputError


@pytest.mark.parametrize("shared", [False, True])
def test_a_file_is_old_or_new_and_nothing_lies_beside_it(tmp_path, shared):
    path = tmp_path / "a.bin"
    write_whole(path, b"old", shared=shared)
    with replacing(path, shared=shared) as new:
        new.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        new.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("error", [OSError("the disk is full"), KeyboardInterrupt()])
def test_what_breaks_off_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "a.bin"
    write_whole(path, b"old")

    def break_off():
        with replacing(path) as new:
            new.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)):
        break_off()
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_others_may_read_what_was_written(tmp_path):
    """As any file that this user makes: a cache may be shared, a report is sent around."""
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "whole", b"", shared=True)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "whole")}
    assert len(modes) == 1


def test_several_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "a.bin"
    contents = [bytes([number]) * 100_000 for number in range(8)]

    def write(content):
        for _ in range(20):
            write_whole(path, content, shared=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert path.read_bytes() in contents
    assert len(list(tmp_path.iterdir())) == 1


def test_the_suffix_stays_the_last_one_for_exporters_that_look_at_it(tmp_path):
    with replacing(tmp_path / "model.pt2", shared=True) as new:
        assert new.suffix == ".pt2"
        new.touch()


def test_what_must_last_is_on_disk_before_its_name_is(tmp_path, monkeypatch):
    log = []
    real = os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: log.append("sync"))
    monkeypatch.setattr(os, "replace", lambda *names: (log.append("replace"), real(*names)))
    write_whole(tmp_path / "run.json", b"{}", sync=True)
    assert log == ["sync", "replace", "sync"]  # the file, its place, the folder


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    # SHA-256 of "abc", from FIPS 180-2, appendix B.1.
    assert file_digest(tmp_path / "a") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert file_digest(tmp_path / "none") == ""


# Links, pipes, devices ---------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A stranger's tree, in which the command stands, and a folder of the user's beside it."""
    tree, users = tmp_path / "tree", tmp_path / "users"
    tree.mkdir()
    users.mkdir()
    (users / "kept").write_bytes(b"kept")
    monkeypatch.chdir(tree)
    return tree


def test_a_link_is_replaced_and_what_it_leads_to_stays(here):
    (here / "gate.md").symlink_to("../users/kept")
    (here / "gate.md.new").symlink_to("../users/kept")
    write_output(Path("gate.md"), b"new")
    assert Path("gate.md").read_bytes() == b"new"
    assert not Path("gate.md").is_symlink()
    assert Path("../users/kept").read_bytes() == b"kept"
    assert [file.name for file in here.iterdir()] == ["gate.md"]


@pytest.mark.parametrize("way", ["gate", "sub/gate", "gate/deeper", "{here}/gate"])
@pytest.mark.parametrize("target", ["../users", "/{users}", "missing"])
def test_no_folder_below_the_working_directory_may_be_a_link(here, way, target):
    folder = Path(way.format(here=here))
    (here / "sub").mkdir()
    link = Path("sub/gate") if way.startswith("sub") else Path("gate")
    users = here.parent / "users"
    link.symlink_to(users if "{" in target else target, target_is_directory=True)
    with pytest.raises(InputError, match=r"cannot write .*gate is a link: name the folder"):
        write_output(folder / "gate.md", b"new", folder=True)
    with pytest.raises(OSError, match="gate is a link"):
        new_folder(folder, "run")
    assert [file.name for file in users.iterdir()] == ["kept"]


def test_folders_above_and_elsewhere_are_the_users_own(here, monkeypatch):
    """A home on another disk, ``/tmp`` of a Mac, ``results`` that is named where it leads."""
    disk = here.parent / "disk"
    disk.symlink_to("users")
    write_output(disk / "a", b"a")
    monkeypatch.chdir(disk)
    write_output(Path("b"), b"b")
    assert {file.name for file in (here.parent / "users").iterdir()} == {"kept", "a", "b"}


def make_special(kind, path):
    """Something of that name that is no file; for a socket its owner, who must stay."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        owner = socket.socket(socket.AF_UNIX)
        owner.bind(path.name)
        return owner
    return None


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket"])
def test_what_is_no_file_is_not_replaced(here, kind):
    owner = make_special(kind, here / "gate.md")
    before = (here / "gate.md").lstat()
    with pytest.raises(InputError, match=r"cannot write gate\.md: it is not a regular file"):
        write_output(Path("gate.md"), b"new")
    assert (here / "gate.md").lstat().st_ino == before.st_ino
    del owner


@pytest.mark.parametrize("name", ["/dev/null", "/dev/stdout", "/dev/fd/1"])
def test_devices_and_the_links_of_the_system_are_not_replaced(name):
    """Root could: the machine would be without it."""
    before = os.lstat(name).st_ino
    with pytest.raises(InputError, match="cannot write"):
        write_output(Path(name), b"new")
    assert os.lstat(name).st_ino == before or name.startswith("/dev/fd")


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device"])
@pytest.mark.parametrize("linked", [False, True])
def test_an_input_is_a_regular_file_and_nothing_is_waited_for(here, kind, linked):
    owner = make_special(kind, here / "input")
    if linked:
        (here / "link").symlink_to("input")
    with pytest.raises(OSError):  # noqa: PT011 - the system words a socket's
        open_input(Path("link" if linked else "input"))
    assert file_digest(Path("input")) == ""
    del owner


def test_an_input_may_be_a_link_to_a_file(here):
    (here / "model.onnx").symlink_to("../users/kept")
    with open_input(Path("model.onnx")) as file:
        assert file.read() == b"kept"
