# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Generates docs/reference/charm.md from charmcraft.yaml: `make docs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ROOT = Path(__file__).parents[1]

PAGE = _ROOT / "docs" / "reference" / "charm.md"

STATUSES = (
    ("active", "24 VMs on 3 hosts, 8 running", "nothing"),
    (
        "waiting",
        "1 of 3 hosts unreachable: attic (login refused: add the public key, see get-public-key)",
        "run `get-public-key` and add the line on that host: [how](../how-to/hosts-and-keys.md)",
    ),
    (
        "waiting",
        "… unreachable: attic (host key changed: see trust-host)",
        "[compare the fingerprints](../how-to/hosts-and-keys.md#accept-a-changed-host-key)",
    ),
    (
        "waiting",
        "… unreachable: attic (VBoxManage not found: see check-hosts)",
        "install VirtualBox on that host, or set its path in `hosts`: `vboxmanage=/path`",
    ),
    (
        "waiting",
        "… unreachable: attic (no answer: see check-hosts)",
        "wake the host, or correct its network or its address in `hosts`",
    ),
    (
        "waiting",
        "1 VM of other hosts listed by attic: see check-hosts",
        "[decide where it belongs](../how-to/hosts-and-keys.md#decide-which-host-a-vm-belongs-to)",
    ),
    (
        "waiting",
        "waiting for the leader to create the credentials",
        "wait: the next hook of the leader creates them",
    ),
    (
        "waiting",
        "waiting for an IP address from Juju",
        "wait. If it takes long, check the addresses of the machine: `juju show-unit`",
    ),
    (
        "waiting",
        "waiting for a certificate from the relation certificates",
        "wait. If it takes long, check the status of the provider",
    ),
    (
        "waiting",
        "not all VMs are enlisted in MAAS (2 conflict): see enlist dry-run=true",
        "`enlist dry-run=true` shows the reason; the charm tries again at each update-status",
    ),
    (
        "waiting",
        "waiting for the related units to publish a host",
        "wait. If it takes long, check the status of the units of virtualbox-host",
    ),
    (
        "blocked",
        "hosts: from-zones ignores related units: virtualbox-host/0",
        "list the hosts in `hosts`, or remove the relation",
    ),
    (
        "blocked",
        "virtualbox-hosts: a/0 and b/0 publish the same host, vbox@10.0.0.5: remove one of them",
        "`juju remove-unit` or `juju remove-relation`; the first unit's host is used until then",
    ),
    (
        "blocked",
        "hosts: … of virtualbox-host/0 is ignored, because … has the name x: set another name=",
        "set another `name=` for the host in `hosts`",
    ),
    (
        "blocked",
        "no hosts: juju config maas-virtualbox hosts='user@address'",
        "set `hosts`",
    ),
    (
        "blocked",
        "OPTION: expected …",
        "correct the option; until then the service runs with the previous options",
    ),
    (
        "blocked",
        "hosts: expected maas-url and maas-api-key to be set for from-zones",
        "set both options",
    ),
    (
        "blocked",
        "hosts: expected user@address, also for VMs on this machine: user@127.0.0.1",
        "name the account that owns the VMs: the service runs as its own user",
    ),
    (
        "blocked",
        "OPTION: cannot read the secret: juju grant-secret …",
        "grant the secret; the unit checks it again at the next update-status",
    ),
    (
        "blocked",
        "OPTION: the secret has no api-key: juju update-secret …",
        "add the key to the secret",
    ),
    (
        "blocked",
        "ssh-private-key: expected a private key without a passphrase: …",
        "put an OpenSSH or PEM private key without a passphrase into the secret",
    ),
    (
        "blocked",
        "auto-enlist: expected maas-url and maas-api-key to be set: juju config …",
        "set the missing options, or `auto-enlist=off`; power control works in the meantime",
    ),
    (
        "blocked",
        "maas-api-key: expected three parts separated by colons, as `maas apikey` prints them",
        "put the complete key into the secret",
    ),
    (
        "blocked",
        "listen-subnet: expected a subnet of this machine (…), not 10.0.0.0/24",
        "choose a subnet of one of the addresses shown",
    ),
    (
        "blocked",
        "power-template: expected auto or off, because this machine has no /etc/maas/…",
        "set `power-template=auto`: MAAS 2.0 and newer have no templates",
    ),
    (
        "blocked",
        "power-template: …; or set power-template=off",
        "follow the message; a common cause is a template that was changed by hand",
    ),
    (
        "blocked",
        "a/0 is already on this machine: juju remove-unit b/0, and place it on another machine",
        "if you remove the first unit instead, the second takes the machine over",
    ),
    (
        "blocked",
        "/etc/maas-virtualbox existed before this charm: move it away",
        "the charm does not change files of others: `sudo mv` it; it may be from a manual setup",
    ),
    (
        "blocked",
        "/etc/maas-virtualbox/notes does not belong to this charm: move it away",
        "the same, for a file that was added later",
    ),
    (
        "blocked",
        "/opt/maas-virtualbox: cannot install the program: No space left on device",
        "follow the message; the charm tries again at each update-status",
    ),
    (
        "blocked",
        "cannot create the user maas-virtualbox: …",
        "follow the message; a common cause is a locked or full account file",
    ),
    (
        "blocked",
        "the power service does not start: see `sudo journalctl -u maas-virtualbox` on this unit",
        "read the last lines; a common cause is another program on the port (`listen-port`)",
    ),
    (
        "blocked",
        "the power service does not answer: see `sudo journalctl -u maas-virtualbox` on this unit",
        "read the last lines",
    ),
    ("maintenance", "installing the power service", "wait"),
    ("maintenance", "stopped", "wait: the unit is being removed"),
    ("maintenance", "removed", "wait: the unit is being removed"),
)
"""Status, message, and what to do."""

_HEAD = """\
# Reference: the charm

<!-- Generated by `make docs`. Do not edit: change charmcraft.yaml or tools/reference.py. -->

{summary}

Requires {assumes}. Runs on {bases}, on amd64 and arm64.

## Statuses

| status | message | what to do |
|---|---|---|
"""


_ACTIONS = """
## Actions

For example: `juju run maas-virtualbox/0 list-vms format=json`.

Juju reads parameters as YAML. A VM named 101, the zone 1 and a MAC without colons become numbers,
and ` #` starts a comment. The actions refuse numbers where they expect a name. With
`--string-args`, Juju passes every parameter on as text:

```sh
# Needs a Juju controller.
juju run --string-args maas-virtualbox/0 power vm=080027112233 change=on
juju run --string-args maas-virtualbox/leader enlist zone=1 dry-run=true
```

Juju prints results as YAML. A key or a table is below its name, indented by two spaces. Copy the
lines without these spaces.

`juju run` waits 60 seconds for the results. The action continues after that. With many VMs or a
slow MAAS, wait longer, or read the results later:

```sh
# Needs a Juju controller.
juju run --wait=10m maas-virtualbox/leader enlist
juju operations --actions enlist
```
"""


def render(charm: Mapping[str, Any]) -> str:
    """Return the page for the content of charmcraft.yaml."""
    bases = sorted({platform.rpartition(":")[0] for platform in charm["platforms"]})
    page = _HEAD.format(
        summary=charm["summary"],
        assumes=" and ".join(charm["assumes"]),
        bases=" and ".join(bases),
    )
    page += _rows((status, f"`` {message} ``", hint) for status, message, hint in STATUSES)
    page += "\n## Options\n"
    for name, option in charm["config"]["options"].items():
        default = option.get("default", "")
        shown = f"default `{default}`" if default != "" else "no default"
        page += f"\n### {name}\n\n{option['type']}, {shown}\n\n{option['description'].strip()}\n"
    page += _ACTIONS
    for name, action in sorted(charm["actions"].items()):
        page += f"\n### {name}\n\n{action['description'].strip()}\n"
        if parameters := action.get("params"):
            page += "\n| parameter | type | | meaning |\n|---|---|---|---|\n"
            page += _rows(
                (f"`{key}`", _type(schema), _need(key, schema, action), schema["description"])
                for key, schema in parameters.items()
            )
    page += "\n## Relations\n\n| endpoint | interface | role | meaning |\n|---|---|---|---|\n"
    return page + _rows(
        (
            f"`{name}`",
            f"`{endpoint['interface']}`",
            role,
            endpoint.get("description", "among units"),
        )
        for role in ("provides", "requires", "peers")
        for name, endpoint in charm[role].items()
    )


def _rows(rows: Iterator[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |\n" for row in rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    limits = [str(schema[limit]) for limit in ("minimum", "maximum") if limit in schema]
    types = schema["type"]
    # The first type is the real one. The others are what Juju may convert it to.
    return " ".join([types if isinstance(types, str) else types[0], " to ".join(limits)]).strip()


def _need(name: str, schema: Mapping[str, Any], action: Mapping[str, Any]) -> str:
    if name in action.get("required", []):
        return "required"
    if "default" not in schema:
        return ""
    default = schema["default"]
    return f"default `{str(default).lower() if isinstance(default, bool) else default}`"


def main() -> None:
    """Write the page."""
    charm = yaml.safe_load((_ROOT / "charmcraft.yaml").read_text(encoding="utf-8"))
    PAGE.write_text(render(charm), encoding="utf-8")
    print(PAGE.relative_to(_ROOT))


if __name__ == "__main__":
    main()
