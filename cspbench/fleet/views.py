"""A run of a fleet as one run a board: what stands together was measured on one machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cspbench.core.case import Case

if TYPE_CHECKING:
    from cspbench.views.frames import Run


def by_board(run: Run) -> list[Run]:
    """One view a board, each with its own environment, cases, launches and ceilings.

    Cases of one label may sit on several boards; each is in the view of the board that it sits on,
    or in one of its label where no board could run it. A run of one machine, or of a fleet of one
    without labels, is its own and only view.
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
        }
        launches = [launch for launch in run.stored.launches if launch.case in ids]
        problems = run.stored.problems if not views else []
        views.append(View(StoredRun(run.path, own, launches, problems)))
    return views
