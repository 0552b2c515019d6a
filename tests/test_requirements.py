"""What conftest.py does with tests that need something this machine may lack."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

CONFTEST = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")

ONE_TEST = """
import pytest

@pytest.mark.browser
def test_page(browser_path):
    assert browser_path.endswith("chromium")
"""


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with our conftest.py, a test marked ``browser`` and no program at all.

    Its pytest is a process of its own: in this one our conftest.py would name another folder for
    the timing lock, and remove it, and all later tests that measure would fail.
    """
    monkeypatch.delenv("CSPBENCH_TEST_REQUIRE", raising=False)
    monkeypatch.setenv("PATH", str(pytester.mkdir("bin")))
    pytester.makeini("[pytest]\nmarkers =\n browser: x\n namespaces: x\n gpu: x\n timm: x\n")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(ONE_TEST)
    return pytester


def test_missing_need_skips_with_the_reason(folder: pytest.Pytester) -> None:
    result = folder.runpytest_subprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("SKIPPED*no browser: none of chromium,*is installed")


def test_required_need_that_is_missing_fails(
    folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSPBENCH_TEST_REQUIRE", "namespaces, browser")
    result = folder.runpytest_subprocess("-ra")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines("no browser*CSPBENCH_TEST_REQUIRE names 'browser'")


def test_need_that_is_met_runs_the_test(folder: pytest.Pytester) -> None:
    program = folder.path / "bin" / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder.runpytest_subprocess().assert_outcomes(passed=1)


def test_mistyped_requirement_stops_the_run(
    folder: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CSPBENCH_TEST_REQUIRE", "browsers")
    result = folder.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        "*unknown browsers; known: browser, namespaces, slurm, ssh, arm64, gpu, timm"
    )
