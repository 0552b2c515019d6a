"""The notebooks of examples/ run from top to bottom and draw what they promise."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def kinds(notebook):
    """Media types of the outputs of each code cell."""
    return [
        {kind for output in cell.outputs for kind in output.get("data", {})}
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_runs_and_shows_what_is_stored_with_it(path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    stored = nbformat.read(path, as_version=4)
    again = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(path.parent)}}
    # An exception in a cell is an exception here.
    NotebookClient(again, timeout=600, kernel_name="python3", resources=resources).execute()
    assert kinds(again) == kinds(stored)
    assert any("image/png" in found for found in kinds(again))


def test_there_is_a_notebook():
    assert [path.name for path in NOTEBOOKS] == ["own_figure.ipynb"]
