"""A run on disk: what survives a kill, a torn write and damage, and what is said about it."""

import contextlib
import errno
import json
import os
import shutil
import threading
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cspbench.errors import InputError, StoreError
from cspbench.store import fsck
from cspbench.store.lines import decode_line, encode_line
from cspbench.store.rundir import (
    BLOCK_FILE,
    FORMAT,
    LAUNCHES_FILE,
    RUN_FILE,
    RunDirectory,
    find_run,
    list_runs,
    read_lines,
    read_run,
)

IDS = [f"{name}@64/opencv-cpu/b1/t1" for name in "abc"]
A, B, C = (
    {"case": case, "job": "time", "number": 0, "session": "s", "status": "failed", "reason": "it"}
    for case in IDS
)


@pytest.fixture
def run(tmp_path):
    """A run that planned a, b and c and launched nothing yet."""
    meta = {"suite": {"measure": {"rounds": 1}}, "cases": [{"id": case} for case in IDS]}
    return RunDirectory.create(tmp_path, "20240501-120000-tiny", meta)


def launches_file(run):
    return run.path / LAUNCHES_FILE


# Lines ------------------------------------------------------------------------------------------


def test_a_line_is_a_checksum_and_json():
    text = b'{"case":"a"}'
    assert encode_line({"case": "a"}) == b"%08x %s\n" % (zlib.crc32(text), text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), _json, max_size=4))
def test_every_launch_survives_a_round_trip_in_one_line(launch):
    line = encode_line(launch)
    assert line.count(b"\n") == 1
    assert decode_line(line.removesuffix(b"\n")) == launch


@given(st.data())
def test_one_changed_byte_is_always_noticed(data):
    """CRC-32 finds every burst of errors of up to 32 bits."""
    line = bytearray(encode_line(A).removesuffix(b"\n"))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ValueError):
        assert decode_line(bytes(line)) == A  # a checksum in capital letters is still the same


@given(st.binary(max_size=40))
def test_garbage_is_no_launch(line):
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        decode_line(line)


def test_not_a_number_is_refused_before_it_is_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode_line({"latency": float("nan")})


# Append and read --------------------------------------------------------------------------------


def test_what_was_appended_is_read_in_order(run):
    for launch in (A, B, C):
        run.append(launch)
        assert read_lines(run.path).launches[-1] == launch  # at once, not when the run ends
    stored = read_lines(run.path)
    assert stored.launches == [A, B, C]
    assert stored.problems == []
    assert stored.meta["run"] == run.path.name
    assert stored.meta["format"] == FORMAT


@pytest.mark.parametrize("cut", range(1, 20, 3))
def test_a_torn_last_line_is_dropped_and_named(run, cut):
    run.append(A)
    run.append(B)
    content = launches_file(run).read_bytes()
    launches_file(run).write_bytes(content[: -1 - cut])
    stored = read_lines(run.path)
    assert stored.launches == [A]
    assert stored.problems == [f"{launches_file(run)}:2: cut off in writing, dropped"]


def test_a_line_that_lacks_only_its_newline_is_whole(run):
    run.append(A)
    launches_file(run).write_bytes(launches_file(run).read_bytes().removesuffix(b"\n"))
    assert (read_lines(run.path).launches, read_lines(run.path).problems) == ([A], [])
    run.append(B)
    assert read_lines(run.path).launches == [A, B]


def test_a_run_goes_on_after_a_torn_line(run):
    run.append(A)
    run.append(B)
    launches_file(run).write_bytes(launches_file(run).read_bytes()[:-5])
    run.append(C)
    stored = read_lines(run.path)
    assert stored.launches == [A, C]
    assert stored.problems == [f"{launches_file(run)}:2: damaged, skipped"]


def test_a_damaged_line_in_the_middle_is_skipped_and_named(run):
    for launch in (A, B, C):
        run.append(launch)
    damaged = launches_file(run).read_bytes().replace(b'"case":"b', b'"case":"x')
    launches_file(run).write_bytes(damaged)
    stored = read_lines(run.path)
    assert stored.launches == [A, C]
    assert stored.problems == [f"{launches_file(run)}:2: damaged, skipped"]


@given(st.integers(0, 3), st.binary(max_size=30))
def test_whatever_is_at_the_end_of_the_file_no_launch_before_it_is_lost(
    tmp_path_factory, count, tail
):
    run = RunDirectory.create(tmp_path_factory.mktemp("runs"), "r", {})
    for launch in (A, B, C)[:count]:
        run.append(launch)
    with launches_file(run).open("ab") as file:
        file.write(tail)
    assert read_lines(run.path).launches[:count] == [A, B, C][:count]
    run.append(A)
    assert read_lines(run.path).launches[-1] == A


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EDQUOT, "Disk quota exceeded"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize(
    "write", [lambda run: run.append(B), lambda run: run.update(lambda meta: meta.update(x=1))]
)
def test_a_disk_that_takes_no_more_is_one_sentence_and_nothing_is_half_written(
    run, monkeypatch, number, said, write
):
    run.append(A)
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}

    def full(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StoreError, match=rf"cannot write .*: {said}; earlier launches are kept: .* run --resume"
    ):
        write(run)
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_directory_that_is_gone_does_not_come_back_half_empty(run):
    shutil.rmtree(run.path)
    for write in (run.append, lambda meta: run.update(lambda old: old.update(meta))):
        with pytest.raises(StoreError, match="No such file or directory"):
            write(A)
    assert not run.path.exists()


@pytest.mark.parametrize("name", [RUN_FILE, LAUNCHES_FILE])
def test_a_pipe_or_a_link_in_a_run_is_refused_and_not_waited_for(run, tmp_path, name):
    file = run.path / name
    aside = file.rename(tmp_path / "aside")
    os.mkfifo(file)
    with pytest.raises(InputError, match=f"{name} cannot be read: .*not a regular file"):
        read_lines(run.path)
    file.unlink()
    file.symlink_to(aside)
    before = aside.read_bytes()
    with pytest.raises(InputError, match=f"{name} cannot be read: "):
        read_lines(run.path)
    if name == LAUNCHES_FILE:
        with pytest.raises(StoreError):
            run.append(A)
    assert aside.read_bytes() == before


def test_a_link_where_a_new_file_is_made_is_not_followed(run, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("not ours")
    (run.path / f"{RUN_FILE}.new").symlink_to(outside)
    run.update(lambda meta: meta.update(x=1))
    assert outside.read_text() == "not ours"
    assert json.loads((run.path / RUN_FILE).read_text())["x"] == 1


def test_many_threads_change_run_json_one_at_a_time(run):
    """As the sessions of a fleet's boards do: no change is lost."""

    def note(board):
        for number in range(20):
            run.update(lambda meta, number=number: meta["noted"].append([board, number]))

    run.update(lambda meta: meta.update(noted=[]))
    threads = [threading.Thread(target=note, args=(board,)) for board in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    noted = json.loads((run.path / RUN_FILE).read_text())["noted"]
    assert sorted(noted) == [[board, number] for board in range(8) for number in range(20)]


def test_run_json_is_replaced_as_a_whole(run):
    before = (run.path / RUN_FILE).read_text()
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.update(lambda meta: meta.update(x=float("nan")))
    assert (run.path / RUN_FILE).read_text() == before


# Directories ------------------------------------------------------------------------------------


def test_two_runs_of_the_same_second_have_their_own_directories(tmp_path):
    names = [RunDirectory.create(tmp_path, "20240501-120000-x", {}).path.name for _ in range(3)]
    assert names == ["20240501-120000-x", "20240501-120000-x-2", "20240501-120000-x-3"]
    assert read_lines(tmp_path / names[1]).meta["run"] == names[1]


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot write a run under .*file"):
        RunDirectory.create(tmp_path / "file", "x", {})


def test_a_newer_format_is_refused_and_the_way_out_named(run):
    run.update(lambda meta: meta.update(format=FORMAT + 1))
    with pytest.raises(InputError, match=f"run format {FORMAT + 1}, .* reads up to {FORMAT}: upg"):
        read_lines(run.path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a run: it has no run.json"),
        ("{ torn", "cannot be read"),
        ("[]", "does not describe a run"),
        ("{}", "does not describe a run"),
        ('{"format": "one"}', "does not describe a run"),
        ("\xff\xfe", "does not describe a run|cannot be read"),
    ],
)
def test_what_is_no_run_is_told(tmp_path, content, said):
    if content is not None:
        (tmp_path / RUN_FILE).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=said):
        read_lines(tmp_path)


def test_a_run_that_was_killed_before_its_first_launch_is_empty(run):
    launches_file(run).unlink()
    assert read_lines(run.path).launches == []


def test_runs_are_found_by_path_by_name_and_as_the_latest(tmp_path, monkeypatch):
    out = tmp_path / "results"
    old = RunDirectory.create(out, "20240501-120000-a", {}).path
    new = RunDirectory.create(out, "20240502-090000-b", {}).path
    (out / "20240503-notes").mkdir()  # no run.json: not a run
    assert list_runs(out) == [old, new]
    assert find_run("latest", out) == new
    assert find_run(old.name, out) == old
    assert find_run(str(old), tmp_path / "elsewhere") == old
    monkeypatch.chdir(out)
    assert find_run(old.name, tmp_path / "elsewhere").resolve() == old


@pytest.mark.parametrize("argument", ["missing", "", "a" * 300, "../..", "latest"])
def test_a_run_that_is_not_there_names_the_newest(tmp_path, monkeypatch, argument):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"there is no run .* \(newest under .*: none\)"):
        find_run(argument, tmp_path / "results")
    if argument != "latest":
        RunDirectory.create(tmp_path / "results", "20240501-120000-a", {})
        with pytest.raises(InputError, match="20240501-120000-a"):
            find_run(argument, tmp_path / "results")


# fsck -------------------------------------------------------------------------------------------


def test_fsck_of_a_good_run_finds_nothing(run):
    run.append(A)
    assert fsck.check(run.path) == fsck.FsckReport(1, (), repairable=False)
    assert fsck.repair(run.path) == 0


def test_fsck_moves_damaged_lines_away_and_loses_nothing(run):
    for launch in (A, B, C):
        run.append(launch)
    content = launches_file(run).read_bytes().replace(b'"case":"b', b'"case":"x')
    launches_file(run).write_bytes(content[:-3])
    health = fsck.check(run.path)
    assert (health.launches, len(health.problems), health.repairable) == (1, 2, True)
    assert fsck.repair(run.path) == 2
    assert fsck.check(run.path) == fsck.FsckReport(1, (), repairable=False)
    kept = (run.path / fsck.DAMAGED_FILE).read_bytes()
    assert sorted(content[:-3].split(b"\n")[1:]) == sorted(kept.removesuffix(b"\n").split(b"\n"))


# A block under way ------------------------------------------------------------------------------


def test_what_is_held_of_a_block_is_added_to_the_launches_once(run):
    run.keep_block([A])
    run.keep_block([A, B])  # in its place
    run.append(B)  # the block was being stored when the process was killed
    run.recover_block()
    assert [launch.case for launch in read_run(run.path).launches] == [IDS[1], IDS[0]]
    run.recover_block()
    assert len(read_run(run.path).launches) == 2
    assert not (run.path / BLOCK_FILE).exists()


def test_a_block_that_is_stored_is_not_held_any_more(run):
    run.drop_block()  # there was none
    run.keep_block([A])
    run.drop_block()
    run.recover_block()
    assert read_run(run.path).launches == []


def test_damage_to_what_is_held_costs_that_launch_only(run):
    run.keep_block([A, B])
    lines = (run.path / BLOCK_FILE).read_bytes().splitlines(keepends=True)
    (run.path / BLOCK_FILE).write_bytes(lines[0][:-9] + b"\n" + lines[1])
    run.recover_block()
    assert [launch.case for launch in read_run(run.path).launches] == [IDS[1]]


def test_where_a_block_cannot_be_held_measuring_goes_on(run, tmp_path):
    shutil.rmtree(run.path)
    run.keep_block([A])
    assert not run.path.exists()


def test_fsck_names_strangers_and_doubles(run):
    run.append(A)
    run.append(A)
    run.append({**A, "case": IDS[0].replace("a", "z", 1)})
    problems = "\n".join(fsck.check(run.path).problems)
    assert "z@64/opencv-cpu/b1/t1 was not planned" in problems
    assert f"launch 0 of {IDS[0]} occurs twice" in problems


def test_json_is_what_any_other_program_can_read(run):
    """The format is plain: a checksum, a space, JSON."""
    run.append(A)
    checksum, text = launches_file(run).read_text().splitlines()[0].split(" ", 1)
    assert json.loads(text) == A
    assert int(checksum, 16) == zlib.crc32(text.encode())


def test_a_number_that_python_reads_as_infinity_is_refused_where_it_would_be_written_again(run):
    file = run.path / RUN_FILE
    whole = file.read_text()
    for text in ("1e999", "-1E+400", "[[1e9999 ]]"):
        file.write_text(whole.replace('"cases"', f'"stranger": {text}, "cases"'))
        with pytest.raises(InputError, match="is not finite"):
            read_run(run.path)
    deep = "[" * 100_000 + "1e999" + "]" * 100_000
    file.write_text(whole.replace('"cases"', f'"stranger": {deep}, "cases"'))
    with pytest.raises(InputError, match="nested too deeply"):
        read_run(run.path)
    file.write_text(whole.replace('"cases"', '"stranger": [1e300, "e999"], "cases"'))
    RunDirectory(run.path).update(lambda meta: None)
    assert read_run(run.path).meta["stranger"] == [1e300, "e999"]


def test_half_a_pair_of_surrogates_is_read_as_text_that_can_be_shown(run):
    """JSON can hold it and UTF-8 cannot: no table or page of the run could be written."""
    run.append({**A, "reason": "a\ud800b", "log": "\udfff"})
    [launch] = read_run(run.path).launches
    assert (launch.reason, launch.log) == (r"a\ud800b", r"\udfff")


def test_a_run_that_would_be_too_large_to_read_is_not_written(run, monkeypatch):
    monkeypatch.setattr("cspbench.store.rundir.MAX_LAUNCHES_BYTES", 500)
    run.append(A)
    with pytest.raises(StoreError, match="and no larger run is read; earlier launches are kept"):
        run.append({**A, "log": "x" * 500})
    assert len(read_run(run.path).launches) == 1
