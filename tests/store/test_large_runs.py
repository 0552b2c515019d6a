"""Stored runs below 10 MB that would become large: each costs little, or is refused."""

import json
import sys
import zlib
from pathlib import Path

import pytest

from cspbench.errors import InputError
from cspbench.store import lines, rundir
from cspbench.store.rundir import LAUNCHES_FILE, RUN_FILE, RunDirectory, read_run
from tests.spent import MOST_MB, spent

CASE = "peleenet@224/opencv-cpu/b1/t1"
BYTES = 9_900_000
HERE = "HERE"
MEASURE = {"name": "s", "measure": {"rounds": 2}}


def meta(**parts: object) -> str:
    return json.dumps({"format": 2, "suite": MEASURE, "cases": [{"id": CASE}], **parts})


def filled(text: str, item: str, size: int = BYTES) -> str:
    """The text with items in place of HERE, up to ``size`` bytes; ``#`` is an item's number."""
    mark = f'"{HERE}": 1' if f'"{HERE}": 1' in text else f'"{HERE}"'
    count = (size - len(text)) // (len(item) + (6 if "#" in item else 1))
    return text.replace(mark, ",".join(item.replace("#", str(i)) for i in range(count)))


def launch(**parts: object) -> str:
    return json.dumps({
        "case": CASE, "job": "time", "number": 0, "session": "a", "status": "failed", **parts,
    })  # fmt: skip


def timing(samples: str) -> str:
    text = launch(status="ok", load_ns=1, first_ns=1, latencies_ns=[HERE])
    return text.replace("}", ',"warmup":{"count":1},"agreement":{"max_relative_error":0}}').replace(
        f'"{HERE}"', samples
    )


def layers() -> str:
    text = launch(job="layers", status="ok", layers={"method": "m", "entries": [HERE], "nodes": []})
    return filled(text, "[]", size=3 * (lines.MAX_LAUNCH_CONTAINERS - 10))


RUNS = {
    "lists": lambda: (filled(meta(x=[HERE]), "[]"), ""),
    "lists in facts": lambda: (filled(meta(environment={"x": [HERE]}), "[]"), ""),
    "notes": lambda: (filled(meta(suite={**MEASURE, "notes": [HERE]}), "1"), ""),
    "equal cases": lambda: (filled(meta(cases=[HERE]), json.dumps({"id": CASE})), ""),
    "cases": lambda: (
        filled(meta(cases=[HERE]), json.dumps({"id": CASE.replace("t1", "t9#")})), "",
    ),
    "boards": lambda: (filled(meta(fleet={"boards": {HERE: 1}}), '"#":{}'), ""),
    "analyses": lambda: (filled(meta(analyses={HERE: 1}), '"#":{}'), ""),
    "wrong totals": lambda: (
        filled(meta(analyses={"a": {"totals": {HERE: 1}}}), '"#":[]', 1_900_000), "",
    ),
    "ceilings": lambda: (filled(meta(ceilings={HERE: 1}), '"#":{}'), ""),
    "damaged lines": lambda: (meta(), "x\n" * (BYTES // 2)),
    "small launches": lambda: (meta(), [launch()] * (BYTES // len(launch()))),
    "samples": lambda: (meta(), [timing(",".join(["1"] * (BYTES // 2)))]),
    "wrong samples": lambda: (meta(), [timing(",".join(['""'] * (BYTES // 3)))]),
    "wrong layers": lambda: (meta(), [layers()] * (BYTES // len(layers()))),
}  # fmt: skip


def write(folder: Path, described: str, launches: str | list[str]) -> Path:
    folder.mkdir()
    (folder / RUN_FILE).write_text(described)
    if not isinstance(launches, str):
        launches = "".join(f"{zlib.crc32(one.encode()):08x} {one}\n" for one in launches)
    (folder / LAUNCHES_FILE).write_text(launches)
    return folder


#: One of each kind; the others are slow only because they are many.
FAST = ("lists", "boards", "samples", "wrong layers")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_a_run_costs_little_to_show(tmp_path, name):
    path = write(tmp_path / "run", *RUNS[name]())
    cost = spent(Path(sys.executable).with_name("cspbench"), "show", path)
    assert cost.code in (0, 2), cost.output
    assert len(cost.output) < 20_000
    assert "Traceback" not in cost.output
    assert cost.modest, (cost.seconds, cost.peak_mb)


def many_cases(number: int) -> list[dict[str, object]]:
    return [
        {"id": f"peleenet@224/opencv-cpu/b1/t{i + 1}", "key": "k", "status": None, "reason": ""}
        for i in range(number)
    ]


#: The largest report takes 10 to 17 s of a processor that other guests of the host share.
REPORT_SECONDS = 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cases", "samples"])
def test_a_report_of_a_large_run_costs_little(tmp_path, name):
    described, launches = RUNS["samples"]()
    if name == "cases":
        described, launches = meta(cases=many_cases(lines.MAX_CASES)), ""
    path = write(tmp_path / "run", described, launches)
    program = Path(sys.executable).with_name("cspbench")
    cost = spent(program, "report", path, "--out", tmp_path / "page.html")
    assert cost.code == 0, cost.output
    assert cost.peak_mb <= MOST_MB
    assert cost.seconds <= REPORT_SECONDS


def test_a_run_with_two_equal_cases_is_refused(tmp_path):
    path = write(tmp_path / "run", meta(cases=[{"id": CASE}, {"id": CASE}]), "")
    with pytest.raises(InputError, match="occurs twice"):
        read_run(path)


def test_as_many_cases_as_a_run_may_have_are_read(tmp_path):
    cases = many_cases(lines.MAX_CASES)
    assert len(read_run(write(tmp_path / "run", meta(cases=cases), "")).meta["cases"]) == len(cases)


def test_a_run_with_more_cases_is_not_begun(tmp_path):
    cases = [{"id": CASE}] * (lines.MAX_CASES + 1)
    with pytest.raises(InputError, match="10,001 cases, and at most 10,000 are read again"):
        RunDirectory.create(tmp_path, "run", json.loads(meta(cases=cases)))
    assert list(tmp_path.iterdir()) == []


def test_the_first_problems_of_many_are_named(tmp_path):
    stored = read_run(write(tmp_path / "run", meta(), "damaged\n" * 1000))
    assert len(stored.problems) == rundir.MAX_PROBLEMS + 1
    assert stored.problems[0].endswith("launches.jsonl:1: damaged, skipped")
    assert "more than 100 problems" in stored.problems[-1]
