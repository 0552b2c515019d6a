"""docs/models.md is what benchmarks/models_page.py writes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from cspbench.models.spec import MODELS, NECKS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setenv("CSPBENCH_CACHE", str(tmp_path))
    spec = importlib.util.spec_from_file_location("models_page", ROOT / "benchmarks/models_page.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_page_is_up_to_date(page):
    text = page.PAGE.read_text("utf-8")
    assert page.rendered(text) == text, "run python benchmarks/models_page.py"


def test_page_names_everything():
    text = (ROOT / "docs/models.md").read_text("utf-8")
    for name in [*MODELS.names(), *NECKS.names()]:
        assert f"| `{name}` |" in text
