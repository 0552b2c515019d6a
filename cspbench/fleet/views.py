"""Splits the run of a fleet into one run for each board."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cspbench.core.case import Case

if TYPE_CHECKING:
    from cspbench.views.frames import Run


def by_board(run: Run) -> list[Run]:
    """Return one run for each board, with the board's environment, cases, launches and ceilings.

    A case is in the run of the board that it was placed on; a case that no board could run is in
    a run named after its label. A run of one machine, or of a fleet of one without labels, is
    returned as it is.
    """
    from cspbench.store.rundir import StoredRun
    from cspbench.views.frames import Run as View

    meta = run.stored.meta
    fleet = meta.get("fleet")
    if not fleet or all(Case.parse(case["id"]).board is None for case in meta["cases"]):
        return [run]
    groups: dict[str, list[dict[str, Any]]] = {}
    for case in meta["cases"]:
        board = fleet["seats"].get(case["id"]) or Case.parse(case["id"]).board
        groups.setdefault(str(board), []).append(case)
    views: list[Run] = []
    for board, cases in groups.items():
        ids = {case["id"] for case in cases}
        facts = fleet["boards"].get(board, {})
        own = {
            **meta,
            "run": f"{run.name} on {board}",
            "cases": cases,
            "environment": facts.get("environment", {}),
            "ceilings": facts.get("ceilings", {}),
            "reference": fleet.get("references", {}).get(board) or meta.get("reference"),
        }
        launches = [launch for launch in run.stored.launches if launch.case in ids]
        problems = run.stored.problems if not views else []
        views.append(View(StoredRun(run.path, own, launches, problems)))
    return views
