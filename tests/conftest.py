"""What a test may need of the machine, and what happens where it is missing.

The markers ``browser``, ``namespaces``, ``slurm``, ``ssh``, ``arm64``, ``gpu`` and ``timm`` say
what a test needs. Where that is missing the test is skipped with the reason; where
``CSPBENCH_TEST_REQUIRE`` names it (a comma-separated list, set by CI after it installed the system
packages), the test fails instead.
"""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

REQUIRE = "CSPBENCH_TEST_REQUIRE"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

# A test machine is shared and slow at times: an example's time says nothing about the code. CI
# draws the same examples each time, so that a red build is about the change; people draw new ones.
hypothesis.settings.register_profile("people", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
# Threads of torch that spin while they wait take the processor from the test beside this one: with
# two test processes on two cores the exports of the zoo took 60 % longer.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Each test process has a timing lock of its own, or one would wait minutes for the other.
_LOCKS = Path(tempfile.mkdtemp(prefix="cspbench-locks-"))
os.environ["CSPBENCH_LOCK_DIR"] = str(_LOCKS)
# Tables in a pipe are never folded; the test runner's workers hand on a width that would fold them.
os.environ.pop("COLUMNS", None)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "people")


def find_browser() -> str | None:
    """Path of the first Chromium or Chrome on the search path."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def missing_browser() -> str | None:
    """Why no page can be opened, None if one can."""
    return None if find_browser() else f"no browser: none of {', '.join(BROWSERS)} is installed"


def missing_namespaces() -> str | None:
    """Why no mount namespace can be made, None if one can."""
    try:
        tried = subprocess.run(
            ["unshare", "--mount", "true"], capture_output=True, text=True, timeout=30, check=False
        )
    except FileNotFoundError:
        return "no namespaces: unshare (util-linux) is not installed"
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else None


#: Where Debian keeps programs of the system, which a user's search path may leave out.
SYSTEM_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def _not_installed(programs: Sequence[str], module: str) -> list[str]:
    names = [name for name in programs if shutil.which(name, path=SYSTEM_PATH) is None]
    return names if importlib.util.find_spec(module) else [*names, module]


def missing_slurm() -> str | None:
    """Why no Slurm of the tests can be started, None if one can."""
    names = _not_installed(("munged", "slurmctld", "slurmd", "squeue"), "dask_jobqueue")
    if names:
        return f"no Slurm: {', '.join(names)} not installed (slurm-wlm, munge, dask-jobqueue)"
    return None if os.geteuid() == 0 else "no Slurm: its controller and node need root here"


def missing_ssh() -> str | None:
    """Why no SSH server of the tests can be started, None if one can."""
    names = _not_installed(("sshd", "ssh-keygen"), "asyncssh")
    if names:
        return f"no SSH: {', '.join(names)} not installed (openssh-server, asyncssh)"
    return None if os.geteuid() == 0 else "no SSH: its server needs root to let a user in"


def missing_arm64() -> str | None:
    """Why there is no emulated board, None if one can be set up; that takes minutes."""
    if "CSPBENCH_ARM64" not in os.environ:
        return "no emulated board: make test-arm64 sets one up"
    from tests.fleet.debian_arm64 import missing

    names = missing()
    if names:
        return f"no emulated board: {', '.join(names)} not installed"
    return None if os.geteuid() == 0 else "no emulated board: setting it up needs root"


def missing_gpu() -> str | None:
    """Why there is no CUDA device for torch, None if there is one; torch is not imported."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return "no GPU: torch is not installed"
    if version.endswith("+cpu"):
        return f"no GPU: torch {version} is a build without CUDA"
    discrete = Path("/proc/driver/nvidia/gpus")
    tegra = (Path("/dev/nvhost-gpu"), Path("/dev/nvgpu"))
    bare = (Path("/dev/nvidia0"), Path("/dev/dxg"))  # of sandboxes, of Windows' Linux
    if (discrete.is_dir() and any(discrete.iterdir())) or any(
        path.exists() for path in (*tegra, *bare)
    ):
        return None
    return "no GPU: no NVIDIA driver with a device"


def missing_timm() -> str | None:
    """Why timm's networks cannot be built, None if they can; neither package is imported."""
    names = [name for name in ("timm", "torchvision") if importlib.util.find_spec(name) is None]
    return f"no {' and no '.join(names)}: make zoo installs them for this test" if names else None


NEEDS: dict[str, Callable[[], str | None]] = {
    "browser": functools.cache(missing_browser),
    "namespaces": functools.cache(missing_namespaces),
    "slurm": functools.cache(missing_slurm),
    "ssh": functools.cache(missing_ssh),
    "arm64": functools.cache(missing_arm64),
    "gpu": functools.cache(missing_gpu),
    "timm": functools.cache(missing_timm),
}


def required() -> set[str]:
    """Needs that must be met here, from the environment."""
    names = {name.strip() for name in os.environ.get(REQUIRE, "").split(",")} - {""}
    if unknown := names - set(NEEDS):
        raise pytest.UsageError(
            f"{REQUIRE}: unknown {', '.join(sorted(unknown))}; known: {', '.join(NEEDS)}"
        )
    return names


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a mistyped requirement at once, before it can pass for a met one."""
    required()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two more workers of ``-n auto`` than processors, because many tests wait for a server.

    With one more, two processors were busy for 78 % of the time.
    """
    return len(os.sched_getaffinity(0)) + 2


def pytest_unconfigure() -> None:
    """Remove the locks' folder. Only pytest itself calls this, and no process that it forked."""
    shutil.rmtree(_LOCKS, ignore_errors=True)


def pytest_collection_finish() -> None:
    """Leave what collecting made out of later collections of garbage: it stays to the end.

    Thousands of tests and all that they import take a collection 0.5 s; 500 tests that compute
    took 7 % longer.
    """
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose need is missing, or fail it where the need is required."""
    for name, missing in NEEDS.items():
        if item.get_closest_marker(name) is None or (reason := missing()) is None:
            continue
        if name in required():
            pytest.fail(f"{reason}, and {REQUIRE} names '{name}'", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def browser_path() -> str:
    """Path of the browser; only for tests marked ``browser``, which are skipped without one."""
    path = find_browser()
    assert path is not None, "a test that uses browser_path must be marked 'browser'"
    return path


BROWSER_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    """A real browser."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=browser_path, args=list(BROWSER_ARGUMENTS)
        )
        yield chromium
        chromium.close()


#: A small real network for OpenCV.
OPENCV_CASE = "yolov3-tiny-prn@96/opencv-cpu/b1/t1"


@dataclass(frozen=True)
class Prepared:
    """An artifact and its reference where they are, whichever cache a test then sets."""

    path: Path
    reference: Path


@pytest.fixture(scope="session")
def opencv_artifact(tmp_path_factory):
    """A small real network as an ONNX file for OpenCV, in a cache of its own."""
    from cspbench.artifacts.cache import ArtifactSpec
    from cspbench.core.case import Case
    from cspbench.jobs.prepare import PrepareRequest
    from cspbench.runner.executor import LocalExecutor

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CSPBENCH_CACHE", str(tmp_path_factory.mktemp("opencv-cache")))
        case = Case.parse(OPENCV_CASE)
        spec = ArtifactSpec(case.model_id, 1, "onnx", 0)
        request = PrepareRequest(str(case.model_id), 0, [spec.item])
        (outcome,) = LocalExecutor().series([request], 300)
        assert spec.ready, outcome
        return Prepared(spec.path, spec.reference)


@pytest.fixture
def opencv_job(opencv_artifact):
    """What a worker needs to load that network."""
    return {
        "case": OPENCV_CASE,
        "artifact": str(opencv_artifact.path),
        "reference": str(opencv_artifact.reference),
        "seed": 0,
        "warmup_seconds": 0.2,
    }
