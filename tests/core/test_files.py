"""Files are written as a whole or not at all."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from cspbench.core.files import file_digest, replacing, write_whole


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
