"""A board: what it announces of itself, and what it does with a request.

This is the side that measures. It knows nothing of Dask; ``fleet/agent.py`` connects the two.
"""

from __future__ import annotations

import os
import platform
import re
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field

import cspbench
from cspbench.backends.spec import BACKENDS
from cspbench.core.statuses import Status
from cspbench.errors import CspbenchError, InputError
from cspbench.fleet.artifacts import Item, Store, WrongContent
from cspbench.fleet.protocol import Json, decode, encode
from cspbench.fleet.state import COOL_SECONDS, COOL_TO_C, changed, cool_down, state
from cspbench.jobs.spec import JOBS
from cspbench.machine.facts import fingerprint
from cspbench.machine.lock import timing_lock
from cspbench.runner.executor import Executor, LocalExecutor

#: What workers that Dask's cluster classes start are told of their boards.
NAME_VARIABLE, LABELS_VARIABLE = "CSPBENCH_BOARD", "CSPBENCH_LABELS"
Lock = Callable[[str], AbstractContextManager[None]]
_LABEL = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_label(text: str) -> str:
    """Return a label or the name of a board.

    Raises:
        InputError: it cannot be one.
    """
    if not _LABEL.fullmatch(text) or text == "each":
        raise InputError(
            f"{text!r} is not a label: up to 63 small letters, digits, dots, hyphens and "
            "underscores, the first a letter or digit (and not the word each)"
        )
    return text


def own_name() -> str:
    """The machine's name as a label."""
    name = re.sub(r"[^a-z0-9._-]+", "-", platform.node().lower()).strip("-._")
    return name[:63] or "board"


@dataclass(frozen=True)
class Settings:
    """What the person who starts an agent decides.

    name: of the board, one in a fleet. labels: what suites choose it by, besides its name.
    memory_limit_bytes, allow_code: as for a local run. cool_to_c, cool_seconds: a board that is
    hotter waits before a launch, at most so long.
    """

    name: str = field(default_factory=own_name)
    labels: tuple[str, ...] = ()
    memory_limit_bytes: int | None = None
    allow_code: bool = False
    cool_to_c: float = COOL_TO_C
    cool_seconds: float = COOL_SECONDS

    @staticmethod
    def from_environment() -> Settings:
        """For workers that nobody started by hand.

        Raises:
            InputError: a name or label that cannot be one.
        """
        labels = os.environ.get(LABELS_VARIABLE, "").replace(",", " ").split()
        name = os.environ.get(NAME_VARIABLE) or own_name()
        return Settings(check_label(name), tuple(map(check_label, labels)))


class Board:
    """Answers requests, one launch at a time.

    Args:
        settings: name, labels, bounds.
        executor: where launches happen; worker processes on this machine by default.
        store: cache of artifacts.
        lock: what a launch holds while it has the machine to itself.
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
        """What the fleet must know of this board, as a message."""
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
                "environment": fingerprint(),
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
            began: told the id of a launch when it has the board to itself.
            delivered: whether the answer still has a way to whoever asked.
        """
        try:
            request = decode(text, "the controller")
            if request["kind"] == "holds":
                items = [Item(**item) for item in request["items"]]
                missing = [item.digest for item in items if not self._store.holds(item)]
                return encode("answer", {"status": "ok", "missing": missing})
            if request["kind"] == "put":
                complete = self._store.put(Item(**request["item"]), int(request["offset"]), data)
                return encode("answer", {"status": "ok", "complete": complete})
            if request["kind"] == "launch":
                answer = self._launch(request, began)
                if not delivered():
                    self._undelivered.append(str(request["launch"]))
                return answer
            raise WrongContent(f"{request['kind']!r} is no request that a board knows")
        except CspbenchError as error:
            return encode("answer", {"status": "refused", "reason": str(error)})
        except (KeyError, TypeError, ValueError) as error:
            return encode("answer", {"status": "refused", "reason": f"not a request: {error}"})

    def _launch(self, request: Json, began: Callable[[str], None]) -> str:
        launch, job = str(request["launch"]), dict(request["job"])
        if job.get("job") not in JOBS or not JOBS.get(str(job["job"])).on_board:
            raise WrongContent(f"{job.get('job')!r} is no job for a board")
        missing = self._place(job)
        if missing:
            return encode("answer", {"status": "missing", "launch": launch, "missing": missing})
        what = f"{job.get('case', job['job'])} for the fleet"
        asked = time.monotonic()
        with self._alone, self._lock(what):
            waited = time.monotonic() - asked
            if waited > float(request["queue"]):  # whoever asked has given it up
                raise WrongContent(f"the board was not free for {waited:.0f} s")
            began(launch)
            return self._measure(launch, job, int(request["threads"]), float(request["timeout"]))

    def _place(self, job: Json) -> list[str]:
        """Put paths of this board where the request names content; return what is not here."""
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
