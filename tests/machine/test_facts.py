"""The fingerprint tells devices, modes and libraries apart, and what hangs on it follows."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cspbench.errors import InputError
from cspbench.gating.job import GateSettings
from cspbench.gating.sides import SideRequest
from cspbench.gating.stored import run_stored_gate
from cspbench.machine import facts as environment
from cspbench.runner import run as run_module
from cspbench.store.ceilings import entry

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _asked_anew() -> None:
    environment.gpu.cache_clear()
    environment.gpu_card.cache_clear()


def test_the_gpu_has_its_name_and_its_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"device": "NVIDIA T4", "device_uuid": "1-2-3"}
    monkeypatch.setattr(environment, "first_device", lambda: found)
    facts = environment.fingerprint(())
    assert (facts["gpu"], facts["gpu_uuid"]) == ("NVIDIA T4", "1-2-3")
    environment.gpu.cache_clear()
    monkeypatch.setattr(environment, "first_device", dict)
    facts = environment.fingerprint(())
    assert (facts["gpu"], facts["gpu_uuid"]) == (None, None)
    environment.gpu.cache_clear()


@pytest.mark.parametrize("fact", ["gpu", "gpu_uuid", "nvpmodel", "jetson_clocks"])
def test_ceilings_of_another_card_or_power_mode_are_other_ones(fact: str) -> None:
    facts = environment.fingerprint(())
    paths = {entry("cuda", 1, {**facts, fact: value}) for value in (None, "a", "b")}
    assert len(paths) == 3


@pytest.mark.parametrize(
    ("fact", "then", "now"),
    [("nvpmodel", "15W", "MAXN"), ("gpu", "NVIDIA T4", "NVIDIA L4"), ("gpu_uuid", "1", "2"),
     ("governor", "performance", "powersave"), ("kernel", "6.1", "6.2"),
     ("cpu_quota", None, 2.0), ("python", "3.11.7", "3.13.1")],
)  # fmt: skip
def test_a_run_is_not_resumed_in_another_mode_or_on_another_card(
    monkeypatch: pytest.MonkeyPatch, fact: str, then: str, now: str
) -> None:
    facts = environment.fingerprint(())
    stored = SimpleNamespace(meta={"environment": {**facts, fact: then}})
    monkeypatch.setattr(run_module, "fingerprint", lambda _libraries: {**facts, fact: now})
    before = "none" if then is None else repr(then)
    assert run_module.changed_facts(stored) == [f"{fact} was {before} and is {now!r}"]  # type: ignore[arg-type]


# A plug-in's libraries --------------------------------------------------------------------------

#: As users write one: the module that computes is of a distribution with another name.
PLUGIN = """
from dataclasses import dataclass
from cspbench.backends.spec import BACKENDS, BackendSpec

@dataclass(frozen=True)
class Fast(BackendSpec):
    name: str = "fast"
    summary: str = "computes fast"
    library: str = "fastnn.runtime"
    artifact: str = "onnx"
    axes: tuple = ()

    def available(self):
        return None

BACKENDS.add(Fast())
"""
SUITE = "name: plugged\nmatrix: {model: peleenet@64, backend: fast}\n"
#: Prints the libraries, and makes a run, or says why the run that it was told of is not resumed.
CODE = """
import json, sys
from pathlib import Path
from cspbench.errors import InputError
from cspbench.runner.plan import plan_suite
from cspbench.runner.run import new_run, resumable
from cspbench.store.rundir import read_run
from cspbench.suite.load import load_suite
found = {"refused": None}
try:
    if len(sys.argv) > 1:
        resumable(Path(sys.argv[1]))
except InputError as error:
    found["refused"] = str(error)
run = new_run(plan_suite(load_suite(Path("suite.yaml"))), Path("results")).path
libraries = read_run(run).meta["environment"]["libraries"]
print(json.dumps({**found, "run": str(run.resolve()), "libraries": libraries}))
"""


def distribution(folder: Path, name: str, version: str, module: str, points: str = "") -> None:
    """Install metadata that says, as a wheel's does, that ``module`` is of a distribution."""
    info = folder / f"{name.replace('-', '_')}.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text(f"{module},,\n")
    (info / "entry_points.txt").write_text(points)


def begin(folder: Path, *resumed: str) -> dict[str, object]:
    """What CODE prints in a process that has the plug-in."""
    path = os.pathsep.join([str(folder), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", CODE, *resumed], cwd=folder, capture_output=True, text=True,
        check=True, env={**os.environ, "PYTHONPATH": path, "CSPBENCH_CACHE": str(folder / "c")},
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("upgraded", ["fast-nn-python", "cspbench-fast"])
def test_an_upgrade_under_a_plugin_parts_runs(tmp_path: Path, upgraded: str) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "cspbench_fast.py").write_text(PLUGIN)
    (tmp_path / "fastnn").mkdir()
    versions = {"fast-nn-python": "1.0", "cspbench-fast": "0.1"}

    def install() -> None:
        distribution(tmp_path, "fast-nn-python", versions["fast-nn-python"], "fastnn/runtime.py")
        distribution(tmp_path, "cspbench-fast", versions["cspbench-fast"], "cspbench_fast.py",
                     "[cspbench.backends]\nfast = cspbench_fast\n")  # fmt: skip

    install()
    one = begin(tmp_path)
    assert versions.items() <= one["libraries"].items()  # type: ignore[attr-defined]
    same = begin(tmp_path, str(one["run"]))
    assert same["refused"] is None
    before, versions[upgraded] = versions[upgraded], "9.9"
    install()
    other = begin(tmp_path, str(one["run"]))
    phrase = f"libraries.{upgraded} was '{before}' and is '9.9'"
    assert phrase in str(other["refused"])
    sides = [SideRequest("run", "run", str(run["run"])) for run in (one, other)]
    with pytest.raises(InputError) as refused:
        run_stored_gate(tmp_path / "suite.yaml", *sides, GateSettings())
    assert [problem.partition(": ")[2] for problem in refused.value.problems] == [phrase]


# digests of libraries


def recorded(
    folder: Path, lines: str, monkeypatch: pytest.MonkeyPatch, origin: str | None = None
) -> dict[str, str]:
    """Digests of a distribution "net" with these lines in its RECORD, and this direct_url.json."""
    folder.mkdir(exist_ok=True)
    distribution(folder, "net", "1.0", "net.py")
    (folder / "net.dist-info" / "RECORD").write_text(lines)
    if origin is not None:
        (folder / "net.dist-info" / "direct_url.json").write_text(origin)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    environment._digest_of.cache_clear()  # a process knows one distribution of a name
    return environment.library_digests(["net"])


def test_a_library_has_a_digest_of_what_its_wheel_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two installations of one wheel are equal, two builds of one version are not."""
    wheel = ["net.py,sha256=aaa,10", "net-1.0.dist-info/METADATA,sha256=bbb,20"]
    # What each installation writes itself: scripts with the path of its Python, notes, bytecode.
    here = ["../../../bin/net,sha256=ccc,200", "net-1.0.dist-info/INSTALLER,sha256=ddd,4",
            "__pycache__/net.cpython-311.pyc,,", "net-1.0.dist-info/RECORD,,"]  # fmt: skip
    text = "\n".join(sorted(wheel))
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert recorded(tmp_path / "a", "\n".join([*wheel, *here]), monkeypatch) == {"net": expected}
    there = [line.replace("ccc", "eee") for line in reversed(here)]
    assert recorded(tmp_path / "b", "\n".join([*there, *wheel]), monkeypatch) == {"net": expected}
    other = "\n".join(wheel).replace("aaa", "fff")
    assert recorded(tmp_path / "c", other, monkeypatch)["net"] not in ("", expected)


def test_a_library_that_is_edited_in_place_has_no_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record has hashes too: of the file that names its folder, and of the metadata."""
    lines = "__editable__.net.pth,sha256=aaa,20\nnet-1.0.dist-info/METADATA,sha256=bbb,30\n"
    edited = '{"dir_info": {"editable": true}, "url": "file:///home/me/net"}'
    assert recorded(tmp_path / "a", lines, monkeypatch, edited) == {}
    for number, other in enumerate(['{"dir_info": {}, "url": "file:///x"}', "no JSON", "[]", "5"]):
        assert recorded(tmp_path / f"b{number}", lines, monkeypatch, other).keys() == {"net"}
    assert recorded(tmp_path / "c", "net-1.0.dist-info/RECORD,,\n", monkeypatch) == {}
