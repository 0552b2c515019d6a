"""JSON Schema of suite files, by which editors complete keys and mark mistakes.

The sections are generated from the pydantic models, the axes from the registered specs. Names of
models, necks and backends are suggestions, because options, necks and inputs may follow a name.
"""

from __future__ import annotations

from typing import Any

from cspbench.core.options import Axis
from cspbench.core.registry import Named, Registry
from cspbench.suite.catalog import Catalog
from cspbench.suite.schema import suite_file
from cspbench.suite.settings import LARGEST

_COUNT = {"type": "integer", "minimum": 1, "maximum": LARGEST}
_SIDES = {"type": "array", "items": _COUNT, "minItems": 2, "maxItems": 2}


def json_schema(catalog: Catalog | None = None) -> dict[str, Any]:
    """JSON Schema (2020-12) of a suite file."""
    axes = _axes(catalog or Catalog())
    schema = suite_file().model_json_schema()
    sections = schema["properties"]
    one_each = {"type": "object", "properties": axes, "additionalProperties": False}
    lists = {
        "type": "object",
        "properties": {name: _one_or_list(name, axis) for name, axis in axes.items()},
        "additionalProperties": False,
    }
    for section, inner in (("defaults", one_each), ("matrix", {**lists, "minProperties": 1})):
        sections[section] = {**_described(sections[section]), **inner}
    for section, inner in (("include", one_each), ("exclude", {**lists, "minProperties": 1})):
        sections[section] = {**_described(sections[section]), "type": "array", "items": inner}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cspbench suite",
        **{key: value for key, value in schema.items() if key != "title"},
    }


def _described(section: dict[str, Any]) -> dict[str, Any]:
    return {"description": section["description"]}


def _axes(catalog: Catalog) -> dict[str, Any]:
    """Schema of one value of each axis."""
    options = {
        name: _option(axes) for name, axes in catalog.axes.items() if not name.startswith("csp.")
    }
    csp = {name: _option(axes) for name, axes in catalog.axes.items() if name.startswith("csp.")}
    inner = {name.removeprefix("csp."): schema for name, schema in csp.items()}
    neck = _names(catalog.necks, "a neck, with options: efm[act=mish]; none for none")
    return {
        "model": _names(
            catalog.models, "a model, with options, neck and input: csppeleenet[gamma=0.25]+prn@416"
        ),
        "neck": {**neck, "type": ["string", "null"], "examples": ["none", *neck["examples"]]},
        "backend": _names(catalog.backends, "a backend, with options: opencv-cpu[engine=new]"),
        "input": {
            "description": "input size in pixels: 320, 320x416 or [320, 416] (height, width)",
            "anyOf": [_COUNT, {"type": "string", "pattern": r"^\d{1,6}(x\d{1,6})?$"}, _SIDES],
        },
        "batch": {**_COUNT, "description": "images in one inference"},
        "threads": {**_COUNT, "description": "CPU threads of one inference"},
        "precision": {"description": "arithmetic of the backend", "const": "fp32"},
        **options,
        "csp": {
            "description": "cross-stage-partial form of a staged model",
            "anyOf": [
                {"const": "none"},
                {"type": "object", "properties": inner, "additionalProperties": False},
            ],
        },
        **csp,
    }


def _names(registry: Registry[Any], description: str) -> dict[str, Any]:
    names: list[Named] = list(registry)
    return {
        "description": description,
        "type": "string",
        "minLength": 1,
        "examples": [entry.name for entry in names],
    }


def _option(axes: tuple[Axis, ...]) -> dict[str, Any]:
    """Schema of an option; it accepts every definition of its several owners."""
    kinds: dict[str, dict[str, Any]] = {
        "fraction": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "integer": {"type": "integer", "minimum": 1},
        "flag": {"type": "boolean"},
        "text": {"type": "string"},
    }
    forms = [
        {"enum": list(axis.choices)} if axis.kind == "choice" else kinds[axis.kind] for axis in axes
    ]
    different = [form for i, form in enumerate(forms) if form not in forms[:i]]
    form = different[0] if len(different) == 1 else {"anyOf": different}
    return {"description": axes[0].summary or axes[0].name, **form}


def _one_or_list(name: str, axis: dict[str, Any]) -> dict[str, Any]:
    """Schema of a matrix axis: a list of values, or one value that is not [height, width]."""
    alone = axis
    if name == "input":
        alone = {**axis, "anyOf": [form for form in axis["anyOf"] if form is not _SIDES]}
    if name == "csp":
        form, mapping = axis["anyOf"]
        lists = {key: _one_or_list(key, value) for key, value in mapping["properties"].items()}
        alone = {**axis, "anyOf": [form, {**mapping, "properties": lists}]}
    values = {"type": "array", "items": axis, "minItems": 1}
    return {"description": axis["description"], "anyOf": [alone, values]}
