"""A controller as a process of its own that tests can kill: ``controller.py SUITE OUT ADDRESS``.

With a run in OUT it goes on with that one. It writes no report, which would take longer than all
the launches.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(suite: str, out: str, address: str) -> None:
    from cspbench.fleet.client import FleetClient
    from cspbench.fleet.controller import execute_fleet, new_fleet_run, resumable_fleet
    from cspbench.fleet.devices import plan_fleet
    from cspbench.runner.executor import LocalExecutor
    from cspbench.store.rundir import list_runs
    from cspbench.suite.load import load_suite

    seconds = float(os.environ.get("BOARD_SECONDS", "120"))
    client = FleetClient(address, return_seconds=seconds)
    boards = client.boards()
    known = list_runs(Path(out))
    if known:
        fleet, stored = resumable_fleet(known[0], boards)
        path, before = stored.path, stored.launches
    else:
        fleet = plan_fleet(load_suite(Path(suite)), boards)
        path, before = new_fleet_run(fleet, Path(out)).path, []
    late = execute_fleet(fleet, path, client, LocalExecutor(), before)
    print("late", len(late))
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
