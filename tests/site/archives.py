"""Archives of small runs, written as cspbench writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.report.runs import ENVIRONMENT, analysis, profile_launch, time_launch, write_run

PLAIN, SPLIT = (f"{name}@224/opencv-cpu/b1/t1" for name in ("peleenet", "csppeleenet"))
LOST = "peleenet@224/torch-cuda/b1/t1"
CEILINGS = {"cpu/t1": {"gflops": {"fp32": 80.0}, "bandwidth_gbs": {"triad": 4.0},
                       "cache_bandwidth_gbs": {"L2": 20.0}, "overhead_us": 1.0}}  # fmt: skip
#: The level of PLAIN moves with the sixth run, when torch is upgraded.
LEVELS = (10.0, 10.1, 9.9, 10.0, 10.05, 12.0, 12.1, 11.9, 12.0)
UPGRADED = 5


def add_run(
    results: Path,
    number: int,
    times_ms: Mapping[str, float],
    *,
    suite: str = "nightly",
    environment: Mapping[str, Any] | None = None,
    half: float = 0.005,
    more: Sequence[dict[str, Any]] = (),
    changes: Mapping[str, Any] | None = None,
) -> Path:
    """A run of day ``number``: three launches of each case that lie ``half`` apart.

    ``changes`` replace fields of the launches.
    """
    cases: dict[str, Any] = {
        case: [time_launch(case, launch, [ms * (1 + half * (launch - 1))] * 20, **(changes or {}))
               for launch in range(3)]
        for case, ms in times_ms.items()
    }  # fmt: skip
    for launch in more:
        cases[launch["case"]].append(launch)
    cases[LOST] = ("unavailable", "no NVIDIA driver is loaded")
    run = write_run(
        results,
        cases,
        f"202601{number:02d}-{suite}",
        {"peleenet@224": analysis("peleenet@224", [100, 400, 200, 100])},
        environment=environment,
        suite={"name": suite},
        ceilings=CEILINGS,
    )
    file = run.path / "run.json"
    created = f"2026-01-{number:02d}T03:00:00+00:00"
    file.write_text(json.dumps({**json.loads(file.read_text()), "created": created}))
    return run.path


def write_archive(results: Path) -> None:
    """Nine runs of a suite on one machine, the level of a case moving; one run of another."""
    for number, ms in enumerate(LEVELS):
        torch = "2.10.0" if number >= UPGRADED else "2.9.0"
        environment = {"libraries": {"torch": torch}, "git_commit": f"{number + 1:x}" * 40}
        add_run(results, number + 1, {PLAIN: ms, SPLIT: 8.0}, environment=environment,
                more=[profile_launch(PLAIN)])  # fmt: skip
    add_run(results, 20, {PLAIN: 30.0}, suite="other", environment={**ENVIRONMENT, "host": "attic"})
