"""Packages import one way: every import of ``cspbench/`` is held to the table of the architecture.

Imports for type checkers only (``if TYPE_CHECKING``) are no imports. ``cspbench/__init__`` and
``ext`` name things lazily and are left out.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
#: Rows of the table of packages: | `core/` | ...
ORDER = re.findall(
    r"^\| `(\w+)(?:/|\.py)` \|", PAGE.split("## Packages")[1].split("\n## ")[0], re.M
)


#: They name things of every package.
NO_PACKAGE = ("cspbench", "cspbench.__main__", "cspbench.ext")


def modules():
    """Every module by its dotted name, with its file."""
    found = {}
    for path in (ROOT / "cspbench").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: path for name, path in found.items() if name not in NO_PACKAGE}


MODULES = modules()


def package(module):
    return module.split(".")[1]


def imports(module):
    """Dotted names that a module imports from ours, with the names taken from each."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cspbench."):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield (whole, "") if whole in MODULES else (node.module, alias.name)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_packages_above_its_own_and_no_private_names(module):
    own = package(module)
    for imported, name in imports(module):
        other = package(imported)
        assert ORDER.index(other) <= ORDER.index(own), f"{module} imports {imported}"
        private = any(part.startswith("_") for part in [*imported.split("."), name])
        assert other == own or not private, f"{module} imports {imported} {name}"


def test_no_files_import_each_other_in_a_circle():
    graph = {module: {name for name, _ in imports(module)} - {module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")
