"""The timing lock: one holder a machine, whichever user, whatever others lay in the directory."""

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from cspbench.errors import BusyError, InputError
from cspbench.machine import lock
from cspbench.machine.lock import timing_lock
from tests.cli.conftest import wait_until


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(tmp_path))
    return tmp_path


def in_child(function, *, user=None):
    """Run ``function`` in a forked process, as another user if told; returns what it returned."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def run():
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
        try:
            answers.put(function())
        except InputError as error:
            answers.put(str(error))

    child = context.Process(target=run)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    return answers.get()


def take():
    with timing_lock("mine", wait=False):
        return "taken"


def test_the_second_one_is_refused_and_told_who_measures(folder):
    with timing_lock("edge, quick"):
        refused = in_child(take)
    user = psutil.Process().username()
    assert refused.startswith(
        f"another run measures on this machine (process {os.getpid()} of user {user}, edge, quick)"
    )
    assert "leave out --no-wait" in refused
    assert in_child(take) == "taken"


def test_the_second_one_waits_and_is_told_once(folder):
    told = []
    with timing_lock("first"):
        second = threading.Thread(target=lambda: in_waiting(told))
        second.start()
        wait_until(lambda: len(told) == 1)
    second.join(60)
    assert [text.split(" (")[0] for text in told] == ["another run measures on this machine", "in"]


def in_waiting(told):
    with timing_lock("second", waiting=told.append):
        told.append("in")


def test_a_wait_has_a_bound_and_says_who_holds_the_lock(folder, monkeypatch):
    """Any user can lock the file for ever: no run waits so long."""
    monkeypatch.setenv("CSPBENCH_LOCK_SECONDS", "0.7")
    told = []
    with timing_lock("hanging"):
        begin = time.monotonic()
        sentence = in_child(lambda: give_up(told))
        assert 0.7 <= time.monotonic() - begin < 30
    told, end = sentence
    holder = f"another run measures on this machine (process {os.getpid()} of user "
    assert told[0].startswith(holder)
    assert told[0].endswith("hanging); waiting for it, at most 0.7 s in all")
    assert len(told) == 1
    assert end.startswith(holder)
    assert end.endswith(
        "hanging) and did not end within 0.7 s; end it if it hangs, or wait longer with "
        "CSPBENCH_LOCK_SECONDS"
    )
    assert in_child(take) == "taken"


def give_up(told):
    try:
        in_waiting(told)
    except BusyError as error:
        return told, str(error)
    raise AssertionError("it does not give up")


def test_a_new_holder_is_told_too(folder):
    told = []
    file = folder / "cspbench-timing.lock"
    with timing_lock("first"):
        second = threading.Thread(target=lambda: in_waiting(told))
        second.start()
        wait_until(lambda: len(told) == 1)
        file.write_text(json.dumps({"pid": os.getpid(), "what": "another"}))
        wait_until(lambda: len(told) == 2)
    second.join(60)
    assert "first); waiting" in told[0]
    assert "another); waiting" in told[1]


def test_the_default_bound_is_a_day(monkeypatch):
    monkeypatch.delenv("CSPBENCH_LOCK_SECONDS", raising=False)
    assert lock.max_wait_seconds() == 24 * 3600


@pytest.mark.parametrize("value", ["soon", "nan", "inf", "-1", "1e7"])
def test_a_bound_that_is_none_is_refused(folder, monkeypatch, value):
    monkeypatch.setenv("CSPBENCH_LOCK_SECONDS", value)
    with pytest.raises(InputError, match=f"CSPBENCH_LOCK_SECONDS='{value}' is not a number of"):
        take()


def test_a_note_cannot_accuse_another_process(folder):
    """The kernel knows who holds the lock; the note is any user's text."""
    with timing_lock("mine"):
        (folder / "cspbench-timing.lock").write_text('{"pid": 1, "what": "of init"}')
        refused = in_child(take)
    assert f"(process {os.getpid()} of user " in refused
    assert "init" not in refused


def test_where_the_kernel_does_not_tell_the_note_does(folder, monkeypatch):
    monkeypatch.setattr(lock, "_LOCKS", folder / "none")
    with timing_lock("mine"):
        assert f"(process {os.getpid()} of user " in in_child(take)


def test_a_holder_that_is_killed_holds_nothing(folder):
    child = multiprocessing.get_context("fork").Process(target=hold)
    child.start()
    wait_until(lambda: state(folder / "cspbench-timing.lock") == "held")
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert take() == "taken"


def hold():
    with timing_lock("hanging"):
        signal.pause()


def state(file):
    if not file.exists():
        return "none"
    with file.open() as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return "held"
    return "free"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_takes_the_lock_of_a_shared_directory(monkeypatch):
    """As in /tmp, which is sticky: O_CREAT on others' files may be refused there."""
    protect(monkeypatch)
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o1777)
        monkeypatch.setenv("CSPBENCH_LOCK_DIR", str(folder))
        assert take() == "taken"
        assert (folder / "cspbench-timing.lock").stat().st_uid == 0
        assert in_child(take, user=65534) == "taken"
        with timing_lock("of root"):
            assert "of root" in in_child(take, user=65534)
        (folder / "cspbench-timing.lock").unlink()
        assert in_child(take, user=65534) == "taken"
        assert (folder / "cspbench-timing.lock").stat().st_uid == 65534
        assert take() == "taken"


def protect(monkeypatch):
    """Refuse what a kernel with fs.protected_regular refuses in a sticky directory."""
    really = os.open

    def checked(path, flags, *arguments, **more):
        with contextlib.suppress(FileNotFoundError):
            if flags & os.O_CREAT and os.stat(path).st_uid != os.geteuid():
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return really(path, flags, *arguments, **more)

    monkeypatch.setattr(os, "open", checked)


def test_a_link_or_a_pipe_in_its_place_is_refused_not_followed(folder):
    (folder / "aim").touch()
    (folder / "cspbench-timing.lock").symlink_to(folder / "aim")
    with pytest.raises(InputError, match="cannot lock"):
        take()
    (folder / "cspbench-timing.lock").unlink()
    os.mkfifo(folder / "cspbench-timing.lock")
    with pytest.raises(InputError, match="no regular file; remove it"):
        take()
    assert (folder / "aim").read_bytes() == b""


@pytest.mark.parametrize(
    ("note", "shown"),
    [
        (b'{"pid": PID, "what": "a\\u001b[2Jb\\nc"}', ", a\\u001b[2Jb\\nc"),
        (b"[" * 5000, ""),
        (b"\xff\x00", ""),
        (b'{"pid": "x"}', ""),
        (b'{"pid": 1e400, "what": ""}', ""),
    ],
)
def test_the_note_of_a_stranger_is_only_text(folder, note, shown):
    file = folder / "cspbench-timing.lock"
    with file.open("w+b") as held:
        held.write(note.replace(b"PID", str(os.getpid()).encode()))
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(InputError) as refused:
            take()
    own = f"process {os.getpid()} of user {psutil.Process().username()}"
    assert f"({own}{shown})" in str(refused.value)


def test_a_lock_file_that_was_cleaned_away_is_made_again(folder):
    with timing_lock("first"):
        (folder / "cspbench-timing.lock").unlink()
        assert take() == "taken"  # a file without a name cannot be found
    assert take() == "taken"
    assert [path.name for path in folder.iterdir()] == ["cspbench-timing.lock"]
