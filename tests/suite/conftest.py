"""A small catalog of invented models, necks and backends, so that suites are tested alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cspbench.core.options import Axis
from cspbench.core.registry import Registry
from cspbench.errors import InputError
from cspbench.models.spec import ModelSpec, NeckSpec, SourceSpec
from cspbench.suite.catalog import Catalog
from cspbench.suite.load import load_suite
from cspbench.suite.suite import Suite

GAMMA = Axis("gamma", 0.5, "fraction")
FUSION = Axis("fusion", "csp", "choice", ("csp", "first", "last"))
ACT = Axis("act", "relu", "choice", ("relu", "swish"))


@dataclass(frozen=True)
class FakeBackend:
    name: str
    axes: tuple[Axis, ...] = ()
    summary: str = "invented"
    artifact: str = "onnx"

    def available(self) -> str | None:
        return None

    def load(self, artifact: Path, options: Any, threads: int) -> Any:
        raise AssertionError("a suite never loads a model")


def model(name: str, **facts: Any) -> ModelSpec:
    def build(options: Any) -> Any:
        raise AssertionError("a suite never builds a model")

    return ModelSpec(name, "invented", "no paper", "open", build, **facts)


def neck(name: str, **facts: Any) -> NeckSpec:
    return NeckSpec(
        name, "invented", "no paper", "open", lambda backbone, options: backbone, **facts
    )


def whole_widths(options: Mapping[str, Any]) -> str | None:
    """128 channels split by gamma must give whole widths: 0.3 x 128 = 38.4 does not."""
    gamma = options["csp.gamma"]
    if options["csp.fusion"] == "none" or (gamma * 128).is_integer():
        return None
    return f"csp.gamma {gamma:g} splits 128 channels into {gamma * 128:g}, which is not whole"


def external_spec(target: str) -> ModelSpec:
    if not Path(target).is_file():
        raise InputError(f"{target}: no such file")
    return model("external", input=128, stride=8, min_input=8)


@pytest.fixture
def catalog() -> Catalog:
    """plain and staged take necks; csp has gamma and fusion; whole is a whole detector."""
    made = Catalog(
        Registry("model", (), "cspbench.tests.none"),
        Registry("neck", (), "cspbench.tests.none"),
        Registry("backend", (), "cspbench.tests.none"),
        Registry("source", (), "cspbench.tests.none"),
    )
    made.models.add(model("plain", necks=True))
    made.models.add(model("csp", axes=(GAMMA, FUSION), necks=True))
    made.models.add(model("staged", staged=True, necks=True, check=whole_widths))
    made.models.add(model("whole", input=416, task="detection", axes=(ACT,)))
    made.necks.add(neck("prn", axes=(ACT,)))
    made.necks.add(neck("prn-3l"))
    made.backends.add(
        FakeBackend("cpu", (Axis("engine", "auto", "choice", ("auto", "classic", "new")),))
    )
    made.backends.add(
        FakeBackend(
            "cuda",
            (
                Axis("mode", "eager", "choice", ("eager", "fused")),
                Axis("precision", "fp32", "choice", ("fp32", "tf32", "fp16")),
            ),
        )
    )
    made.sources.add(SourceSpec("file", "invented", external_spec, lambda target, options: None))
    return made


Load = Callable[..., Suite]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> Load:
    """``load(text, **overrides)`` loads a suite file ``x.yaml`` of that text (or bytes)."""
    monkeypatch.chdir(tmp_path)

    def do(text: str | bytes, overrides: Mapping[str, object] | None = None) -> Suite:
        Path("x.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return load_suite(Path("x.yaml"), overrides, catalog)

    return do


@pytest.fixture
def mistakes(load: Load) -> Callable[..., list[str]]:
    """``mistakes(text)`` gives the sentences about a wrong suite."""

    def do(text: str | bytes, overrides: Mapping[str, object] | None = None) -> list[str]:
        with pytest.raises(InputError) as caught:
            load(text, overrides)
        return list(caught.value.problems)

    return do
