"""Raw data: the case table as CSV, what the page shows as JSON, and how to repeat the runs."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cspbench.figures.cases import plain, shorten
from cspbench.report.rows import run_command
from cspbench.report.section import SECTIONS, ReportContext, own_section

if TYPE_CHECKING:
    from cspbench.views.frames import Run

#: So many cases and libraries are listed with their digests; the run holds all.
MOST_LISTED = 60
#: Longest digest that is shown; a run from elsewhere may have a longer text in its place.
MOST_CHARACTERS = 64


def csv_address(runs: Sequence[Run]) -> str:
    """The case tables of all runs as a ``data:`` address, for a download without a script."""
    import pandas as pd

    from cspbench.views.formats import render as render_frame

    frames = [run.cases.assign(run=run.name) for run in runs]
    text = render_frame(pd.concat(frames, ignore_index=True), "csv")
    encoded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return f"data:text/csv;charset=utf-8;base64,{encoded}"


@dataclass(frozen=True)
class Repeat:
    """How one run is measured again and held against it; texts may be empty.

    ``libraries`` are name, version and digest of the files, ``cases`` ids with the digests of what
    defines them: the first MOST_LISTED. ``more`` cases are not listed.
    """

    run: str
    commit: str
    install: str
    command: str
    compare: str
    digest: str
    seed: str
    libraries: list[tuple[str, str, str]]
    cases: list[tuple[str, str]]
    more: int


def repeats(runs: Sequence[Run]) -> list[Repeat]:
    """One a run that a command can measure again."""
    commands = [(run, run_command(run)) for run in runs]
    return [_repeat(run, command) for run, command in commands if command]


def _repeat(run: Run, command: str) -> Repeat:
    suite, environment = run.stored.meta["suite"], run.environment
    cases = run.stored.meta["cases"]
    digests = list((environment.get("library_digests") or {}).items())
    versions = environment.get("libraries") or {}
    pins = [
        f"{name}=={str(version).partition('+')[0]}"
        for name, version in versions.items()
        if name != "cspbench"
    ]
    return Repeat(
        run=plain(run.name),
        commit=plain(environment.get("git_commit") or ""),
        install=plain(shlex.join(["pip", "install", *pins])) if pins else "",
        command=command,
        compare=plain(shlex.join(["cspbench", "compare", run.name, "latest", "--within", "5%"])),
        digest=plain(suite.get("digest") or ""),
        seed=plain(suite["measure"].get("seed", "")),
        libraries=[
            (plain(name), plain(versions.get(name, "")), shorten(plain(digest), MOST_CHARACTERS))
            for name, digest in digests[:MOST_LISTED]
        ],
        cases=[
            (plain(case["id"]), shorten(plain(case["key"]), MOST_CHARACTERS))
            for case in cases[:MOST_LISTED]
        ],
        more=max(len(cases) - MOST_LISTED, 0),
    )


def data(context: ReportContext) -> Mapping[str, Any]:
    """Names of the runs, and the table as an address that needs no script."""
    return {
        "names": [plain(run.name) for run in context.runs],
        "file_stem": plain(context.stem),
        "csv": csv_address(context.stored),
        "repeats": repeats(context.stored),
    }


SECTIONS.add(own_section(__file__, 140, "Raw data", data))
