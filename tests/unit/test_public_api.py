# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What a program sees of the package: names, help texts and reprs."""

from __future__ import annotations

import importlib.metadata
import inspect
import pydoc
import re
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox import errors
from maas_virtualbox.virtualbox.states import VMState

from tests.vms import A, vm

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS = (types.FunctionType, classmethod, property, staticmethod)
NAMES = [name for name in mv.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def help_text() -> str:
    """What `help(maas_virtualbox)` prints."""
    return pydoc.plain(pydoc.render_doc(mv))


def first_line(name: str) -> str:
    """The first line of the docstring of a public name."""
    return (inspect.getdoc(getattr(mv, name)) or "").splitlines()[0]


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_signature_and_docstring(help_text: str, name: str) -> None:
    entry = re.search(rf"^    (class )?{name}\(", help_text, re.MULTILINE)

    assert entry is not None
    assert first_line(name) in help_text[entry.start() :]


def test_help_shows_no_other_names(help_text: str) -> None:
    shown = re.findall(r"^    (?:class )?([^\W_]\w*)\(.*\)?$", help_text, re.MULTILINE)

    assert sorted(set(shown)) == sorted(NAMES)


def test_help_shows_the_version(help_text: str) -> None:
    assert f"VERSION\n    {mv.__version__}\n" in help_text
    assert mv.__version__ == importlib.metadata.version("maas-virtualbox")


def test_dir_lists_all_public_names() -> None:
    assert set(mv.__all__) <= set(dir(mv))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Fleets'"):
        getattr(mv, "Fleets")  # noqa: B009


def test_import_of_errors_loads_no_paramiko() -> None:
    program = (
        "import sys, maas_virtualbox as mv; mv.HostDown, mv.parse_hosts, mv.PowerPolicy;"
        "print({'paramiko', 'maas_virtualbox.host'} & sys.modules.keys())"
    )

    output = subprocess.check_output([sys.executable, "-c", program], text=True)

    assert output == "set()\n"


def public_methods(name: str) -> Iterator[str]:
    """The public methods and properties of a class."""
    public: object = getattr(mv, name)
    for attribute, value in vars(public).items():
        if not attribute.startswith("_") and isinstance(value, METHODS):
            yield attribute


@pytest.mark.parametrize("name", NAMES)
def test_public_methods_have_docstrings(name: str) -> None:
    public = getattr(mv, name)

    for method in public_methods(name):
        assert inspect.getdoc(getattr(public, method)), method


def test_methods_of_fleet_are_in_alphabetical_order() -> None:
    methods = list(public_methods("Fleet"))

    assert methods == sorted(methods)


@pytest.mark.parametrize(
    "error", [value for value in vars(errors).values() if inspect.isclass(value)]
)
def test_error_says_whether_to_retry(error: type[Exception]) -> None:
    if issubclass(error, mv.Error) and error not in (mv.Error, mv.HostError):
        assert re.search("(?i)retry|permanent", error.__doc__ or ""), error


def test_repr_of_a_vm() -> None:
    node = vm("node1", uuid="95581d29-3e5e-472e-8f12-f452e8095714")

    assert repr(node) == (
        "<VM a/node1 {95581d29-3e5e-472e-8f12-f452e8095714}: poweroff, power off>"
    )
    assert node.state is VMState.POWEROFF


def test_reprs_of_a_fleet_and_its_parts() -> None:
    down = errors.HostUnreachable("a", "connection refused")

    with mv.Fleet([A]) as fleet:
        assert repr(fleet) == "<Fleet of a>"
        assert repr(fleet.hosts[0]) == "<VirtualBoxHost a: ivan@10.0.0.5>"
        assert repr(fleet.hosts[0].transport) == "<SSHTransport ivan@10.0.0.5: not connected>"
    assert repr(fleet.hosts[0].transport) == "<SSHTransport ivan@10.0.0.5: closed>"
    assert repr(mv.HostReport(A, (vm("node1"),), None, 0.1)) == "<HostReport a: 1 VM>"
    assert repr(mv.HostReport(A, (), down, 0.1)) == (
        "<HostReport a: HostUnreachable('a: connection refused')>"
    )
    assert repr(mv.VMResult("node1", None, 0.42)) == "<VMResult node1: done in 0.4 s>"
