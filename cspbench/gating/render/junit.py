"""JUnit XML of a gate: a test case for each verdict, and one for rules that were not checked.

``slower`` is a failure; ``unmeasured`` and a head that waits longer are errors; ``inconclusive``,
``untrusted`` and unchecked rules are skipped, unless ``--strict`` makes them failures.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET  # writes only

from cspbench.core.text import printable
from cspbench.gating.report import GateReport
from cspbench.gating.verdict import UNSURE, WAITS_MORE, CaseVerdict, Verdict


def _text(value: object) -> str:
    return printable(str(value))


def junit_of(report: GateReport) -> str:
    """Render a gate."""
    outcomes = [_outcome(verdict, report.strict) for verdict in report.verdicts]
    rules = [_unsure(report.strict)] if report.unchecked else []
    suite = ET.Element(
        "testsuite",
        name=_text(f"cspbench gate {report.suite}"),
        tests=str(len(report.verdicts) + len(rules) + len(report.skipped)),
        failures=str((outcomes + rules).count("failure")),
        errors=str(outcomes.count("error")),
        skipped=str((outcomes + rules).count("skipped") + len(report.skipped)),
        time=f"{report.seconds:.3f}",
        timestamp=report.created[:19],
    )
    properties = ET.SubElement(suite, "properties")
    facts = [("base", report.base), ("head", report.head), ("method", report.method)]
    facts += [("rules_from", report.rules_from)]
    facts += [("suite_change", change) for change in report.suite_changes]
    for name, value in facts:
        ET.SubElement(properties, "property", name=name, value=_text(value))
    for verdict, outcome in zip(report.verdicts, outcomes, strict=True):
        case = _case(suite, report, verdict.case, verdict.seconds)
        if outcome is None:
            continue
        child = ET.SubElement(case, outcome, message=_text(verdict.sentence))
        if outcome != "skipped":
            child.set("type", f"{verdict.verdict}.{verdict.reason}")
            child.text = _text(verdict.sentence)
    for outcome in rules:
        case = _case(suite, report, "the suite's rules", 0.0)
        ET.SubElement(case, outcome, message=_text("; ".join(report.unchecked)))
    for skipped in report.skipped:
        case = _case(suite, report, skipped.case, 0.0)
        ET.SubElement(case, "skipped", message=_text(f"{skipped.status}: {skipped.reason}"))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, "unicode") + "\n"


def _outcome(verdict: CaseVerdict, strict: bool) -> str | None:
    if verdict.verdict is Verdict.SLOWER:
        return "failure"
    if verdict.verdict is Verdict.UNMEASURED or verdict.reason == WAITS_MORE:
        return "error"
    return _unsure(strict) if verdict.verdict in UNSURE else None


def _unsure(strict: bool) -> str:
    return "failure" if strict else "skipped"


def _case(suite: ET.Element, report: GateReport, name: str, seconds: float) -> ET.Element:
    return ET.SubElement(
        suite, "testcase", classname=_text(f"cspbench.gate.{report.suite}"), name=_text(name),
        time=f"{seconds:.3f}",
    )  # fmt: skip
