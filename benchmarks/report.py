"""Reports and frames of large runs, against their bounds; runs are generated.

    python -m benchmarks.report [--cases 1000] [--launches 10000] [--profile FILE]

* `cspbench report` of 1,000 cases of 3 launches: the whole command, and the size of its file.
* The same in a browser: opening the page, and one filter of its table (skipped without Chromium).
* 10,000 launches of 200 samples as frames: reading, checking, `cases`, `launches`, `samples`;
  without the import of pandas.

Each is done at a quarter, a half and the whole, for growth. Processor time counts, because others
may use the machine; wall time stands beside it. Exit code 1 if something is over its bound.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from tabulate import tabulate

from cspbench.report import write_report
from cspbench.views.frames import Run, load
from tests.conftest import find_browser
from tests.report import runs

REPORT_SECONDS, REPORT_MB = 10.0, 20.0
FRAMES_SECONDS = 2.0
#: A change that a person does not notice (Nielsen's 0.1 s).
FILTER_SECONDS = 0.1
#: Each in a page that was just opened.
FILTERS = 7
#: Twice the work may take this much more than twice the time.
GROWTH = 1.3
PARTS = (4, 2, 1)
BACKENDS = ("opencv-cpu", "torch-cpu", "onnxruntime", "openvino")
BATCHES = (1, 8)
LAYERS = 150
CEILINGS = {"cpu/t1": {"gflops": {"fp32": 80.0}, "bandwidth_gbs": {"triad": 10.0},
                       "cache_bandwidth_gbs": {"L2": 40.0}, "overhead_us": 1.0}}  # fmt: skip


def models() -> itertools.chain[str]:
    """Networks with published numbers first, then one γ after the other, without end."""
    published = ("csppeleenet-ref+prn@320", "cspdensenet-ref+prn@320", "yolov3-tiny@416",
                 "yolov3-tiny-prn@416", "peleenet@224", "csppeleenet@224")  # fmt: skip
    partial = (f"csppeleenet[gamma={number / 1000}]@224" for number in itertools.count(1))
    return itertools.chain(published, partial)


def generated(folder: Path, cases: int, launches: int, samples: int) -> Run:
    """A run of so many cases; one in fifty crashed, one in fifty was disturbed."""
    launches_of: dict[str, Any] = {}
    analyses: dict[str, Any] = {}
    places = [(backend, batch) for backend in BACKENDS for batch in BATCHES]
    for index, model in enumerate(itertools.islice(models(), -(-cases // len(places)))):
        macs = [1_000_000 + 7_919 * (index * LAYERS + layer) % 900_000 for layer in range(LAYERS)]
        analyses[model] = runs.analysis(model, macs, in_stage=20)
        for place, (backend, batch) in enumerate(places):
            number = index * len(places) + place
            if number == cases:
                break
            case = f"{model}/{backend}/b{batch}/t1"
            median_ms = batch * (5 + place + index % 40)
            launches_of[case] = runs.good(case, median_ms, launches, samples)
            if number % 50 == 3:
                launches_of[case] = [
                    runs.bad_launch(case, "crashed", "ended by SIGSEGV", log="x" * 500)
                ]
            if number % 50 == 7:
                launches_of[case] = [{**one, "flags": ["contended"]} for one in launches_of[case]]
    return runs.write_run(
        folder, launches_of, f"generated-{cases}", analyses, rounds=launches, ceilings=CEILINGS
    )


def command_seconds(command: list[str]) -> tuple[float, float]:
    """Processor and wall time of a process and its children."""
    start, before = time.perf_counter(), os.times()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    return spent, time.perf_counter() - start


def frames_seconds(path: Path) -> tuple[float, float]:
    """Processor and wall time of reading a run into its frames."""
    gc.collect()
    start, processor = time.perf_counter(), time.process_time()
    run = load(path)
    lengths = (len(run.cases), len(run.launches), len(run.samples))
    spent = time.process_time() - processor, time.perf_counter() - start
    assert all(lengths)
    return spent


def filter_seconds(page_file: Path) -> float | None:
    """Median time from a choice of the backend to the painted table; None without a browser."""
    from playwright.sync_api import sync_playwright

    browser_path = find_browser()
    if browser_path is None:
        return None
    choose = """() => new Promise(done => {
        const select = document.querySelector('select[data-key="backend"]');
        const start = performance.now();
        select.selectedIndex = 1;
        select.dispatchEvent(new Event('change', {bubbles: true}));
        requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
    })"""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        taken = []
        for _ in range(FILTERS):
            page.goto(page_file.as_uri())
            taken.append(float(page.evaluate(choose)) / 1000)
        browser.close()
    return median(taken)


def grows_linearly(seconds: list[float]) -> bool:
    """True if no step, which doubles the work, more than doubles the time by GROWTH."""
    return all(after <= 2 * GROWTH * before for before, after in itertools.pairwise(seconds))


def main() -> None:
    """Generate, measure, print a table, compare with the bounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--launches", type=int, default=10_000)
    parser.add_argument("--profile", type=Path, help="profile one report into this file, and stop")
    options = parser.parse_args()
    rows: list[tuple[str, float, float | None, float | None, str]] = []

    def add(name: str, value: float, wall: float | None, bound: float | None) -> None:
        verdict = "" if bound is None else "yes" if value <= bound else "NO"
        rows.append((name, value, wall, bound, verdict))

    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        if options.profile:
            run = generated(folder, options.cases, 3, 50)
            profiler = cProfile.Profile()
            profiler.runcall(write_report, [load(run.path)], folder / "page.html")
            profiler.dump_stats(options.profile)
            return
        report_times = []
        page = folder / "page.html"
        for part in PARTS:
            cases = options.cases // part
            run = generated(folder, cases, 3, 50)
            command = [sys.executable, "-m", "cspbench.cli.main", "report", str(run.path)]
            spent, wall = command_seconds([*command, "--out", str(page)])
            report_times.append(spent)
            add(f"report of {cases} cases, s", spent, wall, REPORT_SECONDS)
        add("  its file, MB", page.stat().st_size / 1e6, None, REPORT_MB)
        if (shown := filter_seconds(page)) is not None:
            add("  one filter in the browser, s", shown, None, FILTER_SECONDS)
        frame_times = []
        for part in PARTS:
            launches = options.launches // part
            run = generated(folder, launches // 5, 5, 200)
            spent, wall = frames_seconds(run.path)
            frame_times.append(spent)
            add(f"frames of {launches} launches, s", spent, wall, FRAMES_SECONDS)
    print(tabulate(rows, ("what", "processor", "wall", "bound", "within"), floatfmt=".2f"))
    linear = grows_linearly(report_times) and grows_linearly(frame_times)
    print(f"growth is {'linear' if linear else 'NOT linear'}")
    sys.exit(not linear or any(row[-1] == "NO" for row in rows))


if __name__ == "__main__":
    main()
