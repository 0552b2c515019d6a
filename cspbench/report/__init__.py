"""The HTML report: ``write_report(runs, path)``."""

from typing import TYPE_CHECKING

from cspbench.core.lazy import lazy_names

__all__ = ["write_report"]

if TYPE_CHECKING:
    from cspbench.report.page import write_report
else:  # what a section of a plug-in imports stays light
    __getattr__, __dir__ = lazy_names(__name__, {"write_report": "cspbench.report.page"})
