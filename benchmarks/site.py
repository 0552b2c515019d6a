"""Time and size of a site over many stored runs, against their bounds; the runs are generated.

    python -m benchmarks.site [--runs 2000] [--cases 50] [--keep DIR]

* The first build reads every run.
* A build after one more run reads that one only, and writes what it changes: the bound of the site.
* A build without news.
* The largest page and chunk; opening the comparison of two runs in a browser (skipped without
  Chromium).

Exit code 1 if something is over its bound. Wall time counts, as a user waits for it; processor time
of the command and its children stands beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

from benchmarks.report import BACKENDS, BATCHES, CEILINGS, command_seconds, models
from cspbench.store.lines import encode_line
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE
from tests.conftest import find_browser
from tests.report import runs

BUILD_SECONDS, PAGE_MB, COMPARE_SECONDS = 60.0, 1.0, 1.0
LAUNCHES, SAMPLES = 3, 50
#: Every so many runs a library and the level of some cases change.
UPGRADE = 400
START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def cases_of(count: int) -> list[str]:
    """Ids of so many cases: networks on four backends with two batches."""
    places = [f"{backend}/b{batch}/t1" for backend in BACKENDS for batch in BATCHES]
    every = (f"{model}/{place}" for model in models() for place in places)
    return [next(every) for _ in range(count)]


def add_run(folder: Path, number: int, cases: list[str]) -> Path:
    """Write run ``number`` of an archive; an hour lies between two runs."""
    noise = random.Random(number)
    created = (START + datetime.timedelta(hours=number)).isoformat()
    upgrades = number // UPGRADE
    environment = {"git_commit": hashlib.sha1(b"%d" % (number // 10)).hexdigest(),
                   "libraries": {"torch": f"2.{9 + upgrades}.0"}}  # fmt: skip
    name = f"{created[:10].replace('-', '')}-{number:06d}-nightly"
    meta_run = runs.write_run(folder, {case: [] for case in cases}, name, environment=environment,
                              suite={"name": "nightly"}, ceilings=CEILINGS)  # fmt: skip
    file = meta_run.path / RUN_FILE
    file.write_text(json.dumps({**json.loads(file.read_text()), "created": created}))
    lines = []
    for index, case in enumerate(cases):
        slower = 1.08 if index % 7 == 3 and upgrades % 2 else 1.0
        level = (5 + index) * slower * noise.lognormvariate(0, 0.01)
        for launch in range(LAUNCHES):
            median_ms = level * (1 + 0.004 * (launch - 1))
            samples = [median_ms * (0.98 + 0.04 * at / SAMPLES) for at in range(SAMPLES)]
            lines.append(encode_line(runs.time_launch(case, launch, samples)))
    (meta_run.path / LAUNCHES_FILE).write_bytes(b"".join(lines))
    return meta_run.path


def largest_mb(folder: Path, pattern: str) -> float:
    """Size of the largest file that matches, in 1e6 bytes."""
    return max(path.stat().st_size for path in folder.rglob(pattern)) / 1e6


def compare_seconds(site: Path, base: str, head: str) -> float | None:
    """From opening the comparison of two runs to its table; None without a browser."""
    from playwright.sync_api import sync_playwright

    browser_path = find_browser()
    if browser_path is None:
        return None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        page = browser.new_page()
        page.goto(f"{(site / 'compare.html').as_uri()}#base={base}&head={head}")
        page.locator("#case-table").wait_for()
        seconds = float(page.evaluate("performance.now()")) / 1000
        browser.close()
    return seconds


@contextlib.contextmanager
def folder_of(keep: Path | None) -> Iterator[Path]:
    """The folder of archive and site: a temporary one, or one that stays."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as text:
        yield Path(text)


def main() -> None:
    """Generate, build, print a table, compare with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--cases", type=int, default=50)
    parser.add_argument("--keep", type=Path, help="write archive and site here, and leave them")
    options = parser.parse_args()
    rows: list[tuple[str, float, float | None, float | None, str]] = []

    def add(name: str, value: float, processor: float | None, bound: float | None) -> None:
        verdict = "" if bound is None else "yes" if value <= bound else "NO"
        rows.append((name, value, processor, bound, verdict))

    with folder_of(options.keep) as folder:
        archive, site = folder / "results", folder / "site"
        cases = cases_of(options.cases)
        for number in range(options.runs):
            add_run(archive, number, cases)
        command = [sys.executable, "-m", "cspbench.cli.main", "site", str(archive)]
        command += ["--out", str(site)]
        for name, bound in (
            ("first build, s", None),
            ("build after one more run, s", BUILD_SECONDS),
            ("build without news, s", BUILD_SECONDS),
        ):
            if bound and not rows[1:]:
                add_run(archive, options.runs, cases)
            processor, wall = command_seconds(command)
            add(name, wall, processor, bound)
        add("largest page, MB", largest_mb(site, "*.html"), None, PAGE_MB)
        add("largest chunk, MB", largest_mb(site, "*.js"), None, PAGE_MB)
        add(
            "whole site, MB", sum(one.stat().st_size for one in site.rglob("*.*")) / 1e6, None, None
        )
        keys = sorted(page.stem for page in (site / "run").iterdir())
        if (shown := compare_seconds(site, keys[-2], keys[-1])) is not None:
            add("comparison in the browser, s", shown, None, COMPARE_SECONDS)
    print(tabulate(rows, ("what", "value", "processor", "bound", "within"), floatfmt=".2f"))
    sys.exit(any(row[-1] == "NO" for row in rows))


if __name__ == "__main__":
    main()
