# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of MAAS's webhook power type, with which MAAS controls the power of a VM."""

from __future__ import annotations

import dataclasses
import ipaddress
import shlex
import socket

from maas_virtualbox import errors
from maas_virtualbox.config.config_file import Listen

POWER_TYPE = "webhook"

ROUTES = "/vm/"
"""The path of each VM's routes: `/vm/UUID/on`, `/vm/UUID/off` and `/vm/UUID/query`."""

ON_REGEX, OFF_REGEX = r"status.*\:.*running", r"status.*\:.*stopped"
"""MAAS's defaults. The power service's responses match them."""


@dataclasses.dataclass(frozen=True)
class PowerParameters:
    """A machine's power parameters, by MAAS's names.

    Each VM has its own URIs, because MAAS rejects a machine with the same parameters as another.
    """

    power_on_uri: str
    power_off_uri: str
    power_query_uri: str
    power_token: str = dataclasses.field(repr=False)
    power_on_regex: str = ON_REGEX
    power_off_regex: str = OFF_REGEX
    power_verify_ssl: str = "n"
    """`y` verifies the certificate with the system CAs of the rack. They do not include a private
    CA."""

    @classmethod
    def of(cls, uuid: str, token: str, *, address: str, port: int, tls: bool) -> PowerParameters:
        """Return the parameters of a VM whose service has this literal IP address and port."""
        base = f"{'https' if tls else 'http'}://{Listen(address, port)}{ROUTES}{uuid}"
        return cls(f"{base}/on", f"{base}/off", f"{base}/query", token)

    def maas_command(self, system_id: str = "$SYSTEM_ID", profile: str = "$PROFILE") -> str:
        """Return the shell command that sets them with MAAS's own client."""
        arguments = [f"power_type={POWER_TYPE}", "power_parameters_skip_check=true"]
        arguments += [
            f"power_parameters_{name}={value}" for name, value in dataclasses.asdict(self).items()
        ]
        return f"maas {profile} machine update {system_id} {shlex.join(arguments)}"


def address_problem(address: str) -> str:
    """Return why MAAS cannot use an address; empty if it can.

    Raises:
        ConfigError: the address is not a literal IP address. MAAS does not poll names.
    """
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise errors.ConfigError(
            f"--address: expected a literal IP address, not {address!r}: MAAS does not poll names"
        ) from None
    if loopback:
        return f"MAAS cannot reach {address}: use --address with an IP that its racks can reach"
    return ""


def reachable_address(listen: Listen) -> str:
    """Return the literal IP address at which MAAS reaches a service that listens there.

    For `0.0.0.0` and `::`, this is the address of the interface with the default route.

    Raises:
        ConfigError: this machine has no default route.
    """
    address = listen.address
    if ipaddress.ip_address(address).is_unspecified:
        is_v6 = ":" in address
        family, target = (
            (socket.AF_INET6, "2001:db8::1") if is_v6 else (socket.AF_INET, "192.0.2.1")
        )
        # Connecting a datagram socket sends nothing. It only looks up a route in the kernel.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))
            except OSError:
                raise errors.ConfigError(
                    f"listen: cannot determine at which of all addresses ({listen}) MAAS reaches"
                    " this machine: use --address IP"
                ) from None
            address = probe.getsockname()[0]
    return address
