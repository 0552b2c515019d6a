"""A fault ends with 70, a closed pipe with 141; neither ends with 1, which means a regression."""

import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cspbench.cli.last_resort import exit_code_of
from cspbench.cli.main import COMMANDS
from cspbench.core.statuses import ExitCode
from cspbench.store import fsck
from tests.cli.conftest import SCRIPT
from tests.cli.test_interruption import SUITE

ROOT = Path(__file__).parents[2]
EDGE = str(ROOT / "results" / "reference" / "edge")
BUGS = {
    "ValueError: two lines": "raise ValueError('two\\nlines')",
    "MemoryError": "raise MemoryError",
    "RecursionError: maximum recursion depth exceeded": "def f(): f()\nf()",
    "SystemExit: 1": "import sys; sys.exit(1)",
    "SystemExit: 0": "import sys; sys.exit(0)",  # a model's code must not call a gate good
    "EOFError": "raise EOFError",
    "BrokenPipeError: [Errno 32] Broken pipe": "raise BrokenPipeError(32, 'Broken pipe')",
    "CancelledError": "import asyncio; raise asyncio.CancelledError",
}
#: What prints at once, much, by rich, by click itself, and with pandas.
PRINTING = [
    ["show-model", "csppeleenet"],
    ["doctor"],
    ["plan", "quick"],
    ["list", "models"],
    ["list", "models", "--format", "json"],
    ["schema"],
    ["show", EDGE],
    ["run", "--help"],
    ["--version"],
]


def kept_traceback(err, folder):
    """The text of the file that the sentence names."""
    [sentence] = err.splitlines()
    path = Path(sentence.partition("the traceback is in ")[2].partition(";")[0])
    assert path.parent == folder
    return path.read_text()


@pytest.mark.parametrize("told", BUGS)
def test_a_fault_is_one_sentence_with_the_place_of_its_traceback_and_70(cspbench, told):
    bug = BUGS[told]
    cache = cspbench.folder / "cache"
    result = cspbench("list", "backends", FAKE_BUG=bug, CSPBENCH_CACHE=str(cache))
    assert (result.returncode, result.stdout) == (70, "")
    assert result.stderr.startswith("error: cspbench failed unexpectedly: ")
    assert told in result.stderr
    text = kept_traceback(result.stderr, cache / "errors")
    assert "Traceback (most recent call last)" in text
    assert "exec(os.environ" in text
    assert "command: cspbench list backends" in text
    assert "cspbench doctor" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_so(call, monkeypatch, tmp_path, name):
    def fail(context):
        raise KeyError("a bug")

    command = importlib.import_module(f"cspbench.cli.{name.replace('-', '_')}").command
    monkeypatch.setattr(command, "params", [])
    monkeypatch.setattr(command, "invoke", fail)
    code, out, err = call(name)
    assert (code, out) == (70, "")
    assert "KeyError: 'a bug'" in kept_traceback(err, tmp_path / "cache" / "errors")


def test_without_a_cache_the_traceback_is_in_the_temporary_folder(cspbench):
    result = cspbench(
        "list", "backends", FAKE_BUG=BUGS["MemoryError"], CSPBENCH_CACHE="/dev/null/cache",
        TMPDIR=str(cspbench.folder),
    )  # fmt: skip
    assert result.returncode == 70
    assert "MemoryError" in kept_traceback(result.stderr, cspbench.folder)


def test_where_no_file_can_be_written_the_traceback_is_on_standard_error(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    assert exit_code_of(ZeroDivisionError("division by zero")) is ExitCode.INTERNAL
    sentence, *rest = capsys.readouterr().err.splitlines()
    assert sentence.endswith("ZeroDivisionError: division by zero; the traceback follows")
    assert rest[-1] == "ZeroDivisionError: division by zero"


def test_a_message_cannot_drive_the_terminal_nor_fill_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    assert exit_code_of(ValueError("\x1b[2J" + 10_000 * "x")) is ExitCode.INTERNAL
    [sentence] = capsys.readouterr().err.splitlines()
    assert "\x1b" not in sentence
    assert len(sentence) < 1000


FAULT_IN_MID_RUN = """
import sys
from cspbench.cli.main import main
from cspbench.store.rundir import LAUNCHES_FILE, RunDirectory

def append(self, launch, original=RunDirectory.append):
    original(self, launch)
    if (self.path / LAUNCHES_FILE).read_bytes().count(b"\\n") == 3:
        raise LookupError("a bug")

RunDirectory.append = append
main(sys.argv[1:])
"""
FAULT_IN_THE_REPORT = """
import sys
import cspbench.report
from cspbench.cli.main import main

def write_report(runs, target):
    raise LookupError("a bug")

cspbench.report.write_report = write_report
main(sys.argv[1:])
"""


@pytest.mark.parametrize(("program", "left"), [(FAULT_IN_MID_RUN, 3), (FAULT_IN_THE_REPORT, 0)])
def test_what_was_measured_is_kept_and_the_sentence_says_where(cspbench, program, left):
    cspbench.write("two.yaml", SUITE)
    done = subprocess.run(
        [sys.executable, "-c", program, "run", "two.yaml", "--quiet"],
        cwd=cspbench.folder, env=cspbench.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    [run] = cspbench.folder.glob("results/*")
    assert done.returncode == 70
    assert "LookupError: a bug; the traceback is in " in done.stderr
    assert done.stderr.endswith(f"; what was measured is kept in results/{run.name}\n")
    assert fsck.check(run).problems == ()
    kept = (run / "launches.jsonl").read_bytes()
    assert kept.count(b"\n") >= 6 - left
    summary = cspbench.run_json("--resume", "latest", "--no-report")
    assert [case["status"] for case in summary["cases"]] == ["ok", "ok"]
    assert (run / "launches.jsonl").read_bytes().startswith(kept)


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_a_reader_that_leaves_is_no_error_of_ours(cspbench, arguments):
    process = cspbench.start(*arguments)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, "")


@pytest.mark.parametrize("arguments", PRINTING[:4], ids=" ".join)
def test_head_in_a_pipe_with_pipefail(cspbench, arguments):
    script = 'set -o pipefail; "$0" "$@" | head -1'
    done = subprocess.run(
        ["bash", "-c", script, str(SCRIPT), *arguments],
        cwd=cspbench.folder, env=cspbench.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 141)  # 0 if all was written before `head` left
    assert (len(done.stdout.splitlines()), done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_an_output_that_takes_no_more_is_one_sentence_and_2(cspbench, arguments):
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@" > /dev/full', str(SCRIPT), *arguments],
        cwd=cspbench.folder, env=cspbench.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == "error: cannot write the output: No space left on device\n"
    assert done.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "bug"),
    [(["rnu"], 2, ""), (["run", "qick"], 2, ""), (["list", "backends"], 70, "raise MemoryError")],
)
def test_a_standard_error_that_takes_nothing_changes_no_exit_code(cspbench, arguments, code, bug):
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@" 2> /dev/full', str(SCRIPT), *arguments],
        cwd=cspbench.folder, env={**cspbench.environment, "FAKE_BUG": bug}, check=False,
    )  # fmt: skip
    assert done.returncode == code


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_were_closed_from_the_start(cspbench, closed):
    command = ["sh", "-c", f'"$0" "$@" {closed}', str(SCRIPT)]
    for arguments, code in ((["list", "backends"], 0), (["list", "backnds"], 2)):
        done = subprocess.run(
            [*command, *arguments], cwd=cspbench.folder, env=cspbench.environment,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == code


def test_a_shell_still_completes_commands(cspbench):
    shell = {"_CSPBENCH_COMPLETE": "bash_complete", "COMP_WORDS": "cspbench sh", "COMP_CWORD": "1"}
    result = cspbench(**shell)
    assert result.returncode == 0
    assert [line.partition(",")[2] for line in result.stdout.splitlines()] == ["show", "show-model"]


def test_exit_codes_are_those_of_the_system():
    assert ExitCode.INTERNAL == os.EX_SOFTWARE
