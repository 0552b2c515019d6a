"""Gates for tests: on invented hardware, and with real workers."""

import pytest

from cspbench.cli.main import main
from cspbench.gating.job import GateSettings, run_gate
from cspbench.gating.sides import parse_side
from cspbench.gating.timing import NULL
from tests.gating.arms import Machine


def gate(suite, base, head="set:", settings=None, machine=None, machines=None):
    """Run a gate on invented hardware; ``machines`` gives a new one for each duet."""
    queue = iter(machines) if machines else None
    made = []

    def arms(pair, base_side, head_side, *, layers=False):
        if layers:  # of the same invented hardware
            return made[-2 if made[-1][0] == NULL else -1][1].make
        null = pair.base is pair.head
        chosen = Machine({"base": 1e6, "head": 1e6}) if null and not queue else (
            next(queue) if queue else machine or Machine({"base": 1e6, "head": 1e6})
        )  # fmt: skip
        made.append((pair.name, chosen))
        return chosen.make

    steps = []
    report = run_gate(
        suite, *sides(suite, base, head), settings or GateSettings(), steps.append, arms
    )
    return report, made, steps


def sides(suite, *texts):
    return [parse_side(text, suite, suite.parent / "results") for text in texts]


def real_gate(suite, base, head, settings):
    return run_gate(suite, *sides(suite, base, head), settings)


def times(base, head):
    return Machine({"base": base, "head": head})


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    captured = capsys.readouterr()
    return end.value.code, captured.out, captured.err
