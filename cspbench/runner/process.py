"""A worker process seen from the controller: start, ask, watch the time, tell how it ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cspbench.core.cache import cache_folder
from cspbench.core.plain import check_plain
from cspbench.core.programs import search_path
from cspbench.core.statuses import Status
from cspbench.jobs.spec import JOBS
from cspbench.jobs.worker import tells_no_memory
from cspbench.machine.cgroup import MemoryGroup

#: How much of a worker's own output is kept.
LOG_BYTES = 64 * 1024
#: A longer output is cut while the worker runs.
MAX_LOG_FILE_BYTES = 16 * 2**20
#: How often the controller looks after a silent worker: is it alive, how much memory has it.
WATCH_SECONDS = 0.5
#: How a worker starts. Modules that lie in the working directory, such as an untrusted ``cv2.py``,
#: are not imported: Python 3.11 leaves that directory out (PYTHONSAFEPATH), 3.10 is told here.
START = (
    "import sys; sys.path[:] = [path for path in sys.path if path]; "
    "import runpy; runpy.run_module('cspbench.jobs.worker', run_name='__main__', alter_sys=True)"
)
#: Where a worker stands that reads no file of the user, because libraries and compilers look into
#: their working directory.
NEUTRAL_FOLDER = "/"
#: No answer is longer than this.
MAX_MESSAGE_BYTES = 64 * 2**20
#: Jobs that a loaded worker does, as phases of its launch.
PARTS_OF_LAUNCH = {"burst": "sample", "profile": "profile", "conditions": "close"}
#: A job has a handful of phases; each begins a time-out anew, and a backend may forge more.
MAX_PHASES = 20
#: Workers of this process that are not closed.
_living: set[WorkerProcess] = set()
_VMSTAT = Path("/proc/vmstat")


@dataclass
class Outcome:
    """How a job ended: a status, a reason unless ok, the worker's answer and its last output.

    ``answer`` is as the worker sent it: plain values, not checked yet. ``flags`` and ``notes``
    (``sensors``, ``energy``, ``memory_bound``, ``device_room``, ``board``, ``launch``,
    ``board_state``) are what the executor saw itself. ``final`` says that asking again is in vain.
    """

    status: Status
    reason: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    log: str = ""
    seconds: float = 0.0
    flags: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    final: bool = False

    def checked(self, job: str) -> Any:
        """The typed result of a good job; without one the outcome becomes ``failed``."""
        if self.status is not Status.OK:
            return None
        try:
            check_plain(self.answer)
            return JOBS.get(job).read(self.answer)
        except ValueError as error:
            self.status, self.reason = Status.FAILED, f"the worker's answer is malformed: {error}"
            return None


class WorkerProcess:
    """One worker in a process group of its own; does jobs one after the other.

    Args:
        threads: what OpenMP and its kin are told before they load.
        python: interpreter of another environment (default: this one).
        path: folder that this interpreter looks for modules in first.
        folder: its working directory (default: ours, to which a model's relative paths refer).
        extra: more environment variables.
    """

    def __init__(
        self,
        threads: int = 1,
        *,
        python: str | None = None,
        path: str | None = None,
        folder: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        read_end, write_end = os.pipe()
        # Without a name (O_TMPFILE): nothing stays behind when a process is killed.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        fcntl.fcntl(self._log, fcntl.F_SETFL, os.O_APPEND)  # so that it can be cut
        self._log_before = b""
        self._oom_kills = _oom_kills()
        command = [python or sys.executable, "-c", START]
        command += ["--answers", str(write_end), "--parent", str(os.getpid())]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(write_end,),
                cwd=folder,
                env={**worker_environment(threads, path), **(extra or {})},
                start_new_session=True,  # a Ctrl-C of the controller is not the worker's
            )
        finally:
            os.close(write_end)
        self._answers = read_end
        os.set_blocking(read_end, False)
        self._buffer = bytearray()
        self._busy = False
        self._is_new = True
        self._memory_limit: int | None = None
        self._watched = time.monotonic()
        self._group: MemoryGroup | None = None
        _living.add(self)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True until the process ended."""
        return self._process.poll() is None

    def ask(
        self,
        job: dict[str, Any],
        timeout_seconds: float,
        on_phase: Callable[[str], None] | None = None,
    ) -> Outcome:
        """Send a job and wait for its answer, its end, or the time-out.

        ``timeout_seconds`` bounds every phase of the job; phases that are told how long to work
        (warm-up, sampling) have that long on top. A job's ``memory_limit_bytes`` bounds the
        worker's resident memory from then on. ``on_phase`` is called, quickly back, whenever a
        phase begins.
        """
        started = time.monotonic()
        self._busy = True
        self._memory_limit = job.get("memory_limit_bytes", self._memory_limit)
        if self._memory_limit and self._group is None:
            self._group = MemoryGroup.confine(self._process.pid, self._memory_limit)
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: seen below
            stdin.write(json.dumps(job).encode() + b"\n")
            stdin.flush()
        outcome = self._wait(job, timeout_seconds, on_phase)
        if outcome.status is Status.OK and time.monotonic() - self._watched >= WATCH_SECONDS:
            # Of jobs as short as a burst none is waited for that long.
            name = str(job.get("job"))
            outcome = self._watch(PARTS_OF_LAUNCH.get(name, name)) or outcome
        self._busy = False
        outcome.seconds = time.monotonic() - started
        if outcome.status is not Status.OK:
            outcome.log = self._read_log()
        return outcome

    def _wait(
        self, job: dict[str, Any], timeout_seconds: float, on_phase: Callable[[str], None] | None
    ) -> Outcome:
        phase, allowed, phases_left = self._first_phase(job), timeout_seconds, MAX_PHASES
        deadline = time.monotonic() + allowed
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.kill()
                    reason = f"no answer within {allowed:g} s, in phase {phase!r}"
                    return Outcome(Status.TIMEOUT, reason)
                if not selector.select(min(left, WATCH_SECONDS)):
                    if not self.alive:  # what it forked keeps the pipe open
                        return self._ended(phase)
                    if (over := self._watch(phase)) is not None:
                        return over
                    continue
                chunk = os.read(self._answers, 1 << 16)
                if not chunk:
                    return self._ended(phase)
                for message in self._messages(chunk):
                    if message.get("event") == "phase" and phases_left:
                        phases_left -= 1
                        phase = str(message.get("phase"))
                        if on_phase is not None:
                            on_phase(phase)
                        allowed = timeout_seconds + phase_seconds(job, phase)
                        deadline = time.monotonic() + allowed
                    elif message.get("event") == "answer":
                        return _outcome(message)
                if len(self._buffer) > MAX_MESSAGE_BYTES:
                    self.kill()
                    return Outcome(Status.CRASHED, "the worker flooded its pipe with garbage")

    def _watch(self, phase: str) -> Outcome | None:
        """Cut a long output; end a worker that is over its limit, and say so."""
        self._watched = time.monotonic()
        self._bound_log()
        if self._memory_limit and self.resident_bytes() > self._memory_limit:
            self.kill()
            return Outcome(Status.OOM, _over_limit(self._memory_limit, phase))
        return None

    def _messages(self, chunk: bytes) -> list[dict[str, Any]]:
        """Whole JSON lines received; anything else in the pipe is not ours and is dropped."""
        self._buffer += chunk
        if b"\n" not in chunk:  # joined once a line is whole: a flood is not to cost us either
            return []
        *lines, rest = self._buffer.split(b"\n")
        self._buffer = rest
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if isinstance(message, dict):
                    messages.append(message)
        return messages

    def _first_phase(self, job: dict[str, Any]) -> str:
        """What a worker is at before it tells: its start, later a part of its launch."""
        first, self._is_new = self._is_new, False
        return "start" if first else PARTS_OF_LAUNCH.get(str(job.get("job")), "start")

    def _ended(self, phase: str) -> Outcome:
        """The pipe closed without an answer: tell how the process died."""
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:  # it closed the pipe and lives on
            self.kill()
            return Outcome(Status.CRASHED, f"the worker closed its pipe in phase {phase!r}")
        if code >= 0:
            return Outcome(Status.CRASHED, f"the worker exited with {code} in phase {phase!r}")
        name = _signal_name(-code)
        if -code == signal.SIGKILL and self._killed_for_memory():
            return Outcome(
                Status.OOM, f"the kernel's out-of-memory killer ended it in phase {phase!r}"
            )
        if tells_no_memory(self._read_log()):
            return Outcome(Status.OOM, f"out of memory in phase {phase!r} ({name})")
        return Outcome(Status.CRASHED, f"the worker was ended by {name} in phase {phase!r}")

    def _killed_for_memory(self) -> bool:
        """True if the kernel ended this worker, or else some process, for lack of memory."""
        if self._group is not None:
            return self._group.oom_kills() > 0
        return _oom_kills() > self._oom_kills

    @property
    def memory_bound(self) -> str:
        """What bounds the worker's memory beside RLIMIT_DATA: ``cgroup`` or ``watchdog``."""
        return "watchdog" if self._group is None else "cgroup"

    def resident_bytes(self) -> int:
        """Resident memory of the worker now; 0 if it ended or the system does not tell."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def _read_log(self) -> str:
        return (self._log_before + self._log_end())[-LOG_BYTES:].decode("utf-8", "replace")

    def _log_end(self) -> bytes:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), LOG_BYTES, max(0, size - LOG_BYTES))

    def _bound_log(self) -> None:
        """Keep the end of a long output only: a chatterer must not fill the disk."""
        if os.fstat(self._log.fileno()).st_size > MAX_LOG_FILE_BYTES:
            self._log_before = self._log_end()
            self._log.truncate(0)  # the worker appends: it goes on at the start

    def kill(self) -> None:
        """End the worker and whatever it started, at once."""
        self.end()
        self._process.wait()

    def end(self) -> None:
        """Send the same end and do not wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the worker end by itself, or end it; free what it held."""
        stdin = self._process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
        if not self._busy:  # else we were interrupted: its answer is not read
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=5)
        self.kill()  # also what it forked and left behind
        _living.discard(self)
        os.close(self._answers)
        self._log.close()
        if self._group is not None:
            self._group.close()


def end_workers() -> None:
    """End all workers of this process and whatever they started, and wait for none of them.

    Another thread that waits for a worker's answer sees how it ended. A signal handler may call it.
    """
    for worker in list(_living):
        worker.end()


def phase_seconds(job: dict[str, Any], phase: str) -> float:
    """How long a job asks a phase to work."""
    asked = {"warm-up": "warmup_seconds", "sample": "max_seconds"}
    return float(job.get(asked.get(phase, ""), 0.0))


def _over_limit(limit: int, phase: str) -> str:
    return f"over the memory limit of {limit / 2**20:.0f} MiB in phase {phase!r}"


def _outcome(message: dict[str, Any]) -> Outcome:
    message.pop("event")
    status, reason = message.pop("status", None), str(message.pop("reason", ""))
    if status not in list(Status):
        return Outcome(Status.FAILED, f"the worker answered with the status {status!r}")
    return Outcome(Status(status), reason, message)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"  # the real-time ones have no names


def _oom_kills() -> int:
    """How many processes the kernel has ended for lack of memory since boot; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in _VMSTAT.read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def absolute_path(entries: str) -> str:
    """A PYTHONPATH for processes that stand elsewhere, without the working directory (empty)."""
    return os.pathsep.join(os.path.abspath(one) for one in entries.split(os.pathsep) if one)


def worker_environment(threads: int, path: str | None = None) -> dict[str, str]:
    """Environment of a worker: thread counts fixed, waiting threads sleep instead of spinning."""
    environment = dict(os.environ)
    given = path if path is not None else environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = absolute_path(given)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = str(threads)
    environment["PATH"] = search_path()
    # Before the libraries read them: the cache of torch.compile lies in /tmp otherwise, under a
    # name that every user of the machine can take.
    environment["CSPBENCH_CACHE"] = str(cache_folder())
    environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("inductor")))
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    # An index in CUDA_VISIBLE_DEVICES means the device that NVML, so our sensor, knows by it.
    environment.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    # Containers set these, and then fp32 is not what it says: the precision is ours to choose.
    for name in ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"):
        environment.pop(name, None)
    # Left from debugging: each launch would wait for its kernel, and each tensor for cudaMalloc.
    for name in ("CUDA_LAUNCH_BLOCKING", "PYTORCH_NO_CUDA_MEMORY_CACHING"):
        environment.pop(name, None)
    # ONNX Runtime 1.29 and later report each session to its maker, on a thread beside what we time.
    environment.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # See START.
    environment["PYTHONSAFEPATH"] = "1"
    # Would silently replace the engine that the suite asks for.
    environment.pop("OPENCV_FORCE_DNN_ENGINE", None)
    return environment
