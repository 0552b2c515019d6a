"""Measure on a machine that reaches no package index, with the torch that it has.

    python offline.py missing                          on that machine: what it has, what it lacks
    python offline.py fetch machine.json               anywhere else: the wheels that it lacks
    python offline.py run suites/gpu.yaml -- OPTIONS   there again: measure, and pack the results

``missing`` writes ``machine.json``; ``fetch`` fills the folder ``wheels``; ``run`` makes
``offline-results.tar.gz`` with the run, its report and the output of ``cspbench doctor``. It
installs nothing: it unpacks the wheels into ``.offline-packages`` beside them. All it needs is
Python and pip; see docs/gpu.md.
"""

from __future__ import annotations

import argparse
import email
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # pip brings its own
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ".offline-packages"


def requirements(pyproject: str, extras: list[str]) -> list[str]:
    """Requirements of the project and of some of its extras; torch is the machine's own."""
    lists = [("dependencies", pyproject)]
    _, _, optional = pyproject.partition("[project.optional-dependencies]")
    lists += [(extra, optional) for extra in extras]
    found: list[str] = []
    for name, text in lists:  # tomllib came with Python 3.11
        match = re.search(rf"^{name} = \[(.*?)\]$", text, re.DOTALL | re.MULTILINE)
        if match is None:
            raise SystemExit(f"pyproject.toml has no {name}")
        found += re.findall(r'"([^"]+)"', match[1])
    ours = {"torch", "cspbench"}  # an extra may name the project's others
    return [item for item in found if canonicalize_name(Requirement(item).name) not in ours]


def satisfied(item: Requirement, has: dict[str, str]) -> bool:
    """True if one of the machine's own packages will do."""
    version = has.get(canonicalize_name(item.name))
    return version is not None and item.specifier.contains(version, prereleases=True)


def missing(arguments: argparse.Namespace) -> None:
    """Write what this machine is, has and lacks."""
    has = {canonicalize_name(found.metadata["Name"]): found.version
           for found in importlib.metadata.distributions() if found.metadata["Name"]}  # fmt: skip
    if "torch" not in has:
        raise SystemExit(f"{sys.executable} has no torch: use the Python that has it")
    wanted = requirements((ROOT / "pyproject.toml").read_text(), arguments.extra)
    lacks = [item for item in wanted if not satisfied(Requirement(item), has)]
    machine = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "glibc": platform.libc_ver()[1] or "2.17",
        "has": has,
        "lacks": lacks,
    }
    arguments.out.write_text(json.dumps(machine, indent=1) + "\n")
    print(f"{arguments.out}: Python {machine['python']} with torch {has['torch']}; lacks:")
    print("\n".join(lacks) or "nothing")


def platforms(machine: dict[str, Any]) -> list[str]:
    """Tags of wheels that run there: pip compares them letter by letter."""
    kind, minor = machine["machine"], int(machine["glibc"].split(".")[1])
    names = [f"manylinux_2_{number}_{kind}" for number in range(minor, 4, -1)]
    return [*names, *(f"manylinux{old}_{kind}" for old in ("2014", "2010", "1")), f"linux_{kind}"]


def needs(wheel: Path, machine: dict[str, Any]) -> list[Requirement]:
    """What a wheel requires on that machine."""
    with zipfile.ZipFile(wheel) as file:
        name = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        text = file.read(name).decode()
    place = {
        "python_version": ".".join(machine["python"].split(".")[:2]),
        "python_full_version": machine["python"], "sys_platform": "linux", "os_name": "posix",
        "platform_system": "Linux", "platform_machine": machine["machine"],
        "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": "",
    }  # fmt: skip
    found = [Requirement(item) for item in
             email.message_from_string(text).get_all("Requires-Dist", [])]  # fmt: skip
    return [item for item in found if item.marker is None or item.marker.evaluate(place)]


def fetch(arguments: argparse.Namespace) -> None:
    """Download the wheels that the machine lacks, and what they need and it lacks too."""
    machine = json.loads(arguments.machine.read_text())
    arguments.wheels.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
               "--only-binary=:all:", "--implementation", "cp",
               "--python-version", machine["python"].rpartition(".")[0],
               *(word for tag in platforms(machine) for word in ("--platform", tag))]  # fmt: skip
    todo = [Requirement(item) for item in machine["lacks"]]
    done: set[str] = set()
    while todo:
        item = todo.pop()
        name = canonicalize_name(item.name)
        if name in done or name == "torch" or satisfied(item, machine["has"]):
            continue
        done.add(name)
        item.marker = None
        folder = arguments.wheels / name
        if subprocess.run([*command, "--dest", str(folder), str(item)], check=False).returncode:
            print(f"{name}: no wheel, building one from its source")
            subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
                            "--wheel-dir", str(folder), str(item)], check=True)  # fmt: skip
        made = next(folder.glob("*.whl"))
        if not made.stem.endswith("none-any") and machine["machine"] not in made.stem:
            raise SystemExit(f"{made.name} was built for this machine, not for the other")
        wheel = made.rename(arguments.wheels / made.name)
        folder.rmdir()
        print(f"{wheel.name}  {wheel.stat().st_size / 1e6:.1f} MB")
        todo += needs(wheel, machine)


def run(arguments: argparse.Namespace) -> None:
    """Measure with the unpacked wheels, and pack the run and its report."""
    work = arguments.wheels.resolve().parent
    packages = work / PACKAGES
    wheels = sorted(str(path) for path in arguments.wheels.glob("*.whl"))
    if wheels and not packages.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index",
                        "--no-deps", "--no-compile", "--target", str(packages), *wheels],
                       check=True)  # fmt: skip
    paths = [str(packages), str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}

    def cspbench(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cspbench", *words]
        return subprocess.run(command, env=environment, text=True, check=False, **more)

    results = work / "offline-results"
    results.mkdir(exist_ok=True)
    (results / "doctor.txt").write_text(cspbench("doctor", stdout=subprocess.PIPE).stdout)
    code = cspbench("run", *arguments.suite, "--results", str(results / "results"), "--reports",
                    str(results / "reports"), *arguments.options).returncode  # fmt: skip
    archive = work / "offline-results.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(results, "offline-results")
    print(f"{archive}  {archive.stat().st_size / 1e6:.1f} MB")
    sys.exit(code)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    first = commands.add_parser("missing", help=missing.__doc__)
    first.add_argument("--extra", action="append", default=[], help="of pyproject.toml")
    first.add_argument("--out", type=Path, default=Path("machine.json"))
    first.set_defaults(do=missing)
    second = commands.add_parser("fetch", help=fetch.__doc__)
    second.add_argument("machine", type=Path)
    second.add_argument("--wheels", type=Path, default=Path("wheels"))
    second.set_defaults(do=fetch)
    third = commands.add_parser("run", help=run.__doc__)
    third.add_argument("suite", nargs="+", help="suites, and after -- options of cspbench run")
    third.add_argument("--wheels", type=Path, default=Path("wheels"))
    third.set_defaults(do=run)
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:split])
    arguments.options = words[split + 1 :]
    arguments.do(arguments)


if __name__ == "__main__":
    main()
