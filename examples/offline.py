"""Measure on a machine that reaches no package index, with the torch that it has.

    python offline.py missing                          on that machine: what it has, what it lacks
    python offline.py fetch machine.json               anywhere else: the wheels that it lacks
    python offline.py run suites/gpu.yaml -- OPTIONS   there again: measure, and pack the results
    python offline.py device                           or: a first contact with its GPU, 10 minutes

``missing`` writes ``machine.json``; ``fetch`` fills the folder ``wheels``, and with ``--pack`` puts
this clone's tracked files beside it; ``run`` makes ``offline-results.tar.gz`` with the run, its
report and the output of ``cspbench doctor``. ``device`` does doctor, a probe of the GPU, the suite
``gpu-first``, a gate of the clone against itself and the tests that need a GPU. Each part has a
bound in time, and what a part had done by then is packed. Nothing is installed: the wheels are
unpacked into ``.offline-packages`` beside them. All it needs is Python and pip; see docs/gpu.md.
"""

from __future__ import annotations

import argparse
import email
import importlib.metadata
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

try:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
except ImportError:  # pip brings its own
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ".offline-packages"
#: A part that is over its time is asked to end, and ended so much later.
GRACE_SECONDS = 10


class Part(NamedTuple):
    """A part of ``device``: what Python runs, how long at most. {} is the results' folder."""

    name: str
    words: tuple[str, ...]
    seconds: int


#: 10 minutes in all. A suite that is asked to end keeps what it measured.
PARTS = (
    Part("doctor", ("-m", "cspbench", "doctor"), 20),
    Part("probe", ("examples/gpu_probe.py",), 70),
    Part("first", ("-m", "cspbench", "run", "suites/gpu-first.yaml", "--results", "{}/results",
                   "--reports", "{}/reports"), 180),
    Part("gate", ("-m", "cspbench", "gate", "suites/gpu-first.yaml", "--base", "set:",
                  "--only", "peleenet@224/torch-cuda/b1/t1"), 80),
    Part("tests", ("-m", "pytest", "-v", "-m", "gpu", "tests/test_gpu_run.py", "-k",
                   "instruments or counter or room"), 90),
    Part("more tests", ("-m", "pytest", "-v", "-m", "gpu", "tests/backends", "tests/machine",
                        "tests/measure"), 80),
)  # fmt: skip


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
    arguments.wheels.mkdir(parents=True, exist_ok=True)
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
    if arguments.pack:
        subprocess.run(["git", "-C", str(ROOT), "checkout-index", "--all", "--force",
                        f"--prefix={arguments.wheels.resolve().parent / 'cspbench'}/"],
                       check=True)  # fmt: skip


def unpacked(wheels_folder: Path) -> tuple[Path, dict[str, str]]:
    """Unpack the wheels beside their folder; that place, and an environment that finds them."""
    work = wheels_folder.resolve().parent
    packages = work / PACKAGES
    wheels = sorted(str(path) for path in wheels_folder.glob("*.whl"))
    if wheels and not packages.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index",
                        "--no-deps", "--no-compile", "--target", str(packages), *wheels],
                       check=True)  # fmt: skip
    paths = [str(packages), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return work, {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def packed(work: Path, results: Path) -> None:
    """Pack the results."""
    archive = work / "offline-results.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(results, "offline-results")
    print(f"{archive}  {archive.stat().st_size / 1e6:.1f} MB")


def device(arguments: argparse.Namespace) -> None:
    """First contact with the GPU: each part in its time, and everything packed at the end."""
    work, environment = unpacked(arguments.wheels)
    results = work / "offline-results"
    results.mkdir(exist_ok=True)
    ends = {}
    for part in PARTS:
        ends[part.name] = bounded(part, results, environment)
        print(f"{part.name}: {ends[part.name]}", flush=True)
        (results / "parts.json").write_text(json.dumps(ends, indent=1) + "\n")
        packed(work, results)  # whatever ends this process early


def bounded(part: Part, results: Path, environment: dict[str, str]) -> str:
    """Run a part for as long as it may; how it ended. Its output is NAME.txt in the results."""
    words = [word.replace("{}", str(results)) for word in part.words]
    start = time.monotonic()
    with (results / f"{part.name}.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, *words], cwd=ROOT, env=environment, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(part.seconds)
            return f"ended with {code} after {time.monotonic() - start:.0f} s"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(GRACE_SECONDS)
            return f"stopped after {part.seconds} s, and it ended by itself"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"killed after {part.seconds + GRACE_SECONDS} s"


def run(arguments: argparse.Namespace) -> None:
    """Measure with the unpacked wheels, and pack the run and its report."""
    work, environment = unpacked(arguments.wheels)

    def cspbench(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cspbench", *words]
        return subprocess.run(command, env=environment, text=True, check=False, **more)

    results = work / "offline-results"
    results.mkdir(exist_ok=True)
    (results / "doctor.txt").write_text(cspbench("doctor", stdout=subprocess.PIPE).stdout)
    code = cspbench("run", *arguments.suite, "--results", str(results / "results"), "--reports",
                    str(results / "reports"), *arguments.options).returncode  # fmt: skip
    packed(work, results)
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
    second.add_argument("--pack", action="store_true", help="and this clone's files beside them")
    second.set_defaults(do=fetch)
    third = commands.add_parser("run", help=run.__doc__)
    third.add_argument("suite", nargs="+", help="suites, and after -- options of cspbench run")
    third.add_argument("--wheels", type=Path, default=Path("wheels"))
    third.set_defaults(do=run)
    fourth = commands.add_parser("device", help=device.__doc__)
    fourth.add_argument("--wheels", type=Path, default=Path("wheels"))
    fourth.set_defaults(do=device)
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:split])
    arguments.options = words[split + 1 :]
    arguments.do(arguments)


if __name__ == "__main__":
    main()
