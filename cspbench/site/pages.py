"""The pages of a site, each rendered only if what it shows has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

import cspbench
from cspbench.machine.comparability import MEMORY_TOLERANCE, TABLE, Severity, Use
from cspbench.report.data import to_script
from cspbench.report.html import TEMPLATES as SHARED
from cspbench.report.html import content_security_policy, read_style, templates
from cspbench.report.numbers import fixed, short
from cspbench.report.sections.machine import facts, libraries
from cspbench.site import rows
from cspbench.site.changes import ALLOWANCE
from cspbench.site.chart import history_chart
from cspbench.site.folder import SiteFolder
from cspbench.site.histories import Machine, Series, by_case, machine_keys
from cspbench.site.summary import LOAD, CaseSummary, RunSummary
from cspbench.store.rundir import StoredRun
from cspbench.views.compare import has_ruptures
from cspbench.views.conditions import CLOCK_APART, LOAD_APART
from cspbench.views.frames import Run

TEMPLATES = Path(__file__).with_name("templates")
#: Rows of a table of a page, which keep it far below a megabyte.
PAGE_ROWS = 500
#: Runs and new levels of the first page.
NEWEST_RUNS, NEWEST_LEVELS = 25, 20
#: Runs of a chunk that lists them.
CHUNK_RUNS = 4000


@dataclass(frozen=True)
class Archive:
    """All that the pages show; runs are in the order of time, ``unread`` says what is left out."""

    runs: Sequence[RunSummary]
    machines: Mapping[str, Machine]
    before: Mapping[str, RunSummary]
    unread: Sequence[str]


class Pages:
    """Renders the pages of an archive into a folder."""

    def __init__(self, folder: SiteFolder, archive: Archive, watch_seconds: float | None) -> None:
        self._folder, self._archive = folder, archive
        self._css = read_style([TEMPLATES / "site.css"])
        names = {"version": cspbench.__version__, "watch": watch_seconds, "allowance": ALLOWANCE}
        self._templates = templates(names, TEMPLATES)
        shared = [SHARED / name for name in ("head.html", "macros.html", "shared.js")]
        files = sorted([*TEMPLATES.iterdir(), *shared])
        texts = [file.read_text(encoding="utf-8") for file in files]
        look = "".join([self._css, *texts]).encode()
        common = (SHARED / "shared.js").read_text(encoding="utf-8")
        of_site, of_compare = (
            (TEMPLATES / name).read_text(encoding="utf-8") for name in ("site.js", "compare.js")
        )
        self._frame = self._frame_of(common + of_site)
        self._compare_frame = self._frame_of(common + of_site + of_compare)
        self._look = [hashlib.sha256(look).hexdigest(), *map(str, names.values())]

    def _frame_of(self, script: str) -> dict[str, Any]:
        """Style, script and policy of a page."""
        return {
            "css": Markup(self._css),  # noqa: S704 - our own file
            "script": Markup(script),  # noqa: S704 - our own file
            "policy": content_security_policy(script, self._css, chunks=True),
        }

    def write(self) -> None:
        """Write what has changed."""
        archive = self._archive
        listed = [rows.run_row(run, dict(archive.machines)) for run in reversed(archive.runs)]
        everything = [series for machine in archive.machines.values() for series in machine.series]
        self._index(listed, everything)
        self._paged("runs", listed)
        series = sorted(everything, key=lambda one: (one.case, one.machine.name))
        self._paged("cases", [rows.series_row(one) for one in series])
        self._compare()
        for machine in archive.machines.values():
            self._machine(machine)
        for case, of_case in by_case(archive.machines.values()).items():
            self._case(case, of_case)
        for run in archive.runs:
            self._run(run, archive.before.get(run.key))

    def _page(self, file: str, template: str, inputs: object, **content: Any) -> None:
        def render() -> str:
            frame = self._compare_frame if template == "compare" else self._frame
            return self._templates.get_template(f"{template}.html").render(
                **frame,
                root="../" * file.count("/"),
                here=file.partition("/")[0].partition(".")[0],
                **content,
            )

        self._folder.page(file, [self._look, inputs], render)

    def _index(self, listed: Sequence[rows.Row], everything: Sequence[Series]) -> None:
        archive = self._archive
        levels = sorted(
            (rows.level_row(one, at) for one in everything for at in range(len(one.changes))),
            key=lambda row: str(row["created"]),
            reverse=True,
        )
        created = [run.created[:10] for run in archive.runs]
        machines = sorted(
            archive.machines.values(),
            key=lambda one: one.runs[-1].created if one.runs else "",
            reverse=True,
        )
        content = {
            "runs": listed[:NEWEST_RUNS],
            "run_count": len(archive.runs),
            "case_count": len({one.case for one in everything}),
            "days": " to ".join(dict.fromkeys([created[0], created[-1]])) if created else "",
            "levels": levels[:NEWEST_LEVELS],
            "level_count": len(levels),
            "has_ruptures": has_ruptures(),
            "machines": [self._machine_row(one) for one in machines[:PAGE_ROWS]],
            "machine_count": len(machines),
            "unread": list(archive.unread),
        }
        self._page("index.html", "index", content, **content)

    @staticmethod
    def _machine_row(machine: Machine) -> rows.Row:
        newest = machine.runs[-1] if machine.runs else None
        rates = next((rates for rates, _ in machine.ceilings.values()), {})
        return {
            "key": machine.key,
            "name": machine.name,
            "runs": len(machine.runs),
            "cases": len(machine.series),
            "newest": rows.day_and_time(newest.created) if newest else "",
            "gflops": short(rates.get("gflops", {}).get("fp32")),
            "gbs": short(rates.get("bandwidth_gbs", {}).get("triad")),
        }

    def _paged(self, name: str, listed: Sequence[rows.Row]) -> None:
        """A long table over several pages: ``runs.html``, ``runs-2.html``, and so on."""
        parts = [listed[at : at + PAGE_ROWS] for at in range(0, len(listed), PAGE_ROWS)] or [[]]
        files = [f"{name}{f'-{number}' if number > 1 else ''}.html"
                 for number in range(1, len(parts) + 1)]  # fmt: skip
        for number, (file, part) in enumerate(zip(files, parts, strict=True)):
            content = {"rows": part, "files": files, "number": number, "count": len(listed)}
            self._page(file, name, content, **content)

    def _compare(self) -> None:
        archive = self._archive
        listed = [[run.key, run.name, run.created, run.suite, self._where(run)]
                  for run in reversed(archive.runs)]  # fmt: skip
        parts = max(1, -(-len(listed) // CHUNK_RUNS))
        for part in range(parts):
            self._folder.chunk(f"list/{part}", listed[part * CHUNK_RUNS : (part + 1) * CHUNK_RUNS])
        ignored = [
            rule.fact
            for rule in TABLE
            if rule.severity(Use.COMPARE) is Severity.IGNORE and rule.fact != "library_digests"
        ]
        settings = {
            "columns": CaseSummary._fields,
            "parts": parts,
            "ignored": ignored,
            "tolerance": {"memory_bytes": MEMORY_TOLERANCE},
            "load": {"name": LOAD, "apart": LOAD_APART},
            "clock_apart": CLOCK_APART,
            "allowance": ALLOWANCE,
        }
        newest = [
            (self._archive.before[run.key], run)
            for run in reversed(archive.runs)
            if run.key in archive.before
        ][:NEWEST_RUNS]
        pairs = [(base.key, base.name, head.key, head.name) for base, head in newest]
        text = Markup(to_script(settings))  # noqa: S704 - escaped there
        self._page("compare.html", "compare", [settings, pairs], settings=text, pairs=pairs)

    def _where(self, run: RunSummary) -> str:
        """Names of a run's machines."""
        machines = self._archive.machines
        return ", ".join(machines[key].name for key in machine_keys(run))[:200]

    def _machine(self, machine: Machine) -> None:
        run = Run(StoredRun(Path(machine.key), {"environment": machine.environment, "run": ""}, []))
        content = {
            "name": machine.name,
            "facts": facts(run),
            "libraries": libraries(run),
            "ceilings": [
                _ceilings_row(device, rates, measured)
                for device, (rates, measured) in sorted(machine.ceilings.items())
            ],
            "runs": [rows.run_row(one, dict(self._archive.machines))
                     for one in reversed(machine.runs[-NEWEST_RUNS:])],
            "run_count": len(machine.runs),
            "series": [rows.series_row(one) for one in machine.series[:PAGE_ROWS]],
            "case_count": len(machine.series),
        }  # fmt: skip
        self._page(f"machine/{machine.key}.html", "machine", content, **content)

    def _case(self, case: str, of_case: Sequence[Series]) -> None:
        key = of_case[0].newest.key
        inputs = [[one.machine.name, one.rows, [run.key for run in one.runs]] for one in of_case]
        share = max(1, PAGE_ROWS // len(of_case))

        def part(series: Series) -> dict[str, Any]:
            count = len(series.rows)
            first = max(0, count - share)
            return {
                "machine": series.machine.name,
                "machine_key": series.machine.key,
                "chart": history_chart(series),
                "count": count,
                "levels": [rows.level_row(series, at) for at in range(len(series.changes))][::-1],
                "rows": [rows.history_row(series, at) for at in reversed(range(first, count))],
                "newest": rows.series_row(series),
                "command": series.newest.command,
            }  # fmt: skip

        self._page(f"case/{key}.html", "case", inputs, case=case, key=key,
                   parts=_Lazy(of_case, part))  # fmt: skip
        self._folder.chunk(f"case/{key}", {one.machine.key: _points(one) for one in of_case})

    def _run(self, run: RunSummary, before: RunSummary | None) -> None:
        machines = dict(self._archive.machines)
        inputs = [run.version, before and [before.key, before.version], self._where(run)]

        def table(run: RunSummary) -> list[rows.Row]:
            old = {case.case: case for case in before.cases} if before else {}
            return [rows.case_row(case, old.get(case.case)) for case in run.cases[:PAGE_ROWS]]

        self._page(f"run/{run.key}.html", "run", inputs, run=run, before=before,
                   head=rows.run_row(run, machines), tables=_Lazy([run], table))  # fmt: skip


class _Lazy:
    """Values that are made when a template asks for them: most pages are not rendered."""

    def __init__(self, items: Sequence[Any], make: Any) -> None:
        self._items, self._make = items, make

    def __iter__(self) -> Any:
        return map(self._make, self._items)


def _points(series: Series) -> dict[str, Any]:
    """The newest latencies of a series with their runs, as the script draws them."""
    pairs = zip(series.rows, series.runs, strict=True)
    points = [[row["created"][:16], row["latency_ms"], run.key] for row, run in pairs]
    return {"name": series.machine.name, "rows": points[-PAGE_ROWS:]}


def _ceilings_row(device: str, rates: Mapping[str, Any], run: RunSummary) -> rows.Row:
    def texts(name: str, digits: int = 1) -> str:
        values = rates.get(name, {}).items()
        return ", ".join(f"{kind} {fixed(value, digits)}" for kind, value in values) or "–"

    return {
        "device": device,
        "gflops": texts("gflops"),
        "bandwidth": texts("bandwidth_gbs"),
        "cache": texts("cache_bandwidth_gbs"),
        "overhead": fixed(rates.get("overhead_us"), 2),
        "run": run.name,
        "run_key": run.key,
    }
