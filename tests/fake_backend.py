"""A backend of another distribution: answers with torch's stored outputs, or misbehaves on order.

Tests install it by an entry point (:func:`install`), as a user's own backend would be.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from cspbench.backends.spec import BACKENDS
from cspbench.core.options import Axis, resolve
from cspbench.errors import Unavailable, Unsupported

#: What it can be told to do; ``ok`` is to work.
DOINGS = (
    "ok", "raise", "raise-oom", "allocate", "hold", "abort", "exit", "segfault", "sigkill", "hang",
    "hang-in-run", "chatter", "nan", "shape", "wrong", "describe", "unsupported", "unavailable",
    "child", "child-segfault", "once", "hang-in-c", "stop", "garbage", "flood", "exhaust", "spam",
    "raise-tegra-oom", "refuse-oom",
)  # fmt: skip


def write_program(path: Path) -> None:
    """A ``.pt2`` file that states its input, (1, 3, 32, 32) in float32, and holds nothing else."""
    arg = {"user_input": {"arg": {"as_tensor": {"name": "x"}}}}
    value = {"dtype": 7, "sizes": [{"as_int": side} for side in (1, 3, 32, 32)]}
    module = {"graph": {"tensor_values": {"x": value}}, "signature": {"input_specs": [arg]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/models/model.json", json.dumps({"graph_module": module}))


@dataclass(frozen=True)
class Fake:
    """Spec of the backend. ``do`` says what happens, ``ms`` how long an inference takes."""

    name: str = "fake"
    summary: str = "answers what torch answered, or misbehaves"
    library: str = "numpy"
    artifact: str = "pt2"
    device: str = "cpu"
    axes: tuple[Axis, ...] = (
        Axis("do", "ok", "choice", DOINGS),
        Axis("ms", 1, "integer"),
    )
    held: ClassVar[list[object]] = []

    def available(self):
        exec(os.environ.get("FAKE_BUG", ""), {})  # a fault of the plug-in, in the controller
        return os.environ.get("FAKE_UNAVAILABLE")

    def load(self, artifact, options, threads):
        chosen = resolve(self.axes, options)
        getattr(self, "_" + str(chosen["do"]).replace("-", "_"), lambda artifact: None)(artifact)
        return FakeSession(artifact, str(chosen["do"]), int(chosen["ms"]), threads)

    def _raise(self, artifact):
        raise RuntimeError("the layer is unknown\nand this is its second line")

    def _raise_oom(self, artifact):
        raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")

    def _raise_tegra_oom(self, artifact):
        """As torch does on a Jetson board when cudaMalloc finds no memory."""
        raise RuntimeError(
            'NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/opt/pytorch/c10/cuda/'
            'CUDACachingAllocator.cpp":995, please report a bug to PyTorch.'
        )

    def _allocate(self, artifact):
        """Ask for 2 GiB."""
        import numpy as np

        np.ones(1 << 28)

    def _hold(self, artifact):
        """Fill 256 MiB and keep them."""
        import numpy as np

        self.held.append(np.ones(1 << 25))
        time.sleep(1000)

    def _abort(self, artifact):
        """End as C++ does when an allocation fails and no handler catches it."""
        print("terminate called after throwing an instance of 'std::bad_alloc'", flush=True)
        os.abort()

    def _exit(self, artifact):
        sys.exit(7)

    def _segfault(self, artifact):
        os.kill(os.getpid(), signal.SIGSEGV)

    def _sigkill(self, artifact):
        os.kill(os.getpid(), signal.SIGKILL)

    def _hang(self, artifact):
        time.sleep(1000)

    def _chatter(self, artifact):
        print("a backend may print what it likes" * 1000)
        print('{"event": "answer", "status": "ok"}', flush=True)

    def _unsupported(self, artifact):
        raise Unsupported("no such operator")

    def _unavailable(self, artifact):
        raise Unavailable("no such device")

    def _refuse_oom(self, artifact):
        """As an engine that hands on why its library built nothing."""
        why = "[defaultAllocator.cpp] Error Code 1: OutOfMemory (Requested size was 3 bytes.)"
        raise Unsupported(f"TensorRT cannot build the engine: {why}")

    def _child(self, artifact):
        """Leave a process behind, and its number beside the artifact."""
        child = subprocess.Popen(["sleep", "1000"], close_fds=False)
        artifact.with_suffix(".pid").write_text(str(child.pid))

    def _child_segfault(self, artifact):
        """Die while a forked child holds every pipe open."""
        child = os.fork()
        if child == 0:
            time.sleep(1000)
        artifact.with_suffix(".pid").write_text(str(child))
        os.kill(os.getpid(), signal.SIGSEGV)

    def _hang_in_c(self, artifact):
        """Wait in C and never give the interpreter back: no thread of Python runs any more."""
        ctypes.PyDLL(None).pause()

    def _stop(self, artifact):
        os.kill(os.getpid(), signal.SIGSTOP)

    def _garbage(self, artifact):
        """Write into every pipe that is open, the one for answers among them."""
        for descriptor in _pipes():
            os.write(descriptor, b"\xff\x00{]\n[1]\n" + b'{"event": 7}\n{"event": "phase"}\n')

    def _flood(self, artifact):
        """Write without an end, and without the end of a line."""
        (descriptor,) = _pipes()
        while True:
            os.write(descriptor, b"x" * 65536)

    def _exhaust(self, artifact):
        """Take memory until the process is ended; shared mappings do not count as data."""
        import mmap

        while True:
            block = mmap.mmap(-1, 1 << 24)
            block.write(b"x" * (1 << 24))
            self.held.append(block)

    def _spam(self, artifact):
        """Print 40 MiB, and what it wanted to say."""
        for _ in range(40):
            os.write(1, b"spam " * (1 << 18))
            time.sleep(0.1)
        print("these are the last words", flush=True)
        os.abort()

    def _once(self, artifact):
        """Fail the first time; a file beside the artifact remembers."""
        mark = artifact.with_suffix(".once")
        if not mark.exists():
            mark.touch()
            raise RuntimeError("the first time fails")


def _pipes():
    """Pipes beyond standard input, output and error."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists is closed by now
            if int(name) > 2 and os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                found.append(int(name))
    return found


class FakeSession:
    """Gives the outputs stored beside the artifact, changed where the order says so.

    It is asked for those of the judged inputs, one after the other.
    """

    def __init__(self, artifact, do, ms, threads):
        from cspbench.artifacts.reference import read_reference

        self._outputs = itertools.cycle(read_reference(artifact.with_suffix(".npz")).outputs)
        self._do, self._ms, self._threads = do, ms, threads

    def set_input(self, array):
        assert array.dtype == "float32"
        assert array.ndim == 4

    def run(self):
        if self._do == "hang-in-run":
            time.sleep(1000)
        time.sleep(self._ms / 1000)

    def outputs(self):
        first, *rest = next(self._outputs)
        if self._do == "nan":
            first = first * float("nan")
        elif self._do == "shape":
            first = first[..., :-1]
        elif self._do == "wrong":
            first = first + 1.0
        return [first, *rest]

    def describe(self):
        heavy = sorted({"torch", "cv2", "pandas", "matplotlib"} & set(sys.modules))
        return {
            "heavy_modules": ",".join(heavy),
            "omp_num_threads": os.environ["OMP_NUM_THREADS"],
            "threads": self._threads,
            **({"engine": object()} if self._do == "describe" else {}),
        }

    def close(self):
        pass


def install(folder: Path) -> Path:
    """Lay a distribution with this backend into ``folder``, which belongs on PYTHONPATH then."""
    shutil.copy(__file__, folder / "cspbench_fake_backend.py")
    info = folder / "cspbench_fake_backend-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: cspbench-fake-backend\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text("[cspbench.backends]\nfake = cspbench_fake_backend\n")
    return folder


if __name__ == "cspbench_fake_backend":
    BACKENDS.add(Fake())
