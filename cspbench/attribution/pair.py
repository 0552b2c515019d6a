"""Two cases measured now: time, layers and, where they are unknown, the device's ceilings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cspbench.core.case import Case, Ref
from cspbench.core.options import without_defaults
from cspbench.errors import InputError

if TYPE_CHECKING:
    from cspbench.core.case import Case
    from cspbench.runner.executor import Executor
    from cspbench.runner.plan import Plan
    from cspbench.runner.progress import Progress
    from cspbench.suite.suite import Suite
    from cspbench.views.frames import Run

#: Launches a case unless the caller asks for another number.
ROUNDS = 5
#: Bound of the sampling of a launch.
MAX_SECONDS = 2.0


def plan_pair(
    a: str,
    b: str,
    *,
    backend: str = "opencv-cpu",
    batch: int = 1,
    threads: int = 1,
    rounds: int = ROUNDS,
) -> Plan:
    """Plan to measure two cases; ``backend``, ``batch`` and ``threads`` are those of model ids.

    Raises:
        InputError: an id that is wrong, or a case that cannot run or be profiled here.
    """
    from cspbench.attribution.engines import same_network
    from cspbench.backends.spec import BACKENDS, LayerProfiler
    from cspbench.suite.suite import Measure, Suite

    cases = tuple(case_of(text, backend, batch, threads) for text in (a, b))
    if cases[0] == cases[1]:
        raise InputError(f"A and B are the same case, {cases[0].id}: name two different ones")
    prices = not same_network(cases[0].id, cases[1].id)  # two engines share none
    measure = Measure(
        rounds=rounds, max_seconds=MAX_SECONDS, memory=False, ceilings=prices, layers=True,
        replay=prices,
    )  # fmt: skip
    plan = plan_runnable(Suite("explain", cases, measure, f"{cases[0].id} against {cases[1].id}"))
    for planned in plan.cases:
        name = planned.case.backend.name
        if not isinstance(BACKENDS.get(name), LayerProfiler):
            raise InputError(f"{planned.id}: {name} cannot time single layers")
    return plan


def plan_runnable(suite: Suite) -> Plan:
    """Plan a suite of which every case is needed.

    Raises:
        InputError: a case cannot run here.
    """
    from cspbench.runner.plan import plan_suite

    plan = plan_suite(suite)
    for planned in plan.cases:
        if planned.status is not None:
            raise InputError(f"{planned.id} is {planned.status} here: {planned.reason}")
    return plan


def measure_plan(
    plan: Plan,
    results: Path,
    executor: Executor | None = None,
    progress: Progress | None = None,
    *,
    wait: bool = True,
    waiting: Callable[[str], None] | None = None,
) -> Run:
    """Measure a plan, alone on this machine, and return the run, stored under ``results``.

    ``wait`` and ``waiting`` say what to do while another run measures (`timing_lock`).

    Raises:
        InputError: another one does and ``wait`` is False, or nothing can be written.
    """
    from cspbench.runner.measure import RunTask, measure
    from cspbench.views.frames import load

    [path] = measure([RunTask(plan)], results, executor, progress, wait=wait, waiting=waiting)
    return load(path)


def case_of(text: str, backend: str, batch: int, threads: int) -> Case:
    """The case of a case id, or of a model id with the other settings.

    Raises:
        InputError: not an id, or an unknown name or option.
    """
    from cspbench.backends.spec import BACKENDS
    from cspbench.core.case import Case
    from cspbench.models.build import checked_options, refuses_input, spec_of
    from cspbench.models.identity import canonical
    from cspbench.models.typed import parse_case

    typed, own = parse_case(text)
    parsed = own or Case.parse(f"m@1/{backend}/b{batch}/t{threads}")  # for its settings only
    model = canonical(typed)
    assert model.input is not None, "canonical fills the input in"
    spec = spec_of(model)
    reason = refuses_input(spec, model.input)
    if reason:
        raise InputError(f"{text}: the input {reason}")
    if model.neck is not None and not spec.necks:
        raise InputError(f"{text}: {spec.name} takes no neck")
    axes = BACKENDS.get(parsed.backend.name).axes
    options = without_defaults(axes, checked_options("backend", parsed.backend, axes))
    return Case(
        model=model.model,
        neck=model.neck,
        input=model.input,
        backend=Ref.of(parsed.backend.name, options),
        batch=parsed.batch,
        threads=parsed.threads,
    )
