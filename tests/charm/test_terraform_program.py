# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The Terraform module: Terraform itself validates and tries it, against the provider's schemas.

No package registry has Terraform: these tests are collected only where it is installed, and
`test_terraform.py` checks everywhere what can be checked without it.

The provider is not to be had everywhere: a fake serves its recorded schemas, and Terraform's
own mocks answer for it. The module's tests, terraform/tests, run as well with the real one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.charm import charmcraft, go

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(
    600
)  # on a new machine, it builds a program with all dependencies

MODULE = charmcraft.ROOT / "terraform"
DEMO = Path("examples/demo")
HERE = Path(__file__).parent
MODEL = "6b8f1c1e-6d0c-4c1e-8e0e-3c1f6c0f2a11"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The configuration with which Terraform uses the fake provider, and not the network."""
    folder = tmp_path_factory.mktemp("terraform")
    go.build(HERE / "terraform_provider", folder / "terraform-provider-juju")
    config = folder / "terraformrc"
    config.write_text(
        f'provider_installation {{\n  dev_overrides {{ "juju/juju" = "{folder}" }}\n}}\n'
    )
    return {
        **os.environ,
        "CHECKPOINT_DISABLE": "1",
        "JUJU_PROVIDER_SCHEMA": str(HERE / "samples" / "terraform-provider-juju.json"),
        "TF_CLI_CONFIG_FILE": str(config),
        "TF_IN_AUTOMATION": "1",
    }


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Return a copy of the module, because Terraform writes into its folder."""
    return Path(shutil.copytree(MODULE, tmp_path / "terraform"))


@pytest.fixture
def terraform(
    environment: dict[str, str], module: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs terraform in a folder of the copy."""

    def run(
        *arguments: str, folder: Path | str = ".", stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["terraform", *arguments],
            cwd=module / folder,
            env=environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture
def problems(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., list[str]]:
    """Return a function that validates a folder and returns errors and deprecations."""

    def problems(folder: Path | str = ".") -> list[str]:
        report = json.loads(terraform("validate", "-json", folder=folder).stdout)
        return [
            f"{diagnostic['summary']}: {diagnostic.get('detail', '')}"
            for diagnostic in report["diagnostics"]
            if diagnostic["summary"] != "Provider development overrides are in effect"
        ]

    return problems


@pytest.fixture
def evaluate(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., Any]:
    """Return a function that evaluates an expression in a folder."""

    def evaluate(expression: str, *, folder: Path | str = ".", **variables: str) -> Any:
        given = [f"-var={name}={value}" for name, value in variables.items()]
        done = terraform("console", *given, folder=folder, stdin=f"jsonencode({expression})\n")
        assert done.returncode == 0, done.stderr
        return json.loads(json.loads(done.stdout))

    return evaluate


def test_terraform_files_are_formatted(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = terraform("fmt", "-check", "-diff", "-recursive")
    assert done.returncode == 0, done.stdout


def test_terraform_module_is_valid(problems: Callable[..., list[str]]) -> None:
    assert not problems()


def test_terraform_demo_is_valid(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
    problems: Callable[..., list[str]],
) -> None:
    assert terraform("get", folder=DEMO).returncode == 0
    assert not problems(DEMO)


def test_terraform_module_passes_its_own_tests(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = terraform("test", "-no-color")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed, 0 failed" in done.stdout


@pytest.mark.parametrize(
    ("file", "right", "wrong", "message"),
    [
        ("main.tf", "machines    = var.machines", "placement = var.machines", '"placement"'),
        ("main.tf", "model_uuid = var.model_uuid\n", "", '"model_uuid" is required'),
        ("main.tf", "var.constraints", "var.constraint", '"constraint"'),
        ("main.tf", "  config =", '  charm { name = "b" }\n  config =', "exactly one charm block"),
        ("main.tf", "[juju_application.this.name]", "{}", '"applications": set of string'),
        ("outputs.tf", "this.name", "this.app", '"app"'),
    ],
)
def test_terraform_finds_a_mistake_in_the_module(
    problems: Callable[..., list[str]],
    module: Path,
    file: str,
    right: str,
    wrong: str,
    message: str,
) -> None:
    content = (module / file).read_text()
    assert right in content
    (module / file).write_text(content.replace(right, wrong))
    assert message in "\n".join(problems())


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("var.machines == null ? var.units : null", "var.units", "machines cannot be specified"),
        ("=> secret.secret_uri", "=> secret.secret_id", "are not the URIs"),
        ('"api-key"', '"key"', "do not have the keys"),
        ("[juju_application.this.name]", '["maas-virtualbox"]', "has no access to its secrets"),
        ("${var.app_name}-${each.key}", "${each.key}", "would conflict with those of another"),
    ],
)
def test_terraform_module_tests_find_a_mistake(
    terraform: Callable[..., subprocess.CompletedProcess[str]],
    module: Path,
    right: str,
    wrong: str,
    message: str,
) -> None:
    content = (module / "main.tf").read_text()
    assert right in content
    (module / "main.tf").write_text(content.replace(right, wrong))
    done = terraform("test", "-no-color")
    assert done.returncode != 0
    assert message in done.stderr


def test_terraform_outputs_have_all_endpoints(evaluate: Callable[..., Any]) -> None:
    charm = charmcraft.read()
    for role in ("provides", "requires"):
        outputs = evaluate(f"local.{role}", model_uuid=MODEL)
        assert sorted(outputs.values()) == sorted(charm[role])
        assert all(name == endpoint.replace("-", "_") for name, endpoint in outputs.items())


def test_terraform_module_has_all_secrets_of_the_charm(
    evaluate: Callable[..., Any],
) -> None:
    options = charmcraft.read()["config"]["options"]
    secrets = {name for name, option in options.items() if option["type"] == "secret"}
    assert set(evaluate("keys(local.secrets)", model_uuid=MODEL)) == secrets


def test_terraform_demo_has_existing_options(
    terraform: Callable[..., subprocess.CompletedProcess[str]], evaluate: Callable[..., Any]
) -> None:
    terraform("get", folder=DEMO)
    options = evaluate("local.options", folder=DEMO, hosts="ivan@a", maas_url="http://a/MAAS")
    assert options == {"hosts": "ivan@a", "maas-url": "http://a/MAAS"}
    assert set(options) <= set(charmcraft.read()["config"]["options"])
    options = evaluate("local.virtualbox_host_options", folder=DEMO, hosts="ivan@a")
    assert set(options) <= set(charmcraft.read("virtualbox-host")["config"]["options"])
    assert evaluate("local.options", folder=DEMO, hosts="ivan@a") == {"hosts": "ivan@a"}
