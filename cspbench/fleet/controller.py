"""One controller, many boards: prepare once, then one session a board, all into one run."""

from __future__ import annotations

import datetime
import platform
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from cspbench.errors import InputError
from cspbench.fleet.client import FleetClient
from cspbench.fleet.devices import BoardInfo, FleetPlan, place_cases
from cspbench.fleet.executor import BoardExecutor, Files, Stopped
from cspbench.fleet.protocol import Json
from cspbench.jobs.ceilings import Ceilings
from cspbench.machine.comparability import Use, refusals
from cspbench.runner.executor import Executor
from cspbench.runner.plan import Plan, PlannedCase
from cspbench.runner.progress import Progress, Silent
from cspbench.runner.run import changed_cases, describe, reference, stored_plan
from cspbench.runner.session import Session
from cspbench.store.launch import Launch
from cspbench.store.rundir import RunDirectory, StoredRun, read_run


def new_fleet_run(fleet: FleetPlan, out: Path) -> RunDirectory:
    """Make the run directory of a plan under ``out``.

    Raises:
        InputError: the directory cannot be written.
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    meta = describe(fleet.plan, now)
    boards = {name: board.describe() for name, board in fleet.boards.items()}
    meta["fleet"] = {"boards": boards, "seats": dict(fleet.placements)}
    if len(boards) == 1:
        [only] = boards.values()
        meta["environment"] = only["environment"]
    else:  # each board has an environment and a reference of its own
        meta["environment"] = {"host": platform.node(), "boards": sorted(boards)}
        meta["reference"] = None
        meta["fleet"]["references"] = references(fleet)
    return RunDirectory.create(out, f"{now:%Y%m%d-%H%M%S}-{fleet.plan.suite.name}", meta)


def references(fleet: FleetPlan) -> dict[str, str]:
    """By board the case that ratios are relative to: cases of two boards never took turns."""
    cases: dict[str, list[PlannedCase]] = defaultdict(list)
    for planned in fleet.plan.runnable:
        cases[fleet.placements[planned.id]].append(planned)
    plans = {board: Plan(fleet.plan.suite, tuple(planned)) for board, planned in cases.items()}
    return {board: str(reference(plan)) for board, plan in plans.items()}


def resumable_fleet(
    path: Path, boards: Sequence[BoardInfo], *, force: bool = False
) -> tuple[FleetPlan, StoredRun]:
    """Plan the cases of a stored run again, with their stored placements.

    Args:
        path: the run directory.
        boards: the fleet as it is now.
        force: go on although models or boards changed.

    Raises:
        InputError: the run is not of a fleet, or models or boards changed since it was begun.
    """
    stored = read_run(path)
    stored_fleet = stored.meta.get("fleet")
    if not isinstance(stored_fleet, dict):
        raise InputError(f"{path} was measured on one machine: resume it there, without a fleet")
    present = {board.name: board for board in boards}
    local = stored_plan(stored)
    planned = {one.id for one in local.cases}
    fresh = place_cases(local.suite, [one.case for one in local.cases], boards)
    statuses = {case["id"]: case["status"] for case in stored.meta["cases"]}
    fleet = FleetPlan(
        Plan(local.suite, tuple(one for one in fresh.plan.cases if not statuses[one.id])),
        {case: board for case, board in stored_fleet["seats"].items() if case in planned},
        {
            name: present.get(name, BoardInfo(name, "", environment=facts["environment"]))
            for name, facts in stored_fleet["boards"].items()
        },
    )
    changes = changed_cases(stored, local)
    for name, facts in stored_fleet["boards"].items():
        if name in present:
            changes += [
                f"{reason} on board {name}"
                for reason in refusals(facts["environment"], present[name].environment, Use.RESUME)
            ]
    if changes and not force:
        raise InputError(
            f"{path} cannot be resumed: {'; '.join(changes[:3])}; start a new run, or mix "
            "conditions with --force"
        )
    return fleet, stored


#: States of a board in the progress of a run.
MEASURING, WAITING = "measuring", "waiting"


class SharedProgress:
    """One progress display for several sessions: it adds up their remaining launches."""

    def __init__(self, progress: Progress, plan: Plan, sessions: int) -> None:
        self._progress = progress
        self._plan = plan
        self._sessions = sessions
        self._lock = threading.RLock()
        self._left: dict[str, int] = {}

    def of(self, board: str) -> Progress:
        """The progress that the session of one board reports to."""
        return _BoardProgress(self, board)

    def ready(self, board: str, launches: int) -> None:
        """Note the launches of one session; once all sessions are known, report their sum."""
        with self._lock:
            self._left[board] = launches
            if len(self._left) == self._sessions:
                self._progress.started(self._plan, sum(self._left.values()))

    def launching(self, board: str, case_id: str) -> None:
        """Report that a launch began on a board."""
        with self._lock:
            self._progress.launching(case_id)
            self._progress.on_board(board, MEASURING, case_id)

    def taking_turns(self, board: str, case_ids: Sequence[str]) -> None:
        """Report that a block began on a board."""
        with self._lock:
            self._progress.taking_turns(case_ids)
            self._progress.on_board(board, MEASURING, f"{len(case_ids)} cases in turn")

    def waits(self, board: str, sentence: str) -> None:
        """Report what the cases of a board wait for."""
        with self._lock:
            self._progress.on_board(board, WAITING, sentence)

    def launched(self, board: str, launch: Launch, left: int) -> None:
        """Report that a launch ended on a board."""
        with self._lock:
            self._left[board] = left
            self._progress.launched(launch, sum(self._left.values()))


class _BoardProgress:
    def __init__(self, shared: SharedProgress, board: str) -> None:
        self._shared = shared
        self._board = board

    def preparing(self, model: str, done: int, total: int) -> None: ...

    def started(self, plan: Plan, launches: int) -> None:  # noqa: ARG002
        self._shared.ready(self._board, launches)

    def launching(self, case_id: str) -> None:
        self._shared.launching(self._board, case_id)

    def taking_turns(self, case_ids: Sequence[str]) -> None:
        self._shared.taking_turns(self._board, case_ids)

    def on_board(self, board: str, state: str, what: str) -> None: ...

    def launched(self, launch: Launch, left: int) -> None:
        self._shared.launched(self._board, launch, left)


class BoardCeilings:
    """Ceilings of one board: stored in the run only, and measured only if the suite asks."""

    def __init__(self, directory: RunDirectory, board: str) -> None:
        self._directory = directory
        self._board = board

    def known(self, device: str, threads: int) -> Ceilings | None:
        """The ceilings that this run has measured on the board; None if it has not."""
        boards = self._directory.meta["fleet"]["boards"]
        stored = boards[self._board].get("ceilings", {}).get(f"{device}/t{threads}")
        return None if stored is None else Ceilings(**stored)

    def note(self, device: str, threads: int, ceilings: Ceilings, *, measured: bool) -> None:  # noqa: ARG002
        """Store ceilings with the board; for a fleet of one also as those of the run."""

        def change(meta: Json) -> None:
            boards = meta["fleet"]["boards"]
            noted = boards[self._board].setdefault("ceilings", {})
            noted[f"{device}/t{threads}"] = asdict(ceilings)
            if len(boards) == 1:
                meta["ceilings"] = noted

        self._directory.update(change)


def execute_fleet(
    fleet: FleetPlan,
    directory: Path,
    client: FleetClient,
    local: Executor,
    before: Sequence[Launch] = (),
    progress: Progress | None = None,
) -> list[str]:
    """Run the missing launches on all boards at once; each is on disk as soon as it ends.

    Args:
        fleet: the plan and the placements.
        directory: the run directory.
        client: connects to the boards, and says how long one that is lost is waited for.
        local: analyses and exports the models.
        before: launches that the directory holds already.
        progress: reports to the user.

    Returns:
        ids of launches that answered after they were given up; none of them was counted.

    Raises:
        KeyboardInterrupt: the user interrupted; all ended launches are on disk.
        StoreError: the run directory cannot be written any further.
    """
    shared = RunDirectory(directory)
    shared.begin_session()
    main = Session(fleet.plan, shared, local, progress or Silent())
    main.recall(before)
    by_board: dict[str, list[PlannedCase]] = defaultdict(list)
    for planned in main.prepare():
        by_board[fleet.placements[planned.id]].append(planned)
    pool = _SessionPool(fleet, shared, client, progress or Silent())
    pool.run(by_board, before)
    return client.late


class _SessionPool:
    """The sessions of all boards, each in a thread of its own that waits for its board."""

    def __init__(
        self,
        fleet: FleetPlan,
        directory: RunDirectory,
        client: FleetClient,
        progress: Progress,
    ) -> None:
        self._fleet, self._directory, self._client = fleet, directory, client
        self._progress = progress
        self._stop = threading.Event()
        self._files = Files()
        self._failures: list[BaseException] = []

    def run(self, by_board: dict[str, list[PlannedCase]], before: Iterable[Launch]) -> None:
        board_of = {planned.id: name for name, cases in by_board.items() for planned in cases}
        past: dict[str, list[Launch]] = defaultdict(list)
        for launch in before:
            if launch.case in board_of:
                past[board_of[launch.case]].append(launch)
        shared = SharedProgress(self._progress, self._fleet.plan, len(by_board))
        threads = []
        for name, cases in by_board.items():
            session = self._session(name, cases, shared)
            session.recall(past[name])
            work = self._guarded(session, cases)
            threads.append(threading.Thread(target=work, name=f"board-{name}", daemon=True))
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive() and not self._stop.is_set():
                    thread.join(0.2)  # short, so that Ctrl-C takes effect
        finally:
            self._stop.set()
        if self._failures:
            raise self._failures[0]

    def _session(self, name: str, cases: Sequence[PlannedCase], shared: SharedProgress) -> Session:
        board = self._fleet.boards[name]
        executor = BoardExecutor(
            self._client, board, self._files, self._stop,
            board_seconds=self._client.return_seconds, waits=shared.waits,
        )  # fmt: skip
        plan = Plan(self._fleet.plan.suite, tuple(cases))
        ceilings = BoardCeilings(self._directory, name)
        return Session(plan, self._directory, executor, shared.of(name), ceilings)

    def _guarded(self, session: Session, cases: Sequence[PlannedCase]) -> Callable[[], None]:
        def work() -> None:
            try:
                session.measure(cases)
            except Stopped:
                pass
            except BaseException as error:  # the main thread raises it and ends the others
                self._failures.append(error)
                self._stop.set()

        return work
