"""Reads a suite file: `load_suite` makes cases from YAML."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cspbench.core.case import Case
from cspbench.core.files import open_input
from cspbench.core.text import select
from cspbench.errors import InputError
from cspbench.suite.catalog import Catalog
from cspbench.suite.expand import Expander
from cspbench.suite.problems import Problems, SourceLocation, TooManyProblems, shown
from cspbench.suite.schema import SuiteFile, check_form
from cspbench.suite.settings import SettingReader, Settings
from cspbench.suite.suite import Suite
from cspbench.suite.tree import MAX_BYTES, Tree, parse_yaml


def load_suite(
    path: Path,
    overrides: Mapping[str, object] | None = None,
    catalog: Catalog | None = None,
    *,
    content: bytes | None = None,
) -> Suite:
    """Read, check and expand a suite.

    Args:
        path: a YAML file; ``docs/suite-format.md`` describes it.
        overrides: values that replace the suite's, by dotted key (``measure.rounds``,
            ``defaults.threads``), or by axis (``threads``: then of every case). Texts are read as
            YAML, like those of ``--set key=value``.
        catalog: the models, necks and backends that a suite may name (default: the registered).
        content: read this as if it were the content of ``path``, whose folder still counts.

    Raises:
        InputError: lists every mistake of the file with its file, line and column.
    """
    path = Path(path)
    content = read_suite(path) if content is None else content
    problems = Problems()
    try:
        suite = _load(path, content, overrides or {}, catalog or Catalog(), problems)
    except TooManyProblems:
        raise problems.error() from None
    if suite is None or len(problems):
        raise problems.error()
    return suite


def read_suite(path: Path) -> bytes:
    """The content of a suite's file.

    Raises:
        InputError: it cannot be read, or is too large.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a suite file in it")
    try:
        with open_input(path) as file:
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such suite file; see: cspbench list suites") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 1024} KiB; a suite is smaller")
    return content


def _load(
    path: Path,
    content: bytes,
    overrides: Mapping[str, object],
    catalog: Catalog,
    problems: Problems,
) -> Suite | None:
    source = str(path)
    text = _decode(content, source, problems)
    if text is None:
        return None
    tree = parse_yaml(text, source, problems)
    if tree.data is None and len(problems):
        return None
    if not isinstance(tree.data, dict):
        what = "is empty" if tree.data is None else f"holds {shown(tree.data)}"
        problems.add(
            SourceLocation(source, 1, 1), f"{what}; a suite is a mapping with name and matrix"
        )
        return None
    reader = SettingReader(catalog, problems, path.parent)
    forced = _override(tree, overrides, reader)
    _drop_empty(tree)
    form = check_form(tree, problems)
    expander = Expander(tree, reader, forced)
    expander.expand()
    if not expander.cases and not len(problems):
        has_matrix = "matrix" in tree.data
        sentence = (
            "every case is excluded" if has_matrix else "is missing: give a matrix, or include"
        )
        problems.add(tree.where(("matrix",), key=True), sentence)
    if form is None or len(problems):
        return None
    reference = _reference(form.reference, list(expander.cases), tree, problems)
    labels = _labels(form.labels, expander.cases, tree, problems)
    if len(problems):
        return None
    settings = tuple(f"{key}={_as_yaml(value)}" for key, value in overrides.items())
    return Suite(
        name=form.name,
        cases=tuple(expander.cases.values()),
        measure=form.measure.measure(),
        description=form.description,
        notes=(
            *(f"set: {setting}" for setting in settings),
            *expander.notes.sentences(),
            *_about_devices(form.devices),
        ),
        digest=hashlib.sha256(content).hexdigest(),
        path=source,
        gate=form.gate.gate(),
        devices=tuple(form.devices),
        reference=reference,
        labels=tuple(labels.items()),
        overrides=settings,
    )


def _reference(pattern: str, case_ids: list[str], tree: Tree, problems: Problems) -> str:
    """The id of the one case that the key names; empty without the key."""
    if not pattern:
        return ""
    found = select([pattern], case_ids)
    if len(found) != 1:
        many = f"{len(found)} cases, {found[0]} among them" if found else "no case of the suite"
        sentence = f"{shown(pattern)} matches {many}; it must match exactly one"
        problems.add(tree.where(("reference",)), sentence)
        return ""
    return found[0]


def _labels(
    patterns: Mapping[str, str], cases: Mapping[str, Case], tree: Tree, problems: Problems
) -> dict[str, str]:
    """The label of each network that a pattern of ``labels`` matches a case of."""
    labels: dict[str, str] = {}
    for pattern, label in patterns.items():
        found = select([pattern], cases)
        if not found:
            problems.add(
                tree.where(("labels", pattern), key=True), f"{shown(pattern)} matches no case"
            )
        labels |= {str(cases[case].model_id): label for case in found}
    return labels


def _as_yaml(value: object) -> str:
    """A value in the form of ``--set``: text is YAML already, and JSON is YAML too."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _about_devices(labels: list[str]) -> list[str]:
    if not labels:
        return []
    return [f"devices: {', '.join(labels)} (for a fleet; one machine measures every case once)"]


def _decode(content: bytes, source: str, problems: Problems) -> str | None:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8")) + 1
        byte = error.object[error.start]
        problems.add(SourceLocation(source, line, column), f"byte 0x{byte:02x} is not UTF-8")
        return None


def _drop_empty(tree: Tree) -> None:
    """Remove sections without a value; an empty ``matrix:`` or ``name:`` stays a mistake."""
    for key in (
        "description",
        "defaults",
        "exclude",
        "include",
        "devices",
        "reference",
        "labels",
        "measure",
        "gate",
    ):
        if key in tree.data and tree.data[key] is None:
            del tree.data[key]


def _override(tree: Tree, overrides: Mapping[str, object], reader: SettingReader) -> Settings:
    """Put dotted overrides into the tree; return those of axes."""
    forced: Settings = {}
    for key, value in overrides.items():
        override = _value_tree(key, value, reader.problems)
        if override is None:
            continue
        section, *rest = key.split(".")
        if section in SuiteFile.model_fields:
            if section in ("exclude", "include") and rest:
                reader.problems.add(
                    SourceLocation(override.source), f"{section} cannot be set by parts"
                )
            else:
                tree.graft((section, *([".".join(rest)] if rest else [])), override)
            continue
        if reader.known(override, (), key):
            forced.update(reader.read(override, (), key) or {})
    return forced


def _value_tree(key: str, value: object, problems: Problems) -> Tree | None:
    source = f"--set {key}={value}"
    if not isinstance(value, str):
        return _plain_tree(value, source)
    before = len(problems)
    tree = parse_yaml(value, source, problems, one_place=True)
    return tree if len(problems) == before else None


def _plain_tree(value: Any, source: str) -> Tree:
    return Tree(value, source, {(): SourceLocation(source)})
