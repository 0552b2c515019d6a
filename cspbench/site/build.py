"""Builds a site: reads the runs that are new, then writes the pages that they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from cspbench.core.garbage import without_collections
from cspbench.errors import InputError
from cspbench.site.archive import Source, sources
from cspbench.site.folder import SiteFolder
from cspbench.site.histories import machines_of, predecessors
from cspbench.site.pages import Archive, Pages
from cspbench.site.summary import CaseSummary, Json, RunSummary, summarise

#: From so many new runs on, several processes read them.
MANY = 64
#: Cases of one chunk: the rest of a run's is in chunks of their own.
CHUNK_CASES = 2500


@dataclass(frozen=True)
class Site:
    """What a build did: runs of the site, runs that were read, files that changed, and problems."""

    index: Path
    runs: int
    read: int
    changed: int
    unread: list[str]


def write_site(
    results: Path, out: Path, *, watch_seconds: float | None = None, processes: int = 1
) -> Site:
    """Write the site over the runs below ``results`` to the folder ``out``.

    Only runs that changed since the last build are read, only pages that changed are written.

    Args:
        results: directory that holds runs, however deep.
        out: folder of the site, which is made; an earlier site in it is brought up to date.
        watch_seconds: how often an open page looks for news; never by default.
        processes: how many read many new runs; more than one starts the main module anew in each.

    Raises:
        InputError: there is no such directory, or the folder cannot be written.
    """
    if not results.is_dir():
        raise InputError(f"there is no directory {results}: name the one that holds the runs")
    with without_collections():
        return _build(results, SiteFolder(out), watch_seconds, processes)


def follow(
    build: Callable[[], Site],
    every_seconds: float,
    report: Callable[[Site], object],
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Build again and again, until interrupted; ``report`` gets each build that changed a file."""
    while True:
        site = build()
        if site.changed:
            report(site)
        pause(every_seconds)


def _build(results: Path, folder: SiteFolder, watch_seconds: float | None, processes: int) -> Site:
    summaries: list[RunSummary] = []
    new: list[Source] = []
    for source in sources(results):
        known = _known(folder, source)
        if known is None:
            new.append(source)
        else:
            summaries.append(known)
    unread = []
    for source, answer in zip(new, _read(new, processes), strict=True):
        if isinstance(answer, str):
            unread.append(f"{source.name}: {answer}")
            continue
        summary, layers = answer
        _keep(folder, summary, layers)
        summaries.append(summary)
    summaries.sort(key=lambda run: (run.created, run.key))
    archive = Archive(summaries, machines_of(summaries), predecessors(summaries), unread)
    Pages(folder, archive, watch_seconds).write()
    if watch_seconds is not None:
        folder.chunk("stamp", [[run.key, run.version] for run in summaries][-200:])
    changed = folder.finish()
    return Site(folder.out / "index.html", len(summaries), len(new), changed, unread)


def _known(folder: SiteFolder, source: Source) -> RunSummary | None:
    """The summary of an earlier build, if the run has not changed since; its chunks stay."""
    head = folder.read_chunk(f"run/{source.key}")
    if not isinstance(head, dict) or head.get("version") != list(source.version):
        return None
    parts = int(head.pop("parts"))
    names = [f"run/{source.key}", *(f"run/{source.key}.{at}" for at in range(1, parts))]
    names += [f"layers/{source.key}"] * bool(head["has_layers"])
    if not all(folder.keep_chunk(name) for name in names):
        return None
    cases = head.pop("cases")
    for name in names[1:parts]:
        cases += folder.read_chunk(name) or []
    try:
        return RunSummary(**head, cases=[CaseSummary(*case) for case in cases])
    except TypeError:  # it was written by another cspbench
        return None


def _keep(folder: SiteFolder, summary: RunSummary, layers: Json) -> None:
    """Write a run's summary as chunks."""
    content = {name: value for name, value in vars(summary).items() if name in _FIELDS}
    cases = [list(case) for case in summary.cases]
    parts = [cases[at : at + CHUNK_CASES] for at in range(0, len(cases), CHUNK_CASES)] or [[]]
    head = {**content, "parts": len(parts), "cases": parts[0]}
    folder.chunk(f"run/{summary.key}", head, summary.version)
    for at, part in enumerate(parts[1:], start=1):
        folder.chunk(f"run/{summary.key}.{at}", part, summary.version)
    if layers:
        folder.chunk(f"layers/{summary.key}", layers, summary.version)


_FIELDS = frozenset(RunSummary.__dataclass_fields__)


def _read(new: Sequence[Source], processes: int) -> Iterable[tuple[RunSummary, Json] | str]:
    """Summaries of new runs in their order, or why one cannot be read."""
    if processes == 1 or len(new) < MANY:
        yield from map(_attempt, new)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_attempt, new, chunksize=8)


def _attempt(source: Source) -> tuple[RunSummary, Json] | str:
    try:
        return summarise(source)
    except InputError as error:
        return str(error)
