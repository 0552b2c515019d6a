"""Stable names for plug-ins: registries, what they hold, and what such things are made of.

What docs/adding.md does, it does with these names. They are stable as those of :mod:`cspbench` are.
A registry finds the modules of other distributions by its entry point group. Names are imported
when they are first used: a spec that imports this module stays light.
"""

from typing import TYPE_CHECKING

from cspbench.core.lazy import lazy_names

if TYPE_CHECKING:
    from cspbench.analysis.metric import (
        GRAPH_METRICS,
        LAYER_METRICS,
        TOTAL_METRICS,
        Facts,
        GraphMetric,
        LayerMetric,
        Place,
        TotalMetric,
        at,
    )
    from cspbench.artifacts.spec import ARTIFACTS, ArtifactKind, Node
    from cspbench.artifacts.tensors import as_list
    from cspbench.backends.common.profiling import RecordingSession
    from cspbench.backends.precisions import PRECISIONS, Precision
    from cspbench.backends.spec import (
        BACKENDS,
        SCOPE,
        Backend,
        BackendSpec,
        ChoosesDevice,
        Compiles,
        DeviceMemory,
        DeviceTimes,
        HostSession,
        LayerProfile,
        LayerProfiler,
        LayerSession,
        LayerTime,
        Pipelines,
        Rehearses,
        Session,
        Throughput,
        Warms,
        Workload,
    )
    from cspbench.core.options import Axis, resolve
    from cspbench.core.registry import Registry
    from cspbench.errors import CspbenchError, InputError, Unavailable, Unsupported
    from cspbench.figures import style
    from cspbench.figures.spec import FIGURES, FigureSpec, NoDataError
    from cspbench.figures.svg import mark_case, mark_points
    from cspbench.jobs.spec import JOBS, CaseRequest, JobKind, PhaseReport, Policy, Request
    from cspbench.machine.devices.spec import DEVICES, Device, PowerSource, Probe
    from cspbench.machine.sensors.spec import (
        SENSORS,
        Publishes,
        Reader,
        Reading,
        Sensor,
    )
    from cspbench.machine.sysfs import read_number, read_text
    from cspbench.models import csp
    from cspbench.models.blocks import Classifier, ConvBnAct
    from cspbench.models.detector import attach, det
    from cspbench.models.spec import (
        MODELS,
        NECKS,
        SOURCES,
        ModelSpec,
        NeckSpec,
        SourceSpec,
        act_axis,
    )
    from cspbench.models.staged import Backbone, Stage
    from cspbench.report import numbers
    from cspbench.report.definitions import Definition
    from cspbench.report.rows import CaseRow
    from cspbench.report.section import SECTIONS, ReportContext, SectionSpec
    from cspbench.suite.rules import RULES, MeasuredRule, StaticRule, grew

#: Module (or package) -> the names (or modules) that it holds, by kind of plug-in.
_HOMES = {
    # What every kind of plug-in needs.
    "cspbench.core.registry": "Registry",
    "cspbench.core.options": "Axis resolve",
    "cspbench.errors": "CspbenchError InputError Unavailable Unsupported",
    # Models, necks, sources of models.
    "cspbench.models.spec": "MODELS NECKS SOURCES ModelSpec NeckSpec SourceSpec act_axis",
    "cspbench.models.blocks": "Classifier ConvBnAct",
    "cspbench.models.staged": "Backbone Stage",
    "cspbench.models.detector": "attach det",
    "cspbench.models": "csp",
    # Metrics.
    "cspbench.analysis.metric": (
        "Facts GRAPH_METRICS LAYER_METRICS TOTAL_METRICS GraphMetric LayerMetric Place TotalMetric "
        "at"
    ),
    # Rules of a gate.
    "cspbench.suite.rules": "RULES MeasuredRule StaticRule grew",
    # Backends.
    "cspbench.backends.spec": (
        "BACKENDS SCOPE Backend BackendSpec ChoosesDevice Compiles DeviceMemory "
        "DeviceTimes HostSession LayerProfile LayerProfiler LayerSession LayerTime Pipelines "
        "Rehearses Session Throughput Warms Workload"
    ),
    "cspbench.backends.precisions": "PRECISIONS Precision",
    "cspbench.backends.common.profiling": "RecordingSession",
    # Kinds of artifact and devices, which a backend's own file may bring.
    "cspbench.artifacts.spec": "ARTIFACTS ArtifactKind Node",
    "cspbench.artifacts.tensors": "as_list",
    "cspbench.machine.devices.spec": "DEVICES Device PowerSource Probe",
    # Kinds of launches.
    "cspbench.jobs.spec": "JOBS CaseRequest JobKind PhaseReport Policy Request",
    # Sensors.
    "cspbench.machine.sensors.spec": "SENSORS Publishes Reader Reading Sensor",
    "cspbench.machine.sysfs": "read_number read_text",
    # Figures.
    "cspbench.figures.spec": "FIGURES FigureSpec NoDataError",
    "cspbench.figures.svg": "mark_case mark_points",
    "cspbench.figures": "style",
    # Sections of the report.
    "cspbench.report.section": "SECTIONS ReportContext SectionSpec",
    "cspbench.report.rows": "CaseRow",
    "cspbench.report.definitions": "Definition",
    "cspbench.report": "numbers",
}

__all__ = [
    "ARTIFACTS", "BACKENDS", "DEVICES", "FIGURES", "GRAPH_METRICS", "JOBS", "LAYER_METRICS",
    "MODELS", "NECKS", "PRECISIONS", "RULES", "SCOPE", "SECTIONS", "SENSORS", "SOURCES",
    "TOTAL_METRICS", "ArtifactKind", "Axis", "Backbone", "Backend", "BackendSpec", "CaseRequest",
    "CaseRow", "ChoosesDevice", "Classifier", "Compiles", "ConvBnAct", "CspbenchError",
    "Definition", "Device", "DeviceMemory", "DeviceTimes", "Facts", "FigureSpec", "GraphMetric",
    "HostSession", "InputError", "JobKind", "LayerMetric", "LayerProfile", "LayerProfiler",
    "LayerSession", "LayerTime", "MeasuredRule", "ModelSpec", "NeckSpec", "NoDataError", "Node",
    "PhaseReport", "Pipelines", "Place", "Policy", "PowerSource", "Precision", "Probe", "Publishes",
    "Reader", "Reading", "RecordingSession", "Registry", "Rehearses", "ReportContext", "Request",
    "SectionSpec", "Sensor", "Session", "SourceSpec", "Stage", "StaticRule", "Throughput",
    "TotalMetric", "Unavailable", "Unsupported", "Warms", "Workload", "act_axis", "as_list", "at",
    "attach", "csp", "det", "grew", "mark_case", "mark_points", "numbers", "read_number",
    "read_text", "resolve", "style",
]  # fmt: skip

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(
        __name__, {name: home for home, names in _HOMES.items() for name in names.split()}
    )
