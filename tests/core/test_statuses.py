"""Closed lists: statuses, flags, exit codes; and the public names of the package."""

import json
import subprocess
import sys

import pytest

import cspbench
from cspbench.core.statuses import FLAGS, NOT_RUNNABLE, ExitCode, Status, exit_code_for
from cspbench.errors import CspbenchError, InputError


def test_statuses_are_those_of_the_design_and_are_plain_text():
    assert {str(status) for status in Status} == {
        "ok", "failed", "timeout", "oom", "crashed", "lost", "unsupported", "unavailable",
        "interrupted",
    }  # fmt: skip
    assert json.dumps(Status.OOM) == '"oom"'
    assert f"{Status.LOST}" == "lost"


def test_every_flag_says_what_it_means_and_what_to_do():
    assert set(FLAGS) == {
        "throttled", "contended", "not_steady", "few_samples", "resumed", "moved",
        "board_changed", "untrusted", "page_faults", "fallback_engine", "frozen_branch",
        "separate_launches", "waited",
    }  # fmt: skip
    assert all(flag.name == name for name, flag in FLAGS.items())
    assert all(flag.meaning and flag.remedy for flag in FLAGS.values())


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], ExitCode.OK),
        (["ok", "ok"], ExitCode.OK),
        (["ok", "unavailable", "unsupported"], ExitCode.OK),  # an answer, not a failure
        (["unavailable"], ExitCode.OK),
        (["ok", "failed"], ExitCode.NOT_MEASURED),
        (["timeout"], ExitCode.NOT_MEASURED),
        (["oom", "unavailable"], ExitCode.NOT_MEASURED),
        (["crashed"], ExitCode.NOT_MEASURED),
        (["lost"], ExitCode.NOT_MEASURED),
        (["interrupted", "failed", "ok"], ExitCode.INTERRUPTED),
    ],
)
def test_exit_code_of_a_run(statuses, code):
    assert exit_code_for(map(Status, statuses)) is code


def test_every_status_has_an_exit_code():
    for status in Status:
        good = status is Status.OK or status in NOT_RUNNABLE
        assert (exit_code_for([status]) == 0) == good


def test_an_input_error_holds_all_problems():
    assert InputError("one").problems == ("one",)
    error = InputError(["first", "second"])
    assert error.problems == ("first", "second")
    assert str(error) == "first\nsecond"
    assert issubclass(InputError, CspbenchError)


def test_public_names_are_imported_when_first_used():
    assert {"build", "analyze", "run", "load"} <= set(dir(cspbench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cspbench.nothing  # noqa: B018
    code = "import sys, cspbench; print(sorted({'torch', 'cv2', 'pandas'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
    assert callable(cspbench.build)
    assert callable(cspbench.load)
