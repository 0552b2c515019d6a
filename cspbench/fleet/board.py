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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

import cspbench
from cspbench.backends.spec import BACKENDS, libraries
from cspbench.core.statuses import Status
from cspbench.errors import CspbenchError
from cspbench.fleet.artifacts import Item, Store, WrongContent
from cspbench.fleet.doing import LOOK_SECONDS, Connection, Doing, EndedError, Task
from cspbench.fleet.duet import measure_duet
from cspbench.fleet.protocol import MAX_BYTES, Json, decode, encode
from cspbench.fleet.state import COOL_SECONDS, COOL_TO_C, SETTINGS, changed, cool_down, state
from cspbench.jobs.load import LoadRequest
from cspbench.jobs.spec import JOBS, Request
from cspbench.jobs.time import TimeRequest
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock
from cspbench.machine.sensors.thermal import hottest_c
from cspbench.runner.block_request import MEMORY_SHARE, BlockRequest, available_bytes
from cspbench.runner.executor import Executor, LocalExecutor
from cspbench.runner.process import Outcome, end_workers
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
    """Answers requests, one at a time: a launch, or a block of launches that take turns.

    Args:
        settings: name, labels, bounds.
        executor: runs them; by default in worker processes on this machine.
        store: cache of artifacts.
        lock: taken to have the machine to itself.
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
        self._alone = threading.Lock()  # what a lost connection asked for may still be at work
        self._undelivered: list[str] = []
        self._told_to_end = threading.Event()
        self._task: Task | None = None
        self._idle = Doing()
        self._settings: dict[str, str | bool | None] = {}

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

    def now(self) -> str:
        """What the board does and its temperature as a message; Dask's heartbeat carries it."""
        task = self._task
        doing = self._idle if task is None else task.doing
        idle = doing.state != "measuring"
        return encode(
            "now",
            {
                "state": doing.state,
                "what": doing.what,
                "seconds": round(time.monotonic() - doing.since, 1),
                "temperature_c": hottest_c() if idle else doing.temperature_c,
                "settings": self._settings,
            },
        )

    def end(self) -> None:
        """End what the board works or waits for, for good; a signal handler may call it."""
        self._told_to_end.set()
        end_workers()

    def serve(self, text: str, data: bytes = b"", connection: Connection | None = None) -> str:
        """Answer one request.

        Args:
            text: the request.
            data: bytes of a file that belong to it.
            connection: the way back to the controller.

        Raises:
            EndedError: the board was told to end.
        """
        connection = connection or Connection()
        try:
            request = decode(text, "the controller")
            if request["kind"] == "put":
                complete = self._store.put(Item(**request["item"]), int(request["offset"]), data)
                return encode("answer", {"status": "ok", "complete": complete})
            if request["kind"] in ("launch", "block", "duet"):
                answer = self._work(request, connection)
                if not connection.alive():
                    self._undelivered.append(str(request["launch"]))
                return answer
            raise WrongContent(f"a board cannot answer requests of kind {request['kind']!r}")
        except EndedError:
            raise  # there is no answer: the launches are lost, and nothing is wrong with them
        except CspbenchError as error:
            return encode("answer", {"status": "refused", "reason": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            reason = f"the request is malformed: {error}"
            return encode("answer", {"status": "refused", "reason": reason})

    def _work(self, request: Json, connection: Connection) -> str:
        launch, jobs = str(request["launch"]), [dict(job) for job in request["jobs"]]
        kinds = {"launch": self._launch, "block": self._block, "duet": self._duet}
        measure = kinds[request["kind"]]
        for job in jobs:
            name = job.get("job")
            on_board = name in JOBS and JOBS.get(str(name)).on_board
            if not (name == LoadRequest.job if request["kind"] == "duet" else on_board):
                raise WrongContent(f"a board cannot run the job {name!r}")
        missing = [digest for job in jobs for digest in self._place(job)]
        if missing:
            return encode("answer", {"status": "missing", "launch": launch, "missing": missing})
        requests = [JOBS.get(job["job"]).request.from_json(job) for job in jobs]
        what = str(jobs[0].get("case", jobs[0]["job"])) if len(jobs) == 1 else f"{len(jobs)} cases"
        work = Task(launch, what, self.settings.name, connection, self._told_to_end)
        self._task = work
        try:
            with self._to_itself(work, float(request["queue"])):
                connection.began(launch)
                return self._measure(work, lambda: measure(request, requests))
        finally:
            self._task, self._idle = None, Doing()

    def _launch(self, message: Json, requests: Sequence[Request]) -> list[tuple[int, Outcome]]:
        [request] = requests
        threads, timeout = int(message["threads"]), float(message["timeout"])
        return [(0, self._workers().launch(request, threads, timeout))]

    def _block(self, message: Json, requests: Sequence[Request]) -> list[tuple[int, Outcome]]:
        """Let cases take turns. What does not fit into memory beside the others is left out."""
        reference = message["reference"]
        block = BlockRequest(
            name=str(message["name"]),
            arms=tuple(request for request in requests if isinstance(request, TimeRequest)),
            reference=None if reference is None else int(reference),
            seed=str(message["seed"]),
            skip=int(message["skip"]),
            first_only=True,
        )
        if len(block.arms) < len(requests):
            raise WrongContent("only cases that are timed take turns")
        return list(self._workers().block(block, float(message["timeout"])))

    def _duet(self, message: Json, requests: Sequence[Request]) -> list[tuple[int, Outcome]]:
        """One block of a gate: both sides take bursts in turn, or one of them only loads."""
        bound = self.settings.memory_limit_bytes or int(MEMORY_SHARE * available_bytes())
        limits = {"memory_limit_bytes": bound, "allow_code": self.settings.allow_code}
        return [(0, measure_duet(message, requests, limits))]

    @contextlib.contextmanager
    def _to_itself(self, work: Task, seconds: float) -> Iterator[None]:
        """Have the machine, after a wait of at most ``seconds``: then the controller gives up.

        Raises:
            WrongContent: what was asked for before did not end in time.
            EndedError: the board was told to end meanwhile.
        """
        asked = time.monotonic()
        while not self._alone.acquire(timeout=min(LOOK_SECONDS, max(0.0, seconds))):
            work.pause(0.0)
            if time.monotonic() - asked >= seconds:
                raise WrongContent(f"another launch did not end within {seconds:.0f} s")
            work.waits("another launch is still at work on this board")
        try:
            left = seconds - (time.monotonic() - asked)
            what = f"{work.what} for the fleet"
            with self._lock(what, seconds=max(0.0, left), waiting=work.waits, sleep=work.pause):
                waited = time.monotonic() - asked
                if waited > seconds:
                    raise WrongContent(f"the board was not free for {waited:.0f} s")
                yield
        finally:
            self._alone.release()

    def _place(self, job: Json) -> list[str]:
        """Replace content by paths of this board in the job; return the missing digests.

        Raises:
            WrongContent: the job names files besides.
        """
        if job.get("artifacts"):  # layers that are replayed; no board is asked for them
            raise WrongContent("a job names its content by digests, and not files of the board")
        missing = []
        for name in ("artifact", "reference"):
            if name in job:
                item = Item(**job[name])
                job[name] = str(self._store.path(item))
                if not self._store.holds(item):
                    missing.append(item.digest)
        return missing

    def _measure(self, work: Task, measure: Callable[[], list[tuple[int, Outcome]]]) -> str:
        """Measure, and answer with the outcomes and the board's state before and after.

        Raises:
            WrongContent: one answer cannot hold the results.
            EndedError: the board was told to end meanwhile.
        """
        settings = self.settings
        cooled = cool_down(
            settings.cool_to_c, settings.cool_seconds, waiting=work.waits, sleep=work.pause
        )
        before = state()
        with work.measuring(before.get("temperature_c")):
            outcomes = measure()
        after = state()
        self._settings = {name: after.get(name) for name in SETTINGS}
        for _, outcome in outcomes:
            outcome.notes["board_state"] = {
                "before": before, "after": after, "cooled_seconds": cooled,
            }  # fmt: skip
            if outcome.status is Status.OK and changed(before, after):
                outcome.flags.append("board_changed")
        message = {
            "status": "done",
            "launch": work.launch,
            "late": self._undelivered,
            "outcomes": [_report(arm, outcome) for arm, outcome in outcomes],
        }
        answer = encode("answer", message)
        if len(answer) > MAX_BYTES:
            raise WrongContent(
                f"the results of {len(outcomes)} launches fill {len(answer) / 2**20:.0f} MiB, and "
                f"an answer holds {MAX_BYTES // 2**20}: measure fewer cases in turns "
                "(measure.together), or for a shorter time (measure.max_seconds)"
            )
        self._undelivered = []
        return answer

    def _workers(self) -> Executor:
        if self._executor is None:
            settings = self.settings
            self._executor = LocalExecutor(
                settings.memory_limit_bytes, allow_code=settings.allow_code
            )
        return self._executor


def _report(arm: int, outcome: Outcome) -> Json:
    """An outcome as it is sent. Without a good end its answer is of no use and may be no JSON."""
    answer = outcome.answer if outcome.status is Status.OK else {}
    return {**asdict(outcome), "arm": arm, "status": outcome.status.value, "answer": answer}
