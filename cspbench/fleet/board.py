"""A board: it announces its facts and answers requests.

This is the side that measures. It does not depend on Dask; ``fleet/agent.py`` connects the two.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

import cspbench
from cspbench.backends.spec import BACKENDS, libraries
from cspbench.core.statuses import Status
from cspbench.errors import CspbenchError
from cspbench.fleet.artifacts import Item, Store, WrongContent
from cspbench.fleet.protocol import Json, decode, encode
from cspbench.fleet.state import COOL_SECONDS, COOL_TO_C, changed, cool_down, state
from cspbench.jobs.spec import JOBS
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.suite.suite import check_label

#: Name and labels of a board whose worker was started by one of Dask's cluster classes.
NAME_VARIABLE, LABELS_VARIABLE = "CSPBENCH_BOARD", "CSPBENCH_LABELS"
Lock = Callable[..., AbstractContextManager[None]]
log = logging.getLogger("cspbench.agent")


def own_name() -> str:
    """The machine's name as a label."""
    name = re.sub(r"[^a-z0-9._-]+", "-", platform.node().lower()).strip("-._")
    return name[:63] or "board"


@dataclass(frozen=True)
class Settings:
    """Settings of an agent.

    name: of the board, unique in the fleet. labels: further names by which suites choose it.
    memory_limit_bytes, allow_code: as for a local run. cool_to_c: a hotter board waits before a
    launch. cool_seconds: the longest wait.
    """

    name: str = field(default_factory=own_name)
    labels: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None
    allow_code: bool = False
    cool_to_c: float = COOL_TO_C
    cool_seconds: float = COOL_SECONDS

    @staticmethod
    def from_environment() -> Settings:
        """Read the settings of a worker that a cluster class started.

        Raises:
            InputError: a name or label is malformed.
        """
        labels = os.environ.get(LABELS_VARIABLE, "").replace(",", " ").split()
        name = os.environ.get(NAME_VARIABLE) or own_name()
        return Settings(check_label(name), tuple(map(check_label, labels)))


class Board:
    """Answers requests, one launch at a time.

    Args:
        settings: name, labels, bounds.
        executor: runs launches; by default in worker processes on this machine.
        store: cache of artifacts.
        lock: taken by a launch to have the machine to itself.
    """

    def __init__(
        self,
        settings: Settings,
        executor: Executor | None = None,
        store: Store | None = None,
        lock: Lock = timing_lock,
    ) -> None:
        self.settings = settings
        self.session = uuid.uuid4().hex[:12]
        self._executor = executor
        self._store = store or Store()
        self._lock = lock
        self._alone = threading.Lock()  # a launch of a lost connection may still be at work
        self._undelivered: list[str] = []

    def announce(self) -> str:
        """Return the board's facts as a message for the controllers."""
        backends = {backend.name: backend.available() for backend in BACKENDS}
        devices = {
            BACKENDS.get(name).device for name, missing in backends.items() if missing is None
        }
        return encode(
            "board",
            {
                "cspbench": cspbench.__version__,
                "name": self.settings.name,
                "labels": list(self.settings.labels),
                "session": self.session,
                "devices": sorted(devices | {"cpu"}),
                "backends": backends,
                "environment": fingerprint(libraries()),
            },
        )

    def serve(
        self,
        text: str,
        data: bytes = b"",
        began: Callable[[str], None] = lambda _: None,
        delivered: Callable[[], bool] = lambda: True,
    ) -> str:
        """Answer one request.

        Args:
            text: the request.
            data: bytes of a file that belong to it.
            began: called with the id of a launch when it has the board to itself.
            delivered: whether the connection to the controller still exists.
        """
        try:
            request = decode(text, "the controller")

            if request["kind"] == "put":
                complete = self._store.put(Item(**request["item"]), int(request["offset"]), data)
                return encode("answer", {"status": "ok", "complete": complete})
            if request["kind"] == "launch":
                answer = self._launch(request, began)
                if not delivered():
                    self._undelivered.append(str(request["launch"]))
                return answer
            raise WrongContent(f"a board cannot answer requests of kind {request['kind']!r}")
        except CspbenchError as error:
            return encode("answer", {"status": "refused", "reason": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the request is malformed: {error}"
            return encode("answer", {"status": "refused", "reason": reason})

    def _launch(self, request: Json, began: Callable[[str], None]) -> str:
        launch, job = str(request["launch"]), dict(request["job"])
        if job.get("job") not in JOBS or not JOBS.get(str(job["job"])).on_board:
            raise WrongContent(f"a board cannot run the job {job.get('job')!r}")
        missing = self._place(job)
        if missing:
            return encode("answer", {"status": "missing", "launch": launch, "missing": missing})
        what = f"{job.get('case', job['job'])} for the fleet"
        with self._to_itself(what, float(request["queue"])):
            began(launch)
            return self._measure(launch, job, int(request["threads"]), float(request["timeout"]))

    @contextlib.contextmanager
    def _to_itself(self, what: str, seconds: float) -> Iterator[None]:
        """Have the machine, after a wait of at most ``seconds``: then the controller gives up.

        Raises:
            WrongContent: another launch or run did not end in time.
        """
        asked = time.monotonic()
        if not self._alone.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX)):
            raise WrongContent(f"another launch did not end within {seconds:.0f} s")
        try:
            left = seconds - (time.monotonic() - asked)
            with self._lock(what, seconds=max(0.0, left), waiting=log.warning):
                waited = time.monotonic() - asked
                if waited > seconds:
                    raise WrongContent(f"the board was not free for {waited:.0f} s")
                yield
        finally:
            self._alone.release()

    def _place(self, job: Json) -> list[str]:
        """Replace content by paths of this board in the job; return the missing digests."""
        missing = []
        for name in ("artifact", "reference"):
            if name in job:
                item = Item(**job[name])
                job[name] = str(self._store.path(item))
                if not self._store.holds(item):
                    missing.append(item.digest)
        return missing

    def _measure(self, launch: str, job: Json, threads: int, timeout: float) -> str:
        settings = self.settings
        cooled = cool_down(settings.cool_to_c, settings.cool_seconds)
        before = state()
        request = JOBS.get(job["job"]).request.from_json(job)
        outcome = self._workers().launch(request, threads, timeout)
        after = state()
        outcome.notes["board_state"] = {
            "before": before, "after": after, "cooled_seconds": cooled,
        }  # fmt: skip
        if outcome.status is Status.OK and changed(before, after):
            outcome.flags.append("board_changed")
        late, self._undelivered = self._undelivered, []
        message = {
            "status": "done",
            "launch": launch,
            "late": late,
            "outcome": {**asdict(outcome), "status": outcome.status.value},
        }
        return encode("answer", message)

    def _workers(self) -> Executor:
        if self._executor is None:
            settings = self.settings
            self._executor = LocalExecutor(
                settings.memory_limit_bytes, allow_code=settings.allow_code
            )
        return self._executor
