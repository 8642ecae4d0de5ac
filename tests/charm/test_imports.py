# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The import graph of both charms has no cycle. Imports for types count too."""

from __future__ import annotations

import ast
import graphlib
from typing import TYPE_CHECKING

import pytest

from tests.charm.charmcraft import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

every_charm = pytest.mark.parametrize("folder", ["charm", "virtualbox-host"])


@every_charm
def test_imports_have_no_cycle(folder: str) -> None:
    graph = import_graph(ROOT / folder)

    graphlib.TopologicalSorter(graph).prepare()


@every_charm
def test_actions_do_not_import_the_charm(folder: str) -> None:
    graph = import_graph(ROOT / folder)
    package = "" if folder == "charm" else "virtualbox_host."

    assert f"{package}actions" in graph[f"{package}charm"]
    importers = {module for module, imports in graph.items() if f"{package}charm" in imports}
    assert importers <= {"charm"}


def test_import_graph_finds_a_cycle(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("if TYPE_CHECKING:\n    from b import B\n")
    (tmp_path / "b.py").write_text("def f():\n    import a\n")

    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(import_graph(tmp_path)).prepare()


@every_charm
def test_charm_module_is_short(folder: str) -> None:
    (path,) = (
        path for path in (ROOT / folder).rglob("charm.py") if "ops.CharmBase" in path.read_text()
    )

    assert len(path.read_text().splitlines()) < 200


def import_graph(folder: Path) -> Mapping[str, set[str]]:
    """Return which modules of a folder each of its modules imports."""
    files = {module_name(folder, path): path for path in folder.rglob("*.py")}
    return {module: set(imports(path)) & files.keys() - {module} for module, path in files.items()}


def module_name(folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Yield every name that a file imports, anywhere in it, with and without its last part."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            # `from package import module` needs the module, not what the package imports.
            if not all(is_module(path, node.module, alias.name) for alias in node.names):
                yield node.module


def is_module(importer: Path, package: str, name: str) -> bool:
    return any((folder / package / f"{name}.py").exists() for folder in importer.parents)
