"""State of the machine and what spoils comparison: facts, and warnings with their remedies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from cspbench.core.case import Case
from cspbench.core.statuses import FLAGS
from cspbench.figures.cases import number, plain
from cspbench.machine.comparability import Use, differences
from cspbench.machine.sensors.proc import FOREIGN_SHARE, STEAL_SHARE, Interference
from cspbench.report.numbers import size
from cspbench.report.section import SECTIONS, ReportContext, own_section
from cspbench.views.frames import Run

FEW_ROUNDS = 3


@dataclass(frozen=True)
class ComparisonWarning:
    """Something that spoils a comparison: ``warn`` moves numbers here, ``note`` may elsewhere."""

    level: Literal["warn", "note"]
    text: str
    remedy: str


def facts(run: Run) -> list[tuple[str, str]]:
    """What the machine is, as (name, text); unknown facts are left out."""
    env = run.environment
    cores = env.get("cores_usable")
    quota = env.get("cpu_quota")
    known: list[tuple[str, object]] = [
        ("Processor", env.get("cpu")),
        ("Cores", f"{cores} usable of {env.get('cores_logical')}"),
        ("Container limit", None if quota is None else f"{quota} processors"),
        ("Instruction sets", ", ".join(env.get("cpu_flags") or []) or None),
        ("Memory", size(env["memory_bytes"]) if env.get("memory_bytes") else None),
        ("Frequency governor", env.get("governor")),
        ("Virtual machine", {True: "yes", False: "no", None: None}[env.get("virtualised")]),
        ("Board", env.get("board")),
        ("GPU", env.get("gpu")),
        ("GPU's UUID", env.get("gpu_uuid")),
        ("NVIDIA driver", env.get("nvidia_driver")),
        ("System", env.get("os")),
        ("Kernel", f"{env.get('kernel')} {env.get('machine')}"),
        ("Python", env.get("python")),
        ("Suite's commit", env.get("git_commit")),
    ]
    return [(name, plain(value)) for name, value in known if value is not None]


def libraries(run: Run) -> list[tuple[str, str]]:
    """Libraries that can move a number, with their versions."""
    versions: Mapping[str, str] = run.environment.get("libraries") or {}
    return [(plain(name), plain(version)) for name, version in versions.items()]


def warnings_of(runs: Sequence[Run]) -> list[ComparisonWarning]:
    """What spoils comparison in these runs, worst first."""
    every = [*_between_runs(runs)]
    for run in runs:
        every += [*_machine(run), *_noise(run), *_flags(run), *_storage(run), *_device_room(run)]
    return sorted(dict.fromkeys(every), key=lambda warning: warning.level != "warn")


def _between_runs(runs: Sequence[Run]) -> Iterator[ComparisonWarning]:
    for run in runs[1:]:
        different = differences(runs[0].environment, run.environment, Use.REPORT)
        if different:
            facts = ", ".join(plain(fact.fact) for fact in different)
            yield ComparisonWarning(
                "warn",
                f"{plain(run.name)} and {plain(runs[0].name)} differ in {facts}: "
                "their latencies are not comparable.",
                "measure both sides in one run on one machine",
            )


def _machine(run: Run) -> Iterator[ComparisonWarning]:
    env = run.environment
    if env.get("virtualised"):
        yield ComparisonWarning(
            "note",
            "This is a virtual machine: neighbours share its caches, memory and clock, and most "
            "of that cannot be seen from inside.",
            "compare only what was measured in the same run; repeat on bare metal what matters",
        )
    governor = env.get("governor")
    if governor not in (None, "performance"):
        yield ComparisonWarning(
            "warn",
            f"The frequency governor is {plain(governor)}: the clock follows the load.",
            "sudo cpupower frequency-set -g performance",
        )
    if governor is None:
        yield ComparisonWarning(
            "note",
            "The system does not show the frequency governor, so it is unknown whether the clock "
            "was constant.",
            "set a fixed clock on the host where you can",
        )
    if env.get("cpu_quota") is not None:
        yield ComparisonWarning(
            "warn",
            f"The container may use {plain(env['cpu_quota'])} processors: beyond that it waits.",
            "measure with no more threads than that, or lift the limit",
        )
    if str(env.get("git_commit") or "").endswith("-dirty"):
        yield ComparisonWarning(
            "note",
            "The suite's repository had uncommitted changes.",
            "commit before a run that others should be able to repeat",
        )


def _interference(run: Run) -> list[Interference]:
    return [
        result.interference
        for record in run.records
        for result in record.times
        if result.interference
    ]


def _noise(run: Run) -> Iterator[ComparisonWarning]:
    readings = _interference(run)
    seconds = sum(reading.seconds for reading in readings)
    if not seconds:
        return
    steal = sum(reading.steal_s for reading in readings) / seconds
    foreign = sum(reading.foreign_cpu_s for reading in readings) / seconds
    if steal > STEAL_SHARE:
        yield ComparisonWarning(
            "warn",
            f"The hypervisor took {steal * 100:.0f} % of a processor (steal) in the sampling time.",
            "measure at a quieter time or on a dedicated machine",
        )
    if foreign > FOREIGN_SHARE:
        yield ComparisonWarning(
            "warn",
            f"Other processes used {foreign * 100:.0f} % of a processor in the sampling time.",
            "stop the other load",
        )
    load = median(reading.load_1m_before for reading in readings)
    cores = run.environment.get("cores_usable") or 1
    if load > cores:
        yield ComparisonWarning(
            "warn",
            f"The load average was {number(load)} on {cores} processors.",
            "stop the other load",
        )


def _flags(run: Run) -> Iterator[ComparisonWarning]:
    counts = Counter(flag for flags in run.cases["flags"] for flag in flags)
    measured = sum(bool(record.good) for record in run.records)
    for name, flag in FLAGS.items():
        if counts[name]:
            yield ComparisonWarning(
                "warn",
                f"{counts[name]} of {measured} measured cases are flagged {name}: {flag.meaning}.",
                flag.remedy,
            )


def _device_room(run: Run) -> Iterator[ComparisonWarning]:
    if any(launch.device_room == "unknown" for launch in run.stored.launches):
        yield ComparisonWarning(
            "note",
            "The driver did not tell the free memory of the device: its cases shared blocks "
            "without an estimate of what fits there.",
            "if a launch ended as oom on a card, install nvidia-ml-py; a Jetson board shares the "
            "machine's memory, which is watched",
        )


def _storage(run: Run) -> Iterator[ComparisonWarning]:
    for problem in run.stored.problems:
        yield ComparisonWarning(
            "warn", f"{plain(problem)}.", "resume the run: cspbench run --resume"
        )
    rounds = run.stored.meta["suite"]["measure"]["rounds"]
    if enough := run.stored.meta.get("rounds_in_budget"):
        yield ComparisonWarning(
            "warn",
            "The suite's time budget was spent before every case had its "
            f"{rounds} undisturbed launches; each has at least {enough}.",
            f"measure the rest: cspbench run --resume {plain(run.stored.path)}",
        )
    if rounds < FEW_ROUNDS:
        yield ComparisonWarning(
            "warn",
            f"The suite asks for {rounds} launches a case: intervals between launches mean little.",
            "raise measure.rounds to 5",
        )


def engines(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """What really ran behind each backend, as it described itself: (backend, facts)."""
    described: dict[tuple[str, str], None] = {}
    for run in runs:
        for record in run.records:
            for result in record.times[:1]:
                facts = result.backend.items()
                text = ", ".join(f"{plain(key)} {plain(value)}" for key, value in facts)
                described[(plain(Case.parse(record.case).backend), text)] = None
    return list(described)


def _view(run: Run) -> dict[str, Any]:
    meta = run.stored.meta
    measure = meta["suite"]["measure"]
    settings = [(plain(name).replace("_", " "), plain(value)) for name, value in measure.items()]
    return {
        "name": plain(run.name),
        "facts": facts(run),
        "libraries": libraries(run),
        "settings": [
            ("suite", plain(meta["suite"]["path"] or meta["suite"]["name"])),
            *settings,
            *((f"{backend} ran", text) for backend, text in engines([run])),
        ],
    }


def data(context: ReportContext) -> Mapping[str, Any]:
    """Warnings of all runs, and what the machine of each is."""
    runs = context.runs
    return {"warnings": warnings_of(runs), "machines": [_view(run) for run in runs]}


SECTIONS.add(
    own_section(__file__, 38, "The machine, and what spoils comparison", data, title="Machine")
)
