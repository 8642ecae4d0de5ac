# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The Terraform files match the provider's recorded schemas and the charms.

No package registry has Terraform itself. If it is installed, `test_terraform_program.py` runs it.
The tests in this file do not need it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any, cast

import hcl2
import pytest

from tests.charm import charmcraft

MODULE = charmcraft.ROOT / "terraform"
DEMO = MODULE / "examples" / "demo"
SCHEMAS = Path(__file__).parent / "samples" / "terraform-provider-juju.json"

_META = {"for_each", "count", "depends_on", "provider", "lifecycle"}
"""The arguments of every resource."""
_REFERENCE = re.compile(
    r"\b(?:(var|local)\.([a-z_0-9]+)|(juju_[a-z_]+)\.([a-z_0-9]+)(?:\.([a-z_0-9]+))?)"
)


def schemas() -> dict[str, Any]:
    """Return the schema of each resource of the provider."""
    providers = json.loads(SCHEMAS.read_text())["provider_schemas"]
    resources = providers["registry.terraform.io/juju/juju"]["resource_schemas"]
    return {name: schema["block"] for name, schema in resources.items()}


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The content of the files of one folder."""

    blocks: dict[str, list[dict[str, Any]]]
    """The blocks by type: variable, locals, resource, output, module, …"""
    text: str

    @classmethod
    def read(cls, folder: Path) -> Configuration:
        blocks: dict[str, list[dict[str, Any]]] = {}
        text = ""
        for file in sorted(folder.glob("*.tf")):
            content = file.read_text()
            # Comments and descriptions contain no references.
            text += re.sub(r'#.*|description *= *".*"', "", content) + "\n"
            for kind, found in _parse(content).items():
                if not kind.startswith("__"):
                    blocks.setdefault(kind, []).extend(_plain(found))
        return cls(blocks, text)

    def labelled(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the blocks of a type with one label, by label."""
        return {name: body for block in self.blocks.get(kind, ()) for name, body in block.items()}

    def locals(self) -> dict[str, Any]:
        """Return the local values."""
        return {
            name: value for block in self.blocks.get("locals", ()) for name, value in block.items()
        }

    def resources(self) -> dict[tuple[str, str], dict[str, Any]]:
        """Return the resources by type and name."""
        return {
            (kind, name): body
            for block in self.blocks.get("resource", ())
            for kind, named in block.items()
            for name, body in named.items()
        }

    def problems(self) -> list[str]:
        """Return the errors."""
        known = schemas()
        found: list[str] = []
        for (kind, name), body in self.resources().items():
            if kind not in known:
                found.append(f"{kind}.{name}: the provider has no such resource")
            else:
                found += _problems(f"{kind}.{name}", body, known[kind], _META)
        for use in _REFERENCE.finditer(self.text):
            scope, value, kind, name, attribute = use.groups()
            if scope == "var" and value not in self.labelled("variable"):
                found.append(f"var.{value} is not declared")
            elif scope == "local" and value not in self.locals():
                found.append(f"local.{value} is not defined")
            elif kind and (kind, name) not in self.resources():
                found.append(f"{kind}.{name} is not defined")
            elif kind and attribute and attribute not in known[kind]["attributes"]:
                found.append(f"{kind}.{name} has no attribute {attribute}")
        return found


def _problems(
    where: str, body: dict[str, Any], schema: dict[str, Any], beside: set[str]
) -> list[str]:
    attributes: dict[str, Any] = schema.get("attributes", {})
    inner: dict[str, Any] = schema.get("block_types", {})
    found = [
        f"{where}: unknown {name}"
        for name in body.keys() - attributes.keys() - inner.keys() - beside
    ]
    found += [
        f"{where}: {name} is required"
        for name, attribute in attributes.items()
        if attribute.get("required") and name not in body
    ]
    for name, block in inner.items():
        for inner_body in body.get(name, ()):
            found += _problems(f"{where}: {name}", inner_body, block["block"], set())
    return found


def _parse(content: str) -> dict[str, Any]:
    return cast("dict[str, Any]", hcl2.loads(content))  # pyright: ignore[reportUnknownMemberType]


def _plain(value: Any) -> Any:
    """Remove what the parser adds: quotes around strings, comments, marks of blocks."""
    if isinstance(value, dict):
        items = cast("dict[str, Any]", value).items()
        return {_plain(name): _plain(item) for name, item in items if not name.startswith("__")}
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Any]", value)]
    if isinstance(value, str) and value[:1] == value[-1:] == '"':
        return value[1:-1]
    return value


@pytest.mark.parametrize("folder", [MODULE, DEMO], ids=["module", "demo"])
def test_terraform_files_match_the_provider(folder: Path) -> None:
    assert Configuration.read(folder).problems() == []


@pytest.mark.parametrize(
    ("file", "right", "wrong", "problem"),
    [
        ("main.tf", "machines    = var", "placement = var", "unknown placement"),
        ("main.tf", "model_uuid = var.model_uuid\n", "", "model_uuid is required"),
        ("main.tf", "var.constraints", "var.constraint", "var.constraint is not declared"),
        ("main.tf", "local.given", "local.gave", "local.gave is not defined"),
        ("main.tf", "base     = var.base", "bass     = var.base", "charm: unknown bass"),
        ("outputs.tf", "this.name", "this.app", "has no attribute app"),
        ("outputs.tf", "juju_application.this", "juju_application.that", "that is not defined"),
    ],
)
def test_terraform_files_with_a_mistake_are_rejected(
    tmp_path: Path, file: str, right: str, wrong: str, problem: str
) -> None:
    module = Path(shutil.copytree(MODULE, tmp_path / "terraform"))
    content = (module / file).read_text()
    assert right in content
    (module / file).write_text(content.replace(right, wrong))

    assert problem in "\n".join(Configuration.read(module).problems())


def test_terraform_endpoints_are_those_of_the_charm() -> None:
    values, charm = Configuration.read(MODULE).locals(), charmcraft.read()

    for role in ("provides", "requires"):
        assert sorted(values[role].values()) == sorted(charm[role])
        assert all(key == name.replace("-", "_") for key, name in values[role].items())


def test_terraform_secrets_are_those_of_the_charm() -> None:
    options = charmcraft.read()["config"]["options"]

    assert set(Configuration.read(MODULE).locals()["secrets"]) == {
        name for name, option in options.items() if option["type"] == "secret"
    }


def test_terraform_demo_sets_existing_options() -> None:
    demo = Configuration.read(DEMO).locals()
    options = set(re.findall(r"[{,] *([a-z-]+) *= *var\.", demo["options"]))

    assert options == {"hosts", "maas-url"}
    assert options <= set(charmcraft.read()["config"]["options"])
    options = charmcraft.read("virtualbox-host")["config"]["options"]
    assert set(demo["virtualbox_host_options"]) <= set(options)


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.md")), ids=lambda path: path.parent.name)
def test_terraform_page_has_existing_commands(path: Path) -> None:
    charmcraft.assert_commands_exist(path.read_text())
