"""The paper's Tables 1 to 5 with what was computed and measured here beside the published numbers.

A file a table: a pure function from :class:`~cspbench.paper.evidence.Evidence`. Every column says
where its numbers come from. Speeds of another device stand in columns of their own; what is
compared are ratios to a network that both measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cspbench.paper.evidence import Evidence
from cspbench.paper.reproduced._table import Column, PaperTable
from cspbench.paper.reproduced.table1 import table1
from cspbench.paper.reproduced.table2 import table2
from cspbench.paper.reproduced.table3 import table3
from cspbench.paper.reproduced.table4 import table4
from cspbench.paper.reproduced.table5 import table5

__all__ = ["TABLES", "Column", "PaperTable", "all_tables"]

TABLES: Mapping[int, Callable[[Evidence], PaperTable]] = {
    1: table1,
    2: table2,
    3: table3,
    4: table4,
    5: table5,
}


def all_tables(evidence: Evidence) -> list[PaperTable]:
    """Tables 1 to 5."""
    return [make(evidence) for make in TABLES.values()]
