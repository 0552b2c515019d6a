import json
import math

import pytest

from cspbench.cli.main import main
from cspbench.core.statuses import ExitCode
from cspbench.errors import InputError
from cspbench.gating.job import GateSettings
from cspbench.gating.render.page import page_of
from cspbench.gating.sides import SideRequest
from cspbench.gating.stored import run_stored_gate
from cspbench.store.rundir import RunDirectory, read_run
from cspbench.views.compare import (
    change_points,
    change_sentences,
    compare_runs,
    history,
    repeat_sentence,
)
from cspbench.views.conditions import clock

CASES = [f"{name}@64/opencv-cpu/b1/t1" for name in ("peleenet", "csppeleenet")]
MACHINE = {"host": "here", "cpu": "c", "python": "3.11.2", "libraries": {"torch": "2.13"}}
SUITE = """
name: stored
matrix: {model: [peleenet@64, csppeleenet@64], backend: opencv-cpu}
"""


def make_run(
    out,
    name,
    times_ms,
    *,
    machine=MACHINE,
    measure=None,
    created="2026-01-01",
    load=None,
    clock_mhz=None,
):
    """Store a run; ``times_ms`` maps a case to the medians of its launches."""
    beside = {"interference": {"seconds": 0.5, "foreign_cpu_s": 0.0, "steal_s": 0.0,
                               "load_1m_before": load, "load_1m_after": load}}  # fmt: skip
    sensors = {"sensors": {"cpufreq": {"gauges": {"cpu_frequency_mhz": {"mean": clock_mhz}}}}}
    meta = {
        "created": created,
        "suite": {"name": "stored", "measure": {"rounds": 5, "seed": 0, "warmup_seconds": 1.0,
                                                **(measure or {})}},
        "cases": [{"id": case, "key": case, "status": None, "reason": ""} for case in times_ms],
        "environment": machine,
        "analyses": {},
    }  # fmt: skip
    run = RunDirectory.create(out, name, meta)
    for case, times in times_ms.items():
        for number, ms in enumerate(times):
            run.append({"case": case, "job": "time", "number": number, "session": "s",
                        "status": "ok", "reason": "", "seconds": 1.0, "flags": [],
                        "latencies_ns": [round(ms * 1e6)] * 5, "load_ns": 1, "first_ns": 1,
                        "warmup": {"count": 1, "steady": True},
                        "agreement": {"max_relative_error": 0.0},
                        **(beside if load is not None else {}),
                        **(sensors if clock_mhz is not None else {})})  # fmt: skip
    return read_run(run.path)


def around(ms):
    return [ms * (1 + d) for d in (-0.01, -0.005, 0.0, 0.005, 0.01)]


@pytest.fixture
def gate(tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(SUITE)

    def run(base, head, rules="", **settings):
        suite.write_text(SUITE + rules)
        sides = [SideRequest(r.path.name, "run", str(r.path)) for r in (base, head)]
        return run_stored_gate(suite, *sides, GateSettings(**settings))

    return run


def test_rules_that_stored_runs_cannot_be_held_to_are_told(gate, tmp_path):
    run = make_run(tmp_path, "a", {case: around(10.0) for case in CASES})
    rules = "gate: {macs: 0%, peak_memory_bytes: 10%}\n"
    report = gate(run, run, rules, strict=True)
    assert report.unchecked == [
        "macs is not checked between stored runs",
        "peak_memory_bytes is not checked between stored runs",
    ]
    assert report.exit_code == ExitCode.INCONCLUSIVE
    assert "2 rules not checked" in report.headline
    assert "Not compared: the sides are stored runs." in page_of(report)


def test_only_some_cases_of_stored_runs(gate, tmp_path):
    run = make_run(tmp_path, "a", {case: around(10.0) for case in CASES})
    assert [v.case for v in gate(run, run, only=[CASES[0]]).verdicts] == [CASES[0]]


def test_a_large_slowdown_between_runs_is_slower(gate, tmp_path):
    base = make_run(tmp_path, "a", {case: around(10.0) for case in CASES})
    head = make_run(tmp_path, "b", {CASES[0]: around(13.0), CASES[1]: around(10.0)})
    report = gate(base, head)
    assert [v.verdict.value for v in report.sorted] == ["slower", "same"]
    # The same, but far less surely than five identical launches a side would suggest.
    assert report.sorted[1].ratio_high > 1.04
    assert report.exit_code == ExitCode.REGRESSION
    assert any("did not take turns" in note for note in report.notes)


def test_runs_of_other_machines_are_refused_with_every_difference(gate, tmp_path):
    other = {**MACHINE, "host": "there", "libraries": {"torch": "2.14"}, "nvpmodel": "MAXN"}
    base = make_run(tmp_path, "a", {CASES[0]: around(10.0)})
    head = make_run(tmp_path, "b", {CASES[0]: around(10.0)}, machine=other, measure={"seed": 1})
    with pytest.raises(InputError) as error:
        gate(base, head)
    text = "\n".join(error.value.problems)
    assert len(error.value.problems) == 4
    for difference in ("host was 'here' and is 'there'", "libraries.torch was '2.13' and is '2.14'",
                 "nvpmodel was none and is 'MAXN'", "measure.seed was 0 and is 1"):  # fmt: skip
        assert difference in text


def test_facts_that_may_matter_are_notes(gate, tmp_path):
    runs = [
        make_run(tmp_path, name, {CASES[0]: around(10.0)}, machine={**MACHINE, **facts})
        for name, facts in (("a", {"os": "12.7", "git_commit": "a"}),
                            ("b", {"os": "12.8", "git_commit": "b"}))
    ]  # fmt: skip
    notes = [note for note in gate(*runs).notes if " was " in note]
    assert notes == ["os was '12.7' and is '12.8'"]


def test_too_few_launches_are_unmeasured(gate, tmp_path):
    base = make_run(tmp_path, "a", {CASES[0]: [10.0]})
    head = make_run(tmp_path, "b", {CASES[0]: around(10.0)})
    (verdict,) = gate(base, head).verdicts
    assert (verdict.verdict.value, verdict.reason) == ("unmeasured", "few_launches")


def test_runs_without_a_common_case(gate, tmp_path):
    base = make_run(tmp_path, "a", {CASES[0]: around(10.0)})
    head = make_run(tmp_path, "b", {CASES[1]: around(10.0)})
    with pytest.raises(InputError, match="no case in common"):
        gate(base, head)


# compare


def test_compare_gives_ratios_and_no_verdict(tmp_path):
    base = make_run(tmp_path, "a", {CASES[0]: around(10.0), CASES[1]: around(5.0)})
    head = make_run(tmp_path, "b", {CASES[0]: around(12.0)}, machine={**MACHINE, "host": "x"})
    frame, unlike = compare_runs(base, head)
    row = frame.set_index("case").loc[CASES[0]]
    assert row["ratio"] == pytest.approx(1.2)
    assert row["ratio_low"] < 1.2 < row["ratio_high"]
    assert frame.set_index("case").loc[CASES[1]]["head_status"] == "absent"
    assert unlike == ["host was 'here' and is 'x'"]
    assert "verdict" not in frame.columns
    assert "within" not in frame.columns


def test_compared_ratios_follow_from_the_times_beside_them(tmp_path):
    """The medians are 10 and 11 ms, whatever the other launches: 11 / 10."""
    base = make_run(tmp_path, "a", {CASES[0]: [9.0, 10.0, 10.5]})
    head = make_run(tmp_path, "b", {CASES[0]: [11.0, 11.0, 13.0]})
    row = compare_runs(base, head).table.iloc[0]
    assert row["ratio"] == row["head_ms"] / row["base_ms"] == pytest.approx(1.1)


def test_a_repeat_is_held_against_a_tolerance(tmp_path):
    """The runs may differ by 2.5 % (one standard deviation) by themselves: about +-6 % in all."""
    names = [*CASES, "darknet53@64/opencv-cpu/b1/t1"]
    base = make_run(tmp_path, "a", {case: around(10.0) for case in names})
    times = dict(zip(names, (10.0, 10.5, 13.0), strict=True))
    head = make_run(tmp_path, "b", {case: around(ms) for case, ms in times.items()})
    table = compare_runs(base, head, tolerance=0.10).table
    assert list(table["within"]) == ["yes", "undecided", "no"]
    assert repeat_sentence(table, 0.10) == (
        "1 of 3 cases repeat within 10 %; 1 does not: darknet53@64/opencv-cpu/b1/t1; "
        "of 1 the interval is too wide to tell."
    )


def test_a_network_that_was_built_otherwise_is_told(tmp_path):
    base, head = (make_run(tmp_path, name, {CASES[0]: around(10.0)}) for name in "ab")
    head.meta["cases"][0]["key"] = "changed"
    assert compare_runs(base, head).differences == [
        f"{CASES[0]} had another file, weights, code or library that builds it"
    ]
    # Where both runs hold the network's counts, these say whether it is another one.
    network = CASES[0].split("/")[0]
    for run in (base, head):
        run.meta["analyses"][network] = {"totals": {"params": 10, "macs": 100}}
    (same,) = compare_runs(base, head).differences
    assert same.endswith("; its counts are the same")
    head.meta["analyses"][network]["totals"]["macs"] = 101
    (other,) = compare_runs(base, head).differences
    assert other.endswith(", and its counts differ: it is another network")


def test_another_build_of_one_version_is_told(tmp_path):
    """Only where both runs know the files: a run of an older cspbench does not."""
    base, head = (make_run(tmp_path, name, {CASES[0]: around(10.0)}) for name in "ab")
    for run, digest in ((base, "aa"), (head, "bb")):
        run.meta["environment"] |= {
            "libraries": {"torch": "2.13.0", "numpy": "2.0"},
            "library_digests": {"torch": digest, "numpy": "cc"},
        }
    assert compare_runs(base, head).differences == [
        "torch 2.13.0 is another build: its files differ"
    ]
    for run in (base, head):
        facts = {**run.meta["environment"]}
        run.meta["fleet"] = {"boards": {"nano": {"environment": facts}}}
    del base.meta["environment"]["library_digests"]
    assert compare_runs(base, head).differences == [
        "torch 2.13.0 is another build: its files differ on board nano"
    ]
    del base.meta["fleet"]
    assert compare_runs(base, head).differences == []


def test_load_that_differs_is_told(tmp_path):
    base, head = (
        make_run(tmp_path, name, {CASES[0]: around(10.0)}, load=load)
        for name, load in (("a", 0.2), ("b", 3.1))
    )
    assert compare_runs(base, head).differences == [
        "the load average before launches was 0.2 and is 3.1"
    ]
    assert compare_runs(base, base).differences == []


@pytest.mark.parametrize(
    "gauges",
    [[1], None, "x", {"cpu_frequency_mhz": 5}, *({"cpu_frequency_mhz": {"mean": mean}} for mean in
     ("<b>", [1], {}, True, None, -1, 0, 10**400, math.nan, math.inf))],
)  # fmt: skip
def test_what_a_stranger_writes_for_a_clock_is_none(tmp_path, gauges):
    """What sensors told is kept as it is; a run of somebody else may hold anything there."""
    base, head = (
        make_run(tmp_path, name, {CASES[0]: around(10.0)}, clock_mhz=clock)
        for name, clock in (("a", 2400.0), ("b", 1800.0))
    )
    for launch in head.launches:
        launch.sensors["cpufreq"]["gauges"] = gauges
    assert compare_runs(base, head).differences == []
    assert clock(head, "cpu_frequency_mhz") is None


def test_clocks_that_differ_are_told(tmp_path):
    """1800 instead of 2400 MHz is told; 2370 is within 3 %."""
    base, slow, near = (
        make_run(tmp_path, name, {CASES[0]: around(10.0)}, clock_mhz=clock)
        for name, clock in (("a", 2400.0), ("b", 1800.0), ("c", 2370.0))
    )
    assert compare_runs(base, slow).differences == [
        "the mean clock of the processor was 2400 MHz and is 1800 MHz"
    ]
    assert compare_runs(base, near).differences == []


def test_the_command_says_what_it_could_not_compare(tmp_path, capsys):
    base = make_run(tmp_path, "a", {CASES[0]: around(10.0), CASES[1]: around(5.0)})
    head = make_run(tmp_path, "b", {CASES[0]: around(10.0)})
    with pytest.raises(SystemExit) as end:
        main(["compare", str(base.path), str(head.path), "--within", "10%"])
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert CASES[1] not in out
    assert f"not compared: 1 only in base ({base.path}): {CASES[1]}" in err
    assert "1 of 1 cases repeat within 10 %" in err
    with pytest.raises(SystemExit) as end:
        main(["compare", str(base.path), str(head.path), "--within", "much"])
    assert end.value.code == 2


def test_the_commands(tmp_path, monkeypatch, capsys):
    for day in range(1, 9):
        ms = 10.0 if day < 5 else 12.0
        make_run(tmp_path / "results", f"2026010{day}", {CASES[0]: around(ms)},
                 created=f"2026-01-0{day}")  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["compare", "20260101", "latest", "--format", "json"])
    assert end.value.code == 0
    assert json.loads(capsys.readouterr().out)[0]["ratio"] == pytest.approx(1.2)
    with pytest.raises(SystemExit):
        main(["history", "peleenet*", "--format", "json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows if row["change_point"]] == ["20260105"]


# history


def test_change_points_by_hand():
    level = [10.0, 10.1, 9.9, 10.05]
    pytest.importorskip("ruptures")
    assert change_points(level * 2) == []
    assert change_points([*level, *(1.2 * v for v in level)]) == [4]
    assert change_points(level) is None  # too few runs to tell


def test_a_new_level_is_a_sentence(tmp_path):
    pytest.importorskip("ruptures")
    times = [10.0, 10.1, 9.9, 10.0, 12.0, 12.1, 11.9, 12.0]
    runs = [make_run(tmp_path, f"r{i}", {CASES[0]: around(ms)}) for i, ms in enumerate(times)]
    (sentence,) = change_sentences(history(runs, []))
    assert sentence == f"{CASES[0]}: 10.000 -> 12.000 ms (+20.0 %) since r4"


def test_history_follows_one_machine(tmp_path):
    times = [10.0, 10.1, 9.9, 10.0]
    runs = [make_run(tmp_path, f"r{i}", {CASES[0]: around(ms)}) for i, ms in enumerate(times)]
    other = make_run(tmp_path, "x", {CASES[0]: around(99.0)}, machine={**MACHINE, "host": "x"})
    upgraded = {**MACHINE, "libraries": {"torch": "2.14"}}
    last = make_run(tmp_path, "z", {CASES[0]: around(9.0)}, machine=upgraded)
    frame = history([*runs, other, last], ["peleenet*"])
    assert list(frame["run"]) == ["r0", "r1", "r2", "r3", "z"]
    assert frame["environment"].iloc[-1] == "libraries.torch was '2.13' and is '2.14'"


def test_history_of_nothing(tmp_path):
    with pytest.raises(InputError, match="no stored runs"):
        history([], [])
    run = make_run(tmp_path, "a", {CASES[0]: around(1.0)})
    with pytest.raises(InputError, match="no measured case matches 'vgg"):
        history([run], ["vgg*"])
