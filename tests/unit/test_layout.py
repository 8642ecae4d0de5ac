# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The structure of the package: its levels, and that no modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

import grimp
import pytest
from importlinter import configuration
from importlinter.application import use_cases

ROOT = Path(__file__).parents[2]
PACKAGE = "maas_virtualbox"
MAX_COMPONENTS = 23
MAX_LEVELS = 11
MAX_TEST_NAME = 60


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Which modules import which, imports for type checkers included."""
    return grimp.build_graph(PACKAGE, cache_dir=None)


def component(module: str) -> str:
    """The subpackage or the single module below the package that a module belongs to."""
    return module.removeprefix(f"{PACKAGE}.").partition(".")[0]


def test_modules_import_nothing_from_a_higher_level(capsys: pytest.CaptureFixture[str]) -> None:
    # Its command line would also configure logging, for all other tests too.
    configuration.configure()

    passed = use_cases.lint_imports(str(ROOT / "pyproject.toml"), cache_dir=None)

    assert passed, capsys.readouterr().out


def test_modules_never_import_each_other_in_a_circle(graph: grimp.ImportGraph) -> None:
    # The package's __init__ collects public names, and nothing imports it.
    order = graphlib.TopologicalSorter(
        {
            module: graph.find_modules_directly_imported_by(module) - {PACKAGE}
            for module in graph.modules - {PACKAGE}
        }
    )

    order.prepare()  # raises CycleError


def test_components_are_few_and_on_few_levels(graph: grimp.ImportGraph) -> None:
    imports: dict[str, set[str]] = {}
    for module in graph.modules - {PACKAGE}:
        others = map(component, graph.find_modules_directly_imported_by(module) - {PACKAGE})
        imports.setdefault(component(module), set()).update(set(others) - {component(module)})

    depth: dict[str, int] = {}
    for name in graphlib.TopologicalSorter(imports).static_order():
        depth[name] = 1 + max((depth[other] for other in imports[name]), default=0)

    assert len(imports) <= MAX_COMPONENTS
    assert max(depth.values()) <= MAX_LEVELS


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path.relative_to(ROOT / "tests")))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
    ],
)
def test_names_of_tests_have_at_most_60_characters(path: Path) -> None:
    names = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]

    assert names
    assert not [name for name in names if len(name) > MAX_TEST_NAME]
