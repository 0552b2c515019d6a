"""``cspbench plan``: the expanded cases, which can run here, and how long they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cspbench.cli.fleet_options import fleet_of, insecure_option, scheduler_option
from cspbench.cli.measuring import suites_of
from cspbench.cli.model_arguments import model_options
from cspbench.cli.options import (
    emit,
    emit_text,
    only_option,
    results_option,
    set_option,
    table_options,
)
from cspbench.core.output import Styled, say

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cspbench.cli.model_arguments import ModelArguments
    from cspbench.runner.plan import Plan
    from cspbench.suite.suite import Suite


@click.command()
@click.argument("suites", nargs=-1, required=True, metavar="[MODEL|SUITE]...")
@model_options
@only_option
@set_option
@table_options
@scheduler_option
@insecure_option
@results_option
def command(
    suites: tuple[str, ...], only: tuple[str, ...], overrides: tuple[str, ...], form: str,
    out: Path | None, scheduler: str | None, insecure: bool, results: Path,
    arguments: ModelArguments,
) -> None:  # fmt: skip
    """Show the cases of MODELs and SUITEs, which this machine can run, and how long they take.

    An ONNX file that is named is loaded and run once by each backend, since only its loader tells
    which operators it has.

    With --scheduler it shows which board of the fleet each case goes to.
    """
    from cspbench.runner.plan import case_seconds, launch_seconds

    placements: list[Mapping[str, str]]
    if scheduler is not None:
        from cspbench.cli.fleet_run import boards_of
        from cspbench.cli.fleet_run import plans as fleet_plans

        with fleet_of(scheduler, None, insecure=insecure) as client:
            fleets = fleet_plans(suites, boards_of(client), only, overrides, arguments)
        plans, placements = [fleet.plan for fleet in fleets], [fleet.placements for fleet in fleets]
    else:
        plans = [_planned(suite, only) for suite in suites_of(suites, overrides, arguments)]
        placements = [{} for _ in plans]
    history = launch_seconds(results)
    seconds = [
        {case.id: case_seconds(case.id, plan.suite.measure, history) for case in plan.runnable}
        for plan in plans
    ]
    parts = list(zip(plans, seconds, placements, strict=True))
    if form == "table" and out is None:
        for plan, each, places in parts:
            _print(plan, each, places, known=len(set(each) & set(history)))
        return
    objects = [_as_json(*part) for part in parts]
    if form == "json":
        emit_text("\n".join(map(json.dumps, objects)), out)
    else:
        _emit_rows(objects, form, out)


def _planned(suite: Suite, only: Sequence[str]) -> Plan:
    """The plan of a suite; of a model's own, which has no file, as the loaders say."""
    from cspbench import api
    from cspbench.runner.probe import probed

    plan = api.plan(suite, only=only)
    return plan if suite.path else probed(plan)


def _emit_rows(objects: list[dict[str, Any]], form: str, out: Path | None) -> None:
    """One row a case of every suite."""
    import pandas as pd

    rows = [{"suite": plan["suite"], **case} for plan in objects for case in plan["cases"]]
    emit(pd.DataFrame(rows), form, out, {"estimated_seconds": ".0f"})


def _as_json(
    plan: Plan, seconds: dict[str, float], placements: Mapping[str, str]
) -> dict[str, Any]:
    return {
        "suite": plan.suite.name,
        "notes": list(plan.suite.notes),
        "estimated_seconds": round(sum(seconds.values()), 1),
        "cases": [
            {
                "id": planned.id,
                "status": planned.status.value if planned.status else "ready",
                "reason": planned.reason,
                "estimated_seconds": seconds.get(planned.id),
                **({"board": placements.get(planned.id)} if placements else {}),
            }
            for planned in plan.cases
        ],
    }


def _print(
    plan: Plan, seconds: dict[str, float], placements: Mapping[str, str], known: int
) -> None:
    """One row a case; reasons, which repeat, as numbered notes below.

    Without rich, whose import and rendering would take a fifth of this command's time.
    """
    reasons = list(dict.fromkeys(planned.reason for planned in plan.cases if planned.reason))
    rows = [("case", "board" if placements else "here", "about")]
    for planned in plan.cases:
        if planned.status is None:
            place = placements.get(planned.id, "ready")
            rows.append((planned.id, place, f"{seconds[planned.id]:.0f} s"))
        else:
            note = f"{planned.status} ({reasons.index(planned.reason) + 1})"
            rows.append((planned.id, note, "-"))
    first, second, third = (max(map(len, column)) for column in zip(*rows, strict=True))
    for number, (case, here, about) in enumerate(rows):
        line = f"{case:{first}}  {here:{second}}  {about:>{third}}"
        say(Styled(line, "bold" if number == 0 else "dim" if about == "-" else ""))
    for number, reason in enumerate(reasons, start=1):
        say(f"({number}) {reason}")
    for text in plan.suite.notes:
        say(f"note: {text}")
    earlier = f"from earlier runs for {known} of {len(seconds)} cases, else " if known else ""
    where, longest = "here", sum(seconds.values())
    if placements:  # boards work side by side: the busiest decides
        names = sorted(set(placements.values()))
        where = f"on {len(names)} boards" if len(names) > 1 else f"on {names[0]}"
        longest = max(
            sum(seconds[case] for case in placements if placements[case] == name) for name in names
        )
    measure = plan.suite.measure
    budget = measure.budget_seconds
    if budget is not None:
        spent = f", budget {budget / 60:.1f} min"
    else:
        scattering = measure.together != 1 and len(plan.runnable) > 1
        spent = ", more where ratios scatter" if scattering else ""
    say(
        f"{plan.suite.name}: {len(plan.runnable)} of {len(plan.cases)} cases can run {where}, "
        f"about {longest / 60:.1f} min for {measure.rounds} rounds{spent} "
        f"({earlier}from the time bounds)"
    )
