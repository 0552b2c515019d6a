"""The form of a suite file as pydantic models.

:mod:`cspbench.suite.settings` and :mod:`cspbench.suite.expand` check the axes, which depend on the
registered models and backends.
"""

from __future__ import annotations

import functools
import math
import re
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)

from cspbench.core.text import nearest
from cspbench.jobs.spec import Policy, kinds_with
from cspbench.suite.problems import Problems, shown
from cspbench.suite.rules import rules
from cspbench.suite.suite import EACH, LABEL, LABEL_RULE, SETTINGS, Gate, Measure
from cspbench.suite.tree import Tree

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?) ?%")
_SHARE_SCHEMA = {
    "anyOf": [
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        {"type": "string", "pattern": r"^\d{1,3}(\.\d{1,6})? ?%$"},
    ],
    "examples": ["2%", 0.02],
}


def _name(value: object) -> object:
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise ValueError(
            f"{shown(value)} is not a name: up to 80 letters, digits, dots, hyphens and "
            "underscores are allowed, the first a letter or digit (no path separators)"
        )
    return value


def as_share(value: object) -> float:
    """``2%`` or 0.02 as 0.02."""
    share = math.nan
    if isinstance(value, str) and (percent := _PERCENT.fullmatch(value)):
        share = float(percent[1]) / 100
        share = share if share <= 1 else math.nan
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1:
        share = float(value)
    if math.isnan(share):
        raise ValueError(f"must be a share such as 2% or 0.02 (0 to 100 %), not {shown(value)}")
    return share


def _warmup(value: object) -> object:
    if value == "auto":
        return Measure.warmup_seconds
    if isinstance(value, str):
        raise ValueError(f"must be auto or a number of seconds, not {shown(value)}")
    return value


def _sensors(value: object) -> object:
    """Names as a list or as text; the run checks which of them this machine has."""
    from cspbench.machine.sensors.monitor import AUTO, NONE, check_names
    from cspbench.machine.sensors.spec import SENSORS

    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        value = ", ".join(value) or NONE
    if isinstance(value, str) and value not in (AUTO, NONE):
        return ", ".join(check_names(value, [sensor.name for sensor in SENSORS])) or NONE
    return value


_LABEL_SCHEMA = {"type": "string", "pattern": f"^{LABEL.pattern}$"}
_DEVICES_SCHEMA = {
    "anyOf": [_LABEL_SCHEMA, {"type": "array", "items": _LABEL_SCHEMA, "minItems": 1}],
    "examples": [EACH, ["jetson-orin", "x86"]],
}


def _devices(value: object) -> object:
    """``each``, one label, or a list of different labels."""
    labels = [value] if isinstance(value, str) else value
    if not isinstance(labels, list) or not labels:
        raise ValueError(f"must be each, or a list of labels such as [x86], not {shown(value)}")
    for label in labels:
        if not isinstance(label, str) or not LABEL.fullmatch(label):
            raise ValueError(f"{shown(label)} is not a label: {LABEL_RULE}")
        if labels.count(label) > 1:
            raise ValueError(f"{label} is given twice")
    if EACH in labels and len(labels) > 1:
        raise ValueError(f"{EACH} must stand alone, because it means every board")
    return labels


_SENSORS_SCHEMA = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
Share = Annotated[float, BeforeValidator(as_share), WithJsonSchema(_SHARE_SCHEMA)]
_NAME_SCHEMA = {"type": "string", "pattern": f"^{_NAME.pattern}$"}
_WARMUP_SCHEMA = {"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0, "maximum": 600}]}


class _Section(BaseModel):
    # Building validators takes most of this file's import time, so only the outermost builds them.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class _MeasureBase(_Section):
    """How to measure."""

    @model_validator(mode="after")
    def _times_fit(self) -> _MeasureBase:
        measure = self.measure()
        longest = max(measure.warmup_seconds, measure.max_seconds)
        if measure.timeout_seconds <= longest:
            raise ValueError(
                f"timeout_seconds is {measure.timeout_seconds:g}, but warm-up or sampling may take "
                f"{longest:g} s; raise it, or lower warmup or max_seconds"
            )
        return self

    def measure(self) -> Measure:
        """The section as `Measure`."""
        values = {item.name: getattr(self, key) for key, item in SETTINGS.items()}
        extras = [key for key in _foreign_launches() if getattr(self, key)]
        whole: dict[str, Any] = {
            name: float(value) if isinstance(value, int) and name.endswith("_seconds") else value
            for name, value in values.items()
        }
        return Measure(**whole, extras=tuple(extras))


#: Forms that a suite accepts for a setting beyond the type of its value.
_FORMS: dict[str, Any] = {
    "warmup": Annotated[float, BeforeValidator(_warmup), WithJsonSchema(_WARMUP_SCHEMA)],
    "target_ci": Share,
    "target_ratio": Share,
    "sensors": Annotated[str, BeforeValidator(_sensors), WithJsonSchema(_SENSORS_SCHEMA)],
}


def _foreign_launches() -> dict[str, str]:
    """Keys that request kinds of launches of other packages, with their summaries."""
    kinds = kinds_with(Policy.AFTER)
    return {kind.setting: kind.summary for kind in kinds if kind.setting not in SETTINGS}


def _measure_section() -> type[_MeasureBase]:
    """The settings of `Measure`, and a switch for each kind of launch of other packages."""
    types = get_type_hints(Measure)
    settings: dict[str, Any] = {}
    for key, item in SETTINGS.items():
        bounds = dict(item.metadata["bounds"])
        if types[item.name] in (float, float | None):
            bounds["allow_inf_nan"] = False
        about = Field(default=item.default, description=item.metadata["description"], **bounds)
        settings[key] = (_FORMS.get(key, types[item.name]), about)
    for key, summary in _foreign_launches().items():
        switch = Field(default=False, description=f"one more launch a case: {summary}")
        settings[key] = (bool, switch)
    return create_model(
        "MeasureSection", __base__=_MeasureBase, __doc__="How to measure.", **settings
    )


if TYPE_CHECKING:
    MeasureSection = _MeasureBase
else:
    MeasureSection = _measure_section()


class LatencyRule(_Section):
    """When a change of latency counts."""

    min_effect: Share = Field(
        default=Gate.min_effect, gt=0, description="smallest slowdown that is called slower"
    )
    tolerance: Share = Field(
        default=Gate.tolerance,
        gt=0,
        description="a change that lies within it with certainty is called same",
    )


class GateSection(_Section):
    """How much each metric may grow before ``cspbench gate`` objects."""

    # `suite_file` adds a share for every rule that is registered.

    latency: LatencyRule = Field(default={}, validate_default=True)

    def gate(self) -> Gate:
        """The section as `Gate`."""
        rules = {
            str(info.alias): share
            for name, info in type(self).model_fields.items()
            if name != "latency" and (share := getattr(self, name)) is not None
        }
        return Gate(
            rules=tuple(rules.items()),
            min_effect=self.latency.min_effect,
            tolerance=self.latency.tolerance,
        )


class SuiteFile(_Section):
    """A suite: what to measure, and how."""

    name: Annotated[str, BeforeValidator(_name), WithJsonSchema(_NAME_SCHEMA)] = Field(
        description="names the run directory and the report", examples=["edge"]
    )
    description: str = Field(default="", description="one sentence for listings and reports")
    defaults: dict[str, Any] = Field(
        default={}, description="one value for each axis, for every case"
    )
    matrix: dict[str, Any] = Field(
        default={}, description="values for each axis; the cases are the product of the lists"
    )
    exclude: list[dict[str, Any]] = Field(
        default=[],
        description="combinations to leave out of the matrix; every key of an item must match",
    )
    include: list[dict[str, Any]] = Field(
        default=[], description="cases to add; each takes the defaults for what it does not say"
    )
    reference: str = Field(
        default="",
        description="pattern of the one case that ratios are relative to (default: the first that "
        "can run)",
        examples=["peleenet@224/opencv-cpu/b1/t1"],
    )
    labels: dict[str, Annotated[str, Field(min_length=1, max_length=60)]] = Field(
        default={},
        description="names of networks in figures and reports: a pattern of case ids each, and the "
        "text that stands for the networks of these cases",
        examples=[{"*/old.onnx*": "June"}],
    )
    devices: Annotated[list[str], BeforeValidator(_devices), WithJsonSchema(_DEVICES_SCHEMA)] = (
        Field(
            default=[],
            description="labels of the boards of a fleet that measure every case, once a label; "
            "each: every board. Without a fleet it has no effect",
        )
    )
    measure: MeasureSection = Field(default={}, validate_default=True)
    gate: GateSection = Field(default={}, validate_default=True)


def suite_file() -> type[SuiteFile]:
    """The form of a suite, with a key for every registered rule of the gate."""
    return _suite_file(tuple(rules()))


@functools.cache
def _suite_file(names: tuple[str, ...]) -> type[SuiteFile]:
    # Discovering rules imports their modules, so it must not happen when this file is imported.
    known = rules()
    shares: dict[str, Any] = {  # by alias, because a rule may have the name of a pydantic method
        f"rule_{name}": (Share | None, Field(None, alias=name, description=known[name].summary))
        for name in names
    }
    gate = create_model("GateSection", __base__=GateSection, __doc__=GateSection.__doc__, **shares)
    section: Any = (gate, Field(default={}, validate_default=True))
    return create_model("SuiteFile", __base__=SuiteFile, __doc__=SuiteFile.__doc__, gate=section)


def _section(path: tuple[str, ...]) -> type[BaseModel]:
    """The form of the section at a path of keys."""
    form: type[BaseModel] = suite_file()
    for key in path:
        inner: Any = form.model_fields[key].annotation
        form = inner
    return form


_MUST_BE = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
}
_LIMITS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def check_form(tree: Tree, problems: Problems) -> SuiteFile | None:
    """Check the form of a suite; if it is wrong, note the mistakes and return None."""
    try:
        return suite_file().model_validate(tree.data)
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            _report(mistake, tree, problems)
    return None


def _report(mistake: Any, tree: Tree, problems: Problems) -> None:
    path, kind, value = mistake["loc"], mistake["type"], mistake["input"]
    context = mistake.get("ctx", {})
    where = tree.where(path)
    if kind == "extra_forbidden":
        where = tree.where_unknown(path)
        fields = _section(path[:-1]).model_fields.items()
        valid = [info.alias or name for name, info in fields]
        name = shown(path[-1])
        sentence = f"unknown key {name}{nearest(str(path[-1]), valid)}; valid: {', '.join(valid)}"
    elif kind == "missing":
        sentence = "is missing"
    elif kind in _MUST_BE:
        sentence = f"must be {_MUST_BE[kind]}, not {shown(value)}"
    elif kind in _LIMITS:
        limit, words = _LIMITS[kind]
        sentence = f"must be {words} {context[limit]:g}, not {shown(value)}"
    elif kind == "value_error":
        sentence = str(context["error"])
    else:
        sentence = f"{mistake['msg']}, not {shown(value)}"
    problems.add(where, sentence)
