"""The stable names of ``cspbench`` and ``cspbench.ext``: there, light, typed and documented."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "cv2", "pandas", "matplotlib", "numpy", "onnx", "scipy")
SURFACES = ("cspbench", "cspbench.ext")


def imported_for_types(module):
    """Names that the module imports under ``if TYPE_CHECKING``, which is what type checkers see."""
    tree = ast.parse(Path(module.__file__).read_text())
    branches = [node for node in tree.body if isinstance(node, ast.If)]
    [block] = [node for node in branches if ast.unparse(node.test) == "TYPE_CHECKING"]
    return [name.name for line in block.body for name in line.names]


@pytest.mark.parametrize("name", SURFACES)
def test_what_type_checkers_see_is_what_there_is(name):
    module = importlib.import_module(name)
    public = [one for one in module.__all__ if one != "__version__"]
    assert sorted(imported_for_types(module)) == sorted(public)
    assert set(public) <= set(dir(module))
    for one in public:
        assert getattr(module, one) is not None


@pytest.mark.parametrize("name", SURFACES)
def test_every_name_is_on_the_page(name):
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    public = [one for one in importlib.import_module(name).__all__ if one != "__version__"]
    assert [one for one in public if f"`{one}`" not in page and f"`{one}(" not in page] == []


@pytest.mark.parametrize("name", SURFACES)
def test_an_unknown_name_is_an_attribute_error(name):
    module = importlib.import_module(name)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'nothing'"):
        _ = module.nothing


def test_importing_the_surface_is_light():
    code = f"""
import sys, cspbench, cspbench.ext
cspbench.ext.MODELS, cspbench.ext.BACKENDS, cspbench.ext.FIGURES, cspbench.ext.SECTIONS
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (found.stdout.strip(), found.stderr) == ("[]", "")
