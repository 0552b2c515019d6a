"""What users install: a complete wheel, pins that agree, code that Python 3.10 can run."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import cspbench

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cspbench"

# What pip installs for a user, by extra; tools for developers have no oldest version to promise.
DEVELOPER_EXTRAS = {"test", "lint", "fuzz"}
# torch's oldest version cannot be tested everywhere: see constraints-oldest.txt.
NOT_TESTED_AT_ITS_OLDEST = {"torch"}


# -- wheel and sdist ---------------------------------------------------------------------------


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a 'wheel' or 'sdist' of a source tree without isolation; gives the file's path."""
    pytest.importorskip("hatchling", reason="hatchling, of the extra 'test', builds the package")
    code = f"import sys, hatchling.build as b; print(b.build_{kind}(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(out)],
        cwd=source, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


def files_under(folder: Path) -> set[str]:
    """Relative paths of all files that are source or data, not left by running."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def files_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_wheel_holds_the_whole_package_and_all_suites(wheel: Path) -> None:
    expected = {f"cspbench/{name}" for name in files_under(PACKAGE)}
    expected |= {f"cspbench/suites/{name}" for name in files_under(ROOT / "suites")}
    assert "cspbench/suites/edge.yaml" in expected
    held = {name for name in files_in(wheel) if ".dist-info/" not in name}
    assert held == expected


def test_wheel_describes_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"cspbench-{cspbench.__version__}.dist-info"
        metadata = archive.read(f"{info}/METADATA").decode()
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    assert f"\nVersion: {cspbench.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert f"{info}/licenses/LICENSE" in names
    assert "cspbench = cspbench.cli.main:main" in scripts


def test_wheel_of_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    again = build("wheel", tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path)
    assert files_in(again) == files_in(wheel)


def test_installed_wheel_works_from_any_directory(wheel: Path, tmp_path: Path) -> None:
    """The wheel in an environment of its own, with this one's packages but not this checkout."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    python = str(home / "bin" / "python")
    outer = sysconfig.get_path("purelib")
    # This environment's pip, run by the other one's Python; it must leave what it sees here alone.
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    command = [python, *install, str(wheel)]
    subprocess.run(command, env={"PATH": os.defpath, "PYTHONPATH": outer}, check=True)
    paths = {"base": str(home), "platbase": str(home)}
    site_packages = Path(sysconfig.get_path("purelib", "posix_prefix", paths))
    # A path in a .pth file makes packages importable without reading that folder's own .pth files,
    # so that a development install of this checkout stays out.
    site_packages.joinpath("outer.pth").write_text(outer)

    def output(*command: str) -> str:
        environment = {"PATH": os.defpath, "HOME": str(tmp_path)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    script = str(home / "bin" / "cspbench")
    where = output(python, "-c", "import cspbench; print(cspbench.__file__)")
    assert Path(where.strip()).is_relative_to(site_packages)
    assert cspbench.__version__ in output(script, "--version")
    for suite in ("quick", "edge"):
        assert f"\n{suite}: " in output(script, "plan", suite)


# -- requirements and pins ---------------------------------------------------------------------


def project() -> dict[str, Any]:
    """The table [project] of pyproject.toml; an installation's metadata may be older."""
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    table: dict[str, Any] = toml.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return table["project"]


def declared() -> dict[str, list[Requirement]]:
    """Requirements in pyproject.toml by extra, '' for those of all users."""
    by_extra = {"": project()["dependencies"], **project()["optional-dependencies"]}
    del by_extra["all"]  # names other extras only
    return {extra: list(map(Requirement, lines)) for extra, lines in by_extra.items()}


def pins(name: str) -> dict[str, list[Requirement]]:
    """Lines of a constraints file by canonical name."""
    found: dict[str, list[Requirement]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def pinned_version(requirement: Requirement) -> Version:
    (specifier,) = requirement.specifier
    assert specifier.operator == "==", f"{requirement} is no exact pin"
    return Version(specifier.version)


def pin_for(lines: list[Requirement], python: str) -> Requirement:
    """The one line that holds for a version of Python."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    matching = [line for line in lines if not line.marker or line.marker.evaluate(environment)]
    assert len(matching) == 1, f"{len(matching)} lines for Python {python}: {lines}"
    return matching[0]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13", "3.14"])
def test_constraints_pin_every_requirement_within_its_range(python: str) -> None:
    held = pins("constraints.txt")
    for requirement in (line for lines in declared().values() for line in lines):
        pin = pin_for(held[canonicalize_name(requirement.name)], python)
        assert requirement.specifier.contains(pinned_version(pin)), f"{pin} is not {requirement}"


def test_constraints_pin_all_that_is_brought() -> None:
    """Each package that our requirements bring here, at any depth, has its pin.

    `make test-oldest` runs this too, and older versions bring packages that newer ones do not.
    """
    todo = [line for lines in declared().values() for line in lines]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            todo += [line for line in brought_by(name) if applies(line, extra)]
    # What torch brings for CUDA it pins itself.
    for_cuda = re.compile(r"nvidia-(?!ml-py)|cuda-|triton")
    names = {name for name, _ in seen if is_installed(name) and not for_cuda.match(name)}
    assert "sympy" in names, "torch brings sympy: the walk reaches no second level"
    assert names - set(pins("constraints.txt")) - set(pins("constraints-oldest.txt")) == set()


def brought_by(name: str) -> list[Requirement]:
    """Requirements of an installed package, none of one that is not installed here."""
    return (
        list(map(Requirement, importlib.metadata.requires(name) or []))
        if is_installed(name)
        else []
    )


def applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_oldest_constraints_are_the_lower_bounds() -> None:
    held = pins("constraints-oldest.txt")
    for extra, lines in declared().items():
        if extra in DEVELOPER_EXTRAS:
            continue
        for requirement in lines:
            name = canonicalize_name(requirement.name)
            (lower,) = (one for one in requirement.specifier if one.operator == ">=")
            (line,) = held[name]
            if name not in NOT_TESTED_AT_ITS_OLDEST:
                assert pinned_version(line) == Version(lower.version), (
                    f"{line} is not {requirement}"
                )


def test_both_constraints_files_test_the_same_torch() -> None:
    assert pins("constraints-oldest.txt")["torch"] == pins("constraints.txt")["torch"]


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-oldest.txt"])
def test_constraints_name_versions_only(name: str) -> None:
    """No index, no link and no local version such as +cpu, which other machines cannot find."""
    for lines in pins(name).values():
        for line in lines:
            assert line.url is None
            assert pinned_version(line).local is None


def test_all_leaves_out_the_agpl_package() -> None:
    lines = map(Requirement, project()["optional-dependencies"]["all"])
    held = {extra for line in lines for extra in line.extras}
    assert held == set(declared()) - DEVELOPER_EXTRAS - {"", "jetson"}


# -- Python 3.10 -------------------------------------------------------------------------------


def test_syntax_is_that_of_python_3_10() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def test_standard_library_is_that_of_python_3_10() -> None:
    pytest.importorskip("vermin", reason="vermin, of the extra 'test', knows the versions")
    vermin = Path(sysconfig.get_path("scripts"), "vermin")
    command = [vermin, "--no-tips", "--violations", "--target=3.10-", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
