# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What MAAS has to know of a VM to switch it: the parameters of its webhook power type."""

from __future__ import annotations

import dataclasses
import ipaddress
import shlex
import socket

from maas_virtualbox import errors
from maas_virtualbox.config.config_file import Listen

POWER_TYPE = "webhook"

ROUTES = "/vm/"
"""The path under which every VM has its routes: `/vm/UUID/on`, `…/off` and `…/query`."""

ON_REGEX, OFF_REGEX = r"status.*\:.*running", r"status.*\:.*stopped"
"""MAAS's defaults, which the service's answers are made for."""


@dataclasses.dataclass(frozen=True)
class PowerParameters:
    """A machine's power parameters, under MAAS's own names.

    The three URIs are of this VM alone: MAAS takes machines with equal parameters for one.
    """

    power_on_uri: str
    power_off_uri: str
    power_query_uri: str
    power_token: str = dataclasses.field(repr=False)
    power_on_regex: str = ON_REGEX
    power_off_regex: str = OFF_REGEX
    power_verify_ssl: str = "n"
    """`y` checks a certificate against the rack's system CAs; a private CA is not among them."""

    @classmethod
    def of(cls, uuid: str, token: str, *, address: str, port: int, tls: bool) -> PowerParameters:
        """Return the parameters of the VM `uuid`, served at a literal IP address and a port."""
        base = f"{'https' if tls else 'http'}://{Listen(address, port)}{ROUTES}{uuid}"
        return cls(f"{base}/on", f"{base}/off", f"{base}/query", token)

    def maas_command(self, system_id: str = "$SYSTEM_ID", profile: str = "$PROFILE") -> str:
        """Return the command line of MAAS's own client that sets them, for a shell."""
        words = [f"power_type={POWER_TYPE}", "power_parameters_skip_check=true"]
        words += [
            f"power_parameters_{name}={value}" for name, value in dataclasses.asdict(self).items()
        ]
        return f"maas {profile} machine update {system_id} {shlex.join(words)}"


def address_problem(address: str) -> str:
    """Return why MAAS would not use an address, or nothing.

    Raises:
        ConfigError: it is no literal IP address, and MAAS polls nothing else.
    """
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        raise errors.ConfigError(
            f"--address: expected a literal IP address, not {address!r}: MAAS polls no names"
        ) from None
    if loopback:
        return f"MAAS cannot reach {address}: use --address with an IP that its racks can reach"
    return ""


def reachable_address(listen: Listen) -> str:
    """Return the literal IP address under which MAAS reaches a service that listens there.

    For `0.0.0.0` and `::` it is the address of the interface with the default route.

    Raises:
        ConfigError: this machine has no such address.
    """
    address = listen.address
    if ipaddress.ip_address(address).is_unspecified:
        v6 = ":" in address
        family, somewhere = (
            (socket.AF_INET6, "2001:db8::1") if v6 else (socket.AF_INET, "192.0.2.1")
        )
        # Connecting a datagram socket sends nothing: it only asks the kernel for a route.
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((somewhere, 9))
            except OSError:
                raise errors.ConfigError(
                    f"listen: {listen} stands for all addresses, and which one MAAS reaches"
                    " cannot be told: say --address IP"
                ) from None
            address = probe.getsockname()[0]
    return address
