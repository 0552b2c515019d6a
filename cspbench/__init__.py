"""cspbench: benchmarks that explain themselves, for CNNs on CUDA, CPU-OpenCV and Jetson.

These names, and those of :mod:`cspbench.ext` for plug-ins, are stable: within a major version they
keep their meaning, their arguments and the fields that docs/api.md lists; what is to go is
deprecated for one release. Until 1.0 a minor version counts as a major one. Everything else may
change.

Names are imported when they are first used, so that ``import cspbench`` costs nothing.
"""

from typing import TYPE_CHECKING

from cspbench.core.lazy import lazy_names

__version__ = "0.1.0.dev0"

__all__ = [
    "Analysis",
    "Case",
    "Explanation",
    "GateReport",
    "Plan",
    "Run",
    "RunComparison",
    "Suite",
    "__version__",
    "analyze",
    "build",
    "compare",
    "errors",
    "explain",
    "gate",
    "load",
    "plan",
    "run",
    "write_report",
]

if TYPE_CHECKING:
    from cspbench import errors
    from cspbench.analysis import Analysis
    from cspbench.api import analyze, compare, gate, plan, run
    from cspbench.attribution import Explanation, explain
    from cspbench.core.case import Case
    from cspbench.gating.report import GateReport
    from cspbench.models.build import build
    from cspbench.report import write_report
    from cspbench.runner.plan import Plan
    from cspbench.suite.suite import Suite
    from cspbench.views.compare import RunComparison
    from cspbench.views.frames import Run, load
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Analysis": "cspbench.analysis",
            "Case": "cspbench.core.case",
            "Explanation": "cspbench.attribution",
            "GateReport": "cspbench.gating.report",
            "Plan": "cspbench.runner.plan",
            "Run": "cspbench.views.frames",
            "RunComparison": "cspbench.views.compare",
            "Suite": "cspbench.suite.suite",
            "analyze": "cspbench.api",
            "build": "cspbench.models.build",
            "compare": "cspbench.api",
            "errors": "cspbench",
            "explain": "cspbench.attribution",
            "gate": "cspbench.api",
            "load": "cspbench.views.frames",
            "plan": "cspbench.api",
            "run": "cspbench.api",
            "write_report": "cspbench.report.page",
        },
    )
