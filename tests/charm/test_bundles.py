# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The bundles are valid for `juju deploy`: Juju's own library verifies them with the charms."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from maas_virtualbox.config import host_list

from tests.charm import charmcraft, go

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.timeout(
    600
)  # on a new machine, it builds a program with all dependencies

BUNDLES = charmcraft.ROOT / "bundles"
OVERLAY = "two-laptops.yaml"
HERE = Path(__file__).parent
IN_METADATA = ("name", "summary", "description", "provides", "requires", "peers")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Juju's program for the verification of bundles."""
    program = tmp_path_factory.mktemp("go") / "bundle_verify"
    go.build(HERE / "bundle_verify", program)
    return program


@pytest.fixture
def verify(program: Path, tmp_path: Path) -> Callable[..., str]:
    """Return a function that verifies a copy of a bundle, with the charms, and returns errors."""
    shutil.copytree(BUNDLES, tmp_path / "bundles")
    charms = tmp_path / "charms"
    for name in ("maas-region", "postgresql"):
        shutil.copytree(HERE / "samples" / name, charms / name)
    for name in charmcraft.FOLDERS:
        (tmp_path / f"{name}.charm").touch()
        ours = charms / name
        ours.mkdir()
        charm = charmcraft.read(name)
        metadata = {key: charm[key] for key in IN_METADATA if key in charm}
        (ours / "metadata.yaml").write_text(yaml.safe_dump(metadata))
        (ours / "config.yaml").write_text(yaml.safe_dump(charm["config"]))

    def verify(*names: str) -> str:
        paths = [tmp_path / "bundles" / name for name in names]
        done = subprocess.run(
            [program, "-charms", charms, *paths],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode == 0) == (not done.stderr)
        return done.stderr

    return verify


@pytest.mark.parametrize("overlays", [(), (OVERLAY,)], ids=["alone", OVERLAY])
@pytest.mark.parametrize(
    "bundle", sorted(path.name for path in BUNDLES.glob("*.yaml") if path.name != OVERLAY)
)
def test_bundle_is_valid_for_juju(
    verify: Callable[..., str], bundle: str, overlays: tuple[str, ...]
) -> None:
    assert not verify(bundle, *overlays)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("enable_rack_mode:", "rack_mode:", '"rack_mode"'),
        ("enable_rack_mode: true", "enable_rack_mode: often", "expected boolean"),
        ("[maas-region:maas-db,", "[maas-region:cos-agent,", "cos-agent"),
        ("postgresql:database]", "postgres:database]", '"postgres"'),
        ('to: ["1"]', 'to: ["0"]', 'machine "1" is not referred to'),
        ("to: [maas-region/0]", "to: [maas-region/1]", "greater than"),
        ("../maas-virtualbox.charm", "../other.charm", "does not exist"),
        ("num_units: 1", "units: 1", "units"),
        ("vm-count: 4", "vms: 4", '"vms"'),
        ("virtualbox-host:virtualbox-hosts]", "virtualbox-host:hosts]", "hosts"),
        ("../virtualbox-host.charm", "../laptop.charm", "does not exist"),
        ("ubuntu@24.04/stable", "noble", "noble"),
    ],
)
def test_bundle_with_a_mistake_is_rejected(
    verify: Callable[..., str], tmp_path: Path, right: str, wrong: str, message: str
) -> None:
    path = tmp_path / "bundles" / "demo.yaml"
    content = path.read_text()
    assert right in content
    path.write_text(content.replace(right, wrong))
    assert message in verify("demo.yaml")


def test_bundle_with_an_unknown_option_is_rejected(
    verify: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "bundles" / OVERLAY
    path.write_text(path.read_text().replace("hosts:", "host:"))
    assert '"host"' in verify("demo.yaml", OVERLAY)


def test_bundle_places_the_charm_on_the_machine_of_maas() -> None:
    bundle: dict[str, Any] = yaml.safe_load((BUNDLES / "demo.yaml").read_text())
    assert bundle["applications"]["maas-virtualbox"]["to"] == ["maas-region/0"]


@pytest.mark.parametrize("path", sorted(BUNDLES.glob("*.yaml")), ids=lambda path: path.name)
def test_bundle_comments_have_existing_commands(path: Path) -> None:
    charmcraft.assert_commands_exist(path.read_text().replace("\n#", " "))


def test_bundle_overlay_has_a_valid_host_list() -> None:
    overlay: dict[str, Any] = yaml.safe_load((BUNDLES / OVERLAY).read_text())
    listed = host_list.parse_hosts(overlay["applications"]["maas-virtualbox"]["options"]["hosts"])
    assert [(str(host), host.zone) for host in listed] == [
        ("izMBP13", "izMBP13"),
        ("izMBP15", "izMBP15"),
    ]
