"""Faults of the machine under a real run: what is kept, the exit code, the message, what is left.

Faults of a backend are in ``tests/runner/test_worker_process.py``, kills in
``test_interruption.py`` and ``tests/test_soak.py``; docs/reliability.md has the whole table.
"""

import shutil
import signal
import subprocess
import sys

import psutil
import pytest

from cspbench.store import fsck
from cspbench.store.rundir import LAUNCHES_FILE, read_run
from tests.cli.conftest import wait_until
from tests.cli.test_interruption import CASES, SUITE, stored

LONG = SUITE.replace("rounds: 3", "rounds: 500")


@pytest.fixture
def run(cspbench):
    """The command line, and after the test: nothing of ours is left, of whatever kind."""
    (cspbench.folder / "tmp").mkdir()
    cspbench.environment = {**cspbench.environment, "TMPDIR": str(cspbench.folder / "tmp")}
    yield cspbench
    nothing_is_left(cspbench.folder)


def nothing_is_left(folder):
    """No process works in the folder, and no temporary file lies about (torch's cache aside)."""
    wait_until(lambda: not [p for p in psutil.process_iter() if in_folder(p, folder)])
    left = [*(folder / "tmp").iterdir(), *folder.rglob("*.new")]
    assert [path for path in left if not path.name.startswith("torchinductor")] == []


def in_folder(process, folder):
    try:
        return process.cwd() == str(folder) and process.status() != "zombie"
    except psutil.Error:
        return False


def the_run(folder):
    (path,) = folder.glob("results/*")
    return path


def started(run, *arguments, launches=2):
    """Start a long run and wait for its first launches."""
    run.write("two.yaml", LONG)
    controller = run.start("run", "two.yaml", "--no-report", *arguments)
    wait_until(lambda: len(stored(run.folder)) >= launches or controller.poll() is not None)
    assert controller.poll() is None, controller.communicate()
    return controller


def finished(run):
    """Resume the run with few rounds, so that it ends; every case must have its launches."""
    path = the_run(run.folder)
    text = (path / "run.json").read_text().replace('"rounds": 500', '"rounds": 3')
    (path / "run.json").write_text(text)
    result = run.run_json("--resume", "latest", "--force", "--no-report")
    assert [case["status"] for case in result["cases"]] == ["ok", "ok"]
    assert fsck.check(path).problems == ()


def in_namespace(run, script):
    """Run a shell script in a mount namespace of its own; returns (what it printed, errors)."""
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script, "sh", sys.executable],
        cwd=run.folder, env=run.environment, capture_output=True, text=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


IN_MID_RUN = """
mkdir -p results kept
mount -t tmpfs -o size=8m none results
"$1" -m cspbench run two.yaml --reports kept/reports > kept/out 2> kept/err & controller=$!
until [ "$(cat results/*/launches.jsonl 2>/dev/null | wc -l)" -ge 2 ]; do sleep 0.1; done
%s
code=0; wait $controller || code=$?
echo "code $code"
cat results/*/launches.jsonl > kept/launches.jsonl
%s
cp -r results/2* kept/
cat kept/err >&2
"""


@pytest.mark.namespaces
def test_a_full_file_system_stops_the_run_and_what_was_measured_is_resumed(run):
    run.write("two.yaml", LONG)
    fill = "dd if=/dev/zero of=results/filler bs=4k 2>/dev/null || true"
    out, err = in_namespace(run, IN_MID_RUN % (fill, "rm results/filler"))
    assert out == "code 3\n"
    assert "No space left on device; earlier launches are kept" in err
    (path,) = (run.folder / "kept").glob("2*")
    there = read_run(path)
    assert len(there.launches) >= 2
    assert there.problems == []  # not even a torn line
    shutil.copytree(path, run.folder / "results" / path.name)  # elsewhere, where there is room
    finished(run)


@pytest.mark.namespaces
def test_a_file_system_that_turns_read_only_stops_the_run(run):
    run.write("two.yaml", LONG)
    turn = "until mount -o remount,ro results; do :; done 2>/dev/null"
    out, err = in_namespace(run, IN_MID_RUN % (turn, ""))
    assert out == "code 3\n"
    assert "Read-only file system; earlier launches are kept" in err
    (path,) = (run.folder / "kept").glob("2*")
    assert len(read_run(path).launches) >= 2


@pytest.mark.namespaces
def test_a_read_only_directory_is_told_before_anything_runs(run):
    """Root may write where permissions say no: only the file system stops it."""
    run.write("two.yaml", SUITE)
    script = """
    mkdir results && mount -t tmpfs -o ro none results
    code=0; "$1" -m cspbench run two.yaml || code=$?
    echo "code $code"
    """
    out, err = in_namespace(run, script)
    assert out == "code 2\n"
    assert err == "error: cannot write a run under results: Read-only file system\n"


def test_a_run_directory_that_is_deleted_stops_the_run(run):
    controller = started(run)
    shutil.rmtree(the_run(run.folder))
    out, err = controller.communicate()
    assert (controller.returncode, out) == (3, "")
    assert "No such file or directory; earlier launches are kept" in err
    assert "Traceback" not in err
    assert list(run.folder.glob("results/*")) == []  # and it is not made again, half empty


def test_two_controllers_on_one_run_take_turns_and_measure_nothing_twice(run):
    run.write("two.yaml", SUITE)
    first = run.start("run", "two.yaml", "--no-report")
    wait_until(lambda: len(stored(run.folder)) >= 1)
    second = run.start("run", "--resume", "latest", "--no-report")
    told = first.communicate()[1] + second.communicate()[1]
    assert (first.returncode, second.returncode) == (0, 0)
    assert "another run measures on this machine (process" in told
    there = read_run(the_run(run.folder))
    assert len({launch.session for launch in there.launches}) == 1
    assert fsck.check(the_run(run.folder)).problems == ()  # no launch is there twice


def test_ctrl_c_twice_keeps_what_was_measured(run):
    controller = started(run)
    reported = stored(run.folder)
    controller.send_signal(signal.SIGINT)
    controller.send_signal(signal.SIGINT)
    err = controller.communicate()[1]
    assert controller.returncode == 130
    assert "Traceback" not in err
    assert stored(run.folder)[: len(reported)] == reported


def test_ctrl_c_again_while_the_report_is_written(run):
    controller = started(run)
    children = psutil.Process(controller.pid).children()
    controller.send_signal(signal.SIGINT)
    psutil.wait_procs(children)
    controller.send_signal(signal.SIGINT)
    err = controller.communicate()[1]
    assert controller.returncode == 130
    assert "Traceback" not in err


def test_a_torn_line_of_a_killed_run_is_told_and_repaired(run):
    controller = started(run)
    controller.kill()
    controller.communicate()
    file = the_run(run.folder) / LAUNCHES_FILE
    file.write_bytes(file.read_bytes()[:-20])
    result = run("fsck", "latest")
    assert (result.returncode, "cut off in writing, dropped" in result.stdout) == (3, True)
    assert run("fsck", "latest", "--repair").returncode == 0
    finished(run)
    assert [case["id"] for case in read_run(the_run(run.folder)).meta["cases"]] == CASES
