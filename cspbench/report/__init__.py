"""The HTML report: ``write_report(runs, path)``."""

from cspbench.report.page import write_report

__all__ = ["write_report"]
