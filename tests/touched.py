"""Run the tests of what changed: ``python -m tests.touched BASE [options of pytest]``.

What differs from BASE, committed or not, calls for the test files that name it; a module that no
test names, for the tests of its package. That is the small net of ``make check``: what a change
breaks further away is found by ``make test``, and by CI.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]


def changed_files(base: str, root: Path = ROOT) -> list[str]:
    """Paths below ``root`` that differ from where HEAD left ``base``, or that git does not know."""
    known = git(root, "rev-parse", "--verify", "--quiet", f"{base}^{{commit}}", check=False)
    since = git(root, "merge-base", base, "HEAD") if known else ["HEAD"]
    new = git(root, "ls-files", "--others", "--exclude-standard")
    return sorted({*git(root, "diff", "--name-only", *since), *new})


def git(root: Path, *arguments: str, check: bool = True) -> list[str]:
    """Lines that git prints."""
    done = subprocess.run(
        ["git", *arguments], cwd=root, check=check, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.splitlines()


def related_tests(changed: Iterable[str], root: Path = ROOT) -> list[str]:
    """Test files (or folders of them) for changed files."""
    texts = {
        file.relative_to(root).as_posix(): file.read_text(encoding="utf-8")
        for file in sorted(root.glob("tests/**/test_*.py"))
    }
    found: set[str] = set()
    for name in changed:
        path = PurePosixPath(name)
        if name in texts:
            found.add(name)
            continue
        pattern = pattern_of(path)
        naming = {file for file, text in texts.items() if pattern.search(text)}
        found |= naming or neighbours(path, root)
    return sorted(found)


def pattern_of(path: PurePosixPath) -> re.Pattern[str]:
    """How a test names a file: a module by its dotted name, any other file by its own name."""
    if path.suffix != ".py" or path.parts[0] not in ("cspbench", "tests"):
        return re.compile(rf"(?<![\w.-]){re.escape(path.name)}\b")
    parts = path.with_suffix("").parts
    package, module = ".".join(parts[:-1]), parts[-1]
    if module == "__init__":  # whoever imports from it means one of its modules, mostly
        return re.compile(rf"from {re.escape(package)} import|import {re.escape(package)}$", re.M)
    imported = rf"from {re.escape(package)} import [^\n]*\b{module}\b"
    return re.compile(rf"\b{re.escape(package)}\.{module}\b|{imported}")


def neighbours(path: PurePosixPath, root: Path) -> set[str]:
    """The tests of a package that holds a file which no test names; those of pages for a page."""
    if path.suffix == ".md":
        return {"tests/test_docs.py"}
    below = path.parts[1] if path.parts[0] in ("cspbench", "tests") and len(path.parts) > 2 else ""
    return {f"tests/{below}"} if below and (root / "tests" / below).is_dir() else set()


def main(base: str, options: list[str]) -> int:
    """Run them; 0 if there are none, or if all of them are deselected."""
    changed = changed_files(base)
    tests = related_tests(changed)
    print(f"{len(changed)} files changed since {base}: {' '.join(tests) or 'no tests'}", flush=True)
    if not tests:
        return 0
    code = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *tests], cwd=ROOT, check=False
    ).returncode
    return 0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
