"""Rows of a long comparison, each written as soon as it is known: it can be stopped and goes on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, str]


def answers(
    path: Path,
    fields: Sequence[str],
    asked: Sequence[Row],
    key: Sequence[str],
    count: Callable[[Row], dict[str, Any]],
) -> list[Row]:
    """The answer to each row that is asked; those that ``path`` holds are not computed again.

    Args:
        path: CSV file of answers.
        fields: its columns, ``key`` among them.
        asked: rows with at least the columns of ``key``.
        key: columns that name a row.
        count: computes the answer to a row.
    """
    known: dict[tuple[str, ...], Row] = {}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            known = {_key(row, key): row for row in csv.DictReader(file)}
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fields)
        if not file.tell():
            writer.writeheader()
        for row in asked:
            if _key(row, key) not in known:
                answer = {name: str(value) for name, value in count(row).items()}
                writer.writerow(answer)
                file.flush()
                known[_key(row, key)] = answer
    return [known[_key(row, key)] for row in asked]


def _key(row: Row, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(row[name] for name in names)
