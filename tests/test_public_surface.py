"""The stable names of ``cspbench`` and ``cspbench.ext``: there, light, typed and documented."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cspbench

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
FIELDS = re.findall(r"^\| `([A-Z]\w+)` \| (.*) \|$", PAGE.partition("| type |")[2], re.MULTILINE)
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
    public = [one for one in importlib.import_module(name).__all__ if one != "__version__"]
    assert [one for one in public if f"`{one}`" not in PAGE and f"`{one}(" not in PAGE] == []


@pytest.mark.parametrize(("name", "fields"), FIELDS)
def test_the_types_have_the_fields_that_the_page_promises(name, fields):
    kind = getattr(cspbench, name)
    there = {*dir(kind), *kind.__annotations__}
    promised = re.findall(r"`(\w+)(?:\(.*?\))?`", fields.partition(";")[0])
    assert [field for field in promised if field not in there] == []


def test_the_page_lists_the_fields_of_every_type():
    assert sorted(name for name, _ in FIELDS) == [
        name for name in cspbench.__all__ if name[0].isupper()
    ]


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
