"""What a user names for analysis: model ids, and suites that stand for their models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cspbench.core.case import ModelId
from cspbench.core.text import nearest
from cspbench.errors import InputError


def model_ids(targets: Iterable[str]) -> list[str]:
    """Ids of all targets in order, each once.

    Raises:
        InputError: a target is neither a model id nor a suite (with the nearest name).
    """
    found: dict[str, None] = {}
    for target in targets:
        for id_ in _suite_ids(target) if is_suite(target) else [target]:
            found[id_] = None
    return list(found)


def is_suite(target: str) -> bool:
    """True for a file or folder of suites and for the name of a suite that no model has."""
    if target.endswith((".yaml", ".yml")) and ":" not in target:
        return True
    if Path(target).is_dir():
        return True
    from cspbench.models.spec import MODELS
    from cspbench.suite.find import list_suites, suite_name

    suites = [suite_name(path) for path in list_suites()]
    if target in suites:
        return True
    name = ModelId.parse(target).model.name
    if ":" in name or name in MODELS:
        return False
    hint = nearest(name, [*MODELS.names(), *suites])
    raise InputError(f"{target!r} is neither a model nor a suite{hint}")


def _suite_ids(target: str) -> list[str]:
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    return [str(case.model_id) for path in find_suites(target) for case in load_suite(path).cases]
