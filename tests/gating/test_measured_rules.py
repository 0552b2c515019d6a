"""Rules on numbers that launches measure: memory, start-up, energy, a file's size."""

import sys
import time
from dataclasses import replace

import pytest

from cspbench.core.statuses import ExitCode
from cspbench.gating import measured
from cspbench.gating.verdict import Verdict
from cspbench.machine.sensors.spec import SENSORS
from cspbench.suite.rules import RULES, MeasuredRule, StaticRule
from tests.gating.gates import gate
from tests.runner.test_observe import Card


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports peaks")
def test_a_head_that_takes_a_fifth_more_memory_is_caught(suite, monkeypatch):
    """Five images instead of four: as long an inference (invented), a fifth more memory (real)."""
    rule = replace(RULES.get("peak_memory_bytes"), launches=2)
    monkeypatch.setitem(RULES._entries, rule.name, rule)
    text = suite.read_text().replace("input: 64", "input: 256")
    suite.write_text(text.replace("gate:", "gate:\n  peak_memory_bytes: 10%"))
    report, _, _ = gate(suite, "set:batch=4", "set:batch=5")
    (verdict,), (change,) = report.verdicts, report.measured
    assert 0.12 < change.change < 0.28
    assert max(change.base) < min(change.head)
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "peak_memory")
    assert "the suite allows +10 %" in verdict.sentence
    assert report.exit_code == ExitCode.REGRESSION
    # The same launches under a rule of 30 % would pass.
    assert not rule.exceeded(change.base, change.head, 0.3)
    (row,) = report.as_dict()["memory"]
    assert row == {"case": change.case, "base": change.base, "head": change.head, "limit": 0.1}


def test_start_up_and_the_size_of_the_file_are_rules(suite):
    """Real launches of both sides; the same file on both."""
    rules = "gate:\n  first_inference: 100%\n  model_bytes: 0%"
    suite.write_text(suite.read_text().replace("gate:", rules))
    report, _, _ = gate(suite, "set:batch=2", "set:batch=2")
    start, size = report.measured
    assert (start.metric, len(start.base), start.blocked) == ("first_inference", 5, False)
    assert all(ns > 1e5 for ns in (*start.base, *start.head))
    assert (size.metric, size.base, size.blocked) == ("model_bytes", size.head, False)
    assert size.base[0] > 1000


class Meter(Card):
    """A sensor of a processor that draws 50 W all the time."""

    name = "meter"

    def counters(self):
        return {"cpu_energy_j": 50.0 * time.monotonic()}


@pytest.mark.slow
def test_a_head_that_takes_more_energy_is_caught(suite, monkeypatch):
    """Real inferences of one and of four images; at equal power energy goes with time."""
    monkeypatch.setitem(SENSORS._entries, "meter", Meter())
    rule = replace(RULES.get("energy"), launches=1)
    monkeypatch.setitem(RULES._entries, rule.name, rule)
    text = suite.read_text().replace("gate:", "gate:\n  energy: 5%")
    suite.write_text(text)
    report, _, _ = gate(suite, "set:batch=1", "set:batch=4")
    (verdict,), (change,) = report.verdicts, report.measured
    assert (change.metric, change.unit, change.job) == ("energy", "J", "energy")
    assert 1.5 < change.change + 1 < 8
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "measured_rule")
    assert verdict.sentence.startswith("energy ")


def test_without_a_sensor_of_power_the_rule_of_energy_is_not_checked(suite, monkeypatch):
    monkeypatch.setattr("cspbench.runner.observe.select_sensors", lambda setting: [])
    suite.write_text(suite.read_text().replace("gate:", "gate:\n  energy: 5%"))
    report, _, _ = gate(suite, "set:batch=2", "set:batch=2")
    assert report.exit_code == ExitCode.OK
    assert any(
        "no sensor of this machine gives the power of the device cpu, so that its rule was not "
        "checked" in note for note in report.notes
    )  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports peaks")
def test_rules_of_one_job_share_their_launches(suite, monkeypatch):
    """A rule that was registered is accepted in the suite, measured, judged and reported."""
    loaded = MeasuredRule(
        "loaded_bytes", "bytes", "resident once the model is loaded", "memory",
        lambda result: result.memory.loaded_bytes, launches=1,
        exceeded=lambda base, head, limit: limit == 0.5,
    )  # fmt: skip
    unknown = replace(loaded, name="watts", value=lambda result: None)
    for rule in (loaded, unknown, StaticRule("calls", "1", "", lambda analysis: None)):
        monkeypatch.setitem(RULES._entries, rule.name, rule)
    rules = "gate:\n  loaded_bytes: 50%\n  watts: 1%\n  calls: 0%"
    suite.write_text(suite.read_text().replace("gate:", rules))
    launched = []
    launch = measured._launch
    monkeypatch.setattr(
        measured, "_launch", lambda *args: launched.append(args[2]) or launch(*args)
    )
    report, _, _ = gate(suite, "set:batch=2", "set:batch=2")
    (verdict,), (change,) = report.verdicts, report.measured
    assert launched == ["memory"] * 2  # one of each side, for both rules
    assert (change.metric, change.unit, len(change.base)) == ("loaded_bytes", "bytes", 1)
    assert (verdict.verdict, verdict.reason) == (Verdict.SLOWER, "measured_rule")
    assert verdict.sentence.startswith("loaded_bytes ")
    (row,) = report.as_dict()["measured"]
    assert row["sentence"] == change.sentence
    assert report.as_dict()["memory"] == []
    assert any(
        "does not report watts, so that its rule was not checked" in note for note in report.notes
    )
    assert any("calls is not known for both sides" in note for note in report.notes)
    assert len(report.unchecked) == 2
    assert "2 rules not checked" in report.headline
