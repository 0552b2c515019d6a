"""Resolves the targets of an analysis: model ids, and suites as all their models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

from cspbench.core.text import nearest
from cspbench.errors import InputError
from cspbench.models.typed import names_file, parse_model


def model_ids(targets: Iterable[str]) -> list[str]:
    """Model ids of all targets in order, each once.

    Raises:
        InputError: a target is neither a model id nor a suite; the message has the nearest name.
    """
    ids = [_suite_ids(target) if is_suite(target) else [target] for target in targets]
    return list(dict.fromkeys(itertools.chain.from_iterable(ids)))


def is_suite(target: str) -> bool:
    """True for a file or folder of suites, and for the name of a suite.

    Raises:
        InputError: the target names neither a model nor a suite.
    """
    if target.endswith((".yaml", ".yml")) and ":" not in target:
        return True
    if Path(target).is_dir():
        return True
    from cspbench.models.spec import MODELS
    from cspbench.suite.find import list_suites, suite_name

    suites = [suite_name(path) for path in list_suites()]
    if target in suites:
        return True
    name = parse_model(target).model.name
    if ":" in name or name in MODELS:
        return False
    hint = nearest(name, [*MODELS.names(), *suites])
    raise InputError(f"{target!r} is neither a model nor a suite{hint}")


def is_model(target: str) -> bool:
    """True for a model, False for what may name a suite."""
    if (target.endswith((".yaml", ".yml")) and ":" not in target) or Path(target).is_dir():
        return False
    if names_file(target):
        return True
    try:
        name = parse_model(target).model.name
    except InputError:
        return False
    if ":" in name:
        return True
    from cspbench.models.spec import MODELS
    from cspbench.suite.find import list_suites, suite_name

    return name in MODELS and target not in map(suite_name, list_suites())


def _suite_ids(target: str) -> list[str]:
    from cspbench.suite.find import find_suites
    from cspbench.suite.load import load_suite

    return [str(case.model_id) for path in find_suites(target) for case in load_suite(path).cases]
