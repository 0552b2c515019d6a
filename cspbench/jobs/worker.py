"""The worker: a fresh process that loads one artifact and does one job (design, principle 1).

Jobs come as JSON lines on standard input, answers leave as JSON lines through a pipe of their own
(``--answers FD``), because backends print what they like on standard output. What it can do are the
kinds of ``cspbench.jobs``, each in a file of its own.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import traceback

from cspbench.core.statuses import Status
from cspbench.core.text import first_line
from cspbench.errors import InputError, Unavailable, Unsupported
from cspbench.jobs._limits import limit_data
from cspbench.jobs.spec import JOBS, JobFailedError, Json, PhaseReport

#: What allocators say when there is no memory left, whatever the exception's type.
OUT_OF_MEMORY = (
    "out of memory", "not enough memory", "Cannot allocate memory", "Failed to allocate",
    "Insufficient memory", "bad_alloc", "bad allocation",
    # Libraries of CUDA; and Tegra boards, where torch asks NVML why cudaMalloc failed, which does
    # not know the GPU (pytorch/pytorch issue 185240).
    "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "NVML_SUCCESS == r INTERNAL ASSERT",
    "NvMapMemAlloc",
    "OutOfMemory",  # TensorRT's code of the error
)  # fmt: skip


def perform(job: Json, phase: PhaseReport) -> Json:
    """Do one job; every Python error becomes an answer with a status and a reason."""
    from cspbench.models.code import allowing_code

    try:
        limit_data(job.get("data_limit_bytes"))
        with allowing_code(bool(job.get("allow_code", False))):
            return {"status": Status.OK.value, **JOBS.get(job["job"]).do(job, phase)}
    except Unsupported as reason:
        return {"status": _or_oom(Status.UNSUPPORTED, reason), "reason": str(reason)}
    except Unavailable as reason:
        return {"status": _or_oom(Status.UNAVAILABLE, reason), "reason": str(reason)}
    except (JobFailedError, InputError) as error:  # a file that only building the model reads, too
        return {"status": Status.FAILED.value, "reason": str(error)}
    except MemoryError as error:
        return {"status": Status.OOM.value, "reason": str(error) or "out of memory"}
    except Exception as error:  # a backend may raise anything; the traceback goes to the log
        traceback.print_exc()
        text = first_line(error, 500)
        status = _or_oom(Status.FAILED, error)
        return {"status": status, "reason": f"{type(error).__name__}: {text}"}


def _or_oom(status: Status, error: Exception) -> str:
    """The status of an error; out of memory where its text says so, as engines' reasons do."""
    return (Status.OOM if tells_no_memory(str(error)) else status).value


def tells_no_memory(text: str) -> bool:
    """Whether an error's text or a log has one of the OUT_OF_MEMORY signs."""
    return any(sign in text for sign in OUT_OF_MEMORY)


def to_line(message: Json) -> str:
    """One JSON line; an answer that is not JSON (a backend describes itself) becomes ``failed``."""
    try:
        return json.dumps(message, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        reason = f"the answer cannot be stored as JSON: {error}"
        failed = {"event": "answer", "status": Status.FAILED.value, "reason": reason}
        return json.dumps(failed) + "\n"


def no_core_dump() -> None:
    """Write no core file: the signal reports the crash, and the file would take gigabytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent() -> None:
    """Ask Linux to kill this process when the controller dies, however that happens."""
    if sys.platform != "linux":
        return
    import ctypes
    import signal

    pr_set_pdeathsig = 1
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """Serve jobs until standard input ends."""
    parser = argparse.ArgumentParser(prog="cspbench-worker")
    parser.add_argument("--answers", type=int, required=True, help="file descriptor")
    parser.add_argument("--parent", type=int, required=True, help="process id of the controller")
    arguments = parser.parse_args()
    die_with_parent()
    no_core_dump()
    if os.getppid() != arguments.parent:  # it died before prctl was called
        sys.exit(1)
    with os.fdopen(arguments.answers, "w", encoding="utf-8") as answers:

        def send(message: Json) -> None:
            answers.write(to_line(message))
            answers.flush()

        for line in sys.stdin:
            job = json.loads(line)
            answer = perform(job, lambda phase: send({"event": "phase", "phase": phase}))
            send({"event": "answer", **answer})
    gc.freeze()  # at its end Python would look for cycles in all of torch, for 1 to 2 s


if __name__ == "__main__":
    main()
