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
    ("active", "24 VMs on 3 hosts, 8 running", "nothing: all is well"),
    (
        "waiting",
        "1 of 3 hosts unreachable: attic (login refused: add the public key, see get-public-key)",
        "run `get-public-key`, and add the line on that host: [how](../how-to/hosts-and-keys.md)",
    ),
    (
        "waiting",
        "… unreachable: attic (host key changed: see trust-host)",
        "[compare fingerprints](../how-to/hosts-and-keys.md#accept-a-changed-host-key)",
    ),
    (
        "waiting",
        "… unreachable: attic (VBoxManage not found: see check-hosts)",
        "install VirtualBox there, or say where it is: `vboxmanage=/path` in `hosts`",
    ),
    (
        "waiting",
        "… unreachable: attic (no answer: see check-hosts)",
        "wake the host, or mend its network or its address in `hosts`",
    ),
    (
        "waiting",
        "1 VM of other hosts claimed by attic: see check-hosts",
        "[decide where it belongs](../how-to/hosts-and-keys.md#decide-which-host-a-vm-belongs-to)",
    ),
    (
        "waiting",
        "the leader has not made the credentials yet",
        "wait: the leader's next hook makes them",
    ),
    (
        "waiting",
        "Juju knows no IP address of this machine yet",
        "wait; if it lasts, look at `juju show-unit` for the machine's addresses",
    ),
    (
        "waiting",
        "a certificate of the certificates relation is not there yet",
        "wait; if it lasts, look at the provider's status",
    ),
    (
        "waiting",
        "MAAS does not know all VMs as they are (2 conflict): see enlist dry-run=true",
        "`enlist dry-run=true` says why; it is tried again at each update-status",
    ),
    (
        "waiting",
        "the related units have published no host yet",
        "wait; if it lasts, look at the status of the units of virtualbox-host",
    ),
    (
        "blocked",
        "hosts: from-zones leaves out what is related: virtualbox-host/0",
        "list the hosts in `hosts`, or remove the relation",
    ),
    (
        "blocked",
        "virtualbox-hosts: a/0 and b/0 publish the same host, vbox@10.0.0.5: remove one of them",
        "`juju remove-unit` or `juju remove-relation`: the VMs are switched by the first",
    ),
    (
        "blocked",
        "hosts: … of virtualbox-host/0 is left out, for … is called x: give that another name=",
        "give the host in `hosts` another `name=`",
    ),
    (
        "blocked",
        "no hosts: juju config maas-virtualbox hosts='user@address'",
        "set `hosts`",
    ),
    (
        "blocked",
        "OPTION: expected …",
        "set the option to what the sentence says; until then the service runs on as it was",
    ),
    (
        "blocked",
        "hosts: expected maas-url and maas-api-key beside from-zones",
        "set these two as well",
    ),
    (
        "blocked",
        "hosts: expected user@address, also for VMs on this machine: user@127.0.0.1",
        "name the account that owns the VMs: the service runs as a user of its own",
    ),
    (
        "blocked",
        "OPTION: the secret cannot be read: juju grant-secret …",
        "grant it; the unit notices at its next update-status",
    ),
    (
        "blocked",
        "OPTION: the secret has no api-key: juju update-secret …",
        "update the secret so that it has this field",
    ),
    (
        "blocked",
        "ssh-private-key: expected a private key without a passphrase: …",
        "put an OpenSSH or PEM private key without a passphrase into the secret",
    ),
    (
        "blocked",
        "auto-enlist: expected maas-url and maas-api-key beside it: juju config …",
        "set what is missing, or `auto-enlist=off`; VMs are switched all the same",
    ),
    (
        "blocked",
        "maas-api-key: expected three parts apart by colons, as `maas apikey` prints them",
        "put the whole key into the secret",
    ),
    (
        "blocked",
        "listen-subnet: expected a subnet of this machine (…), not 10.0.0.0/24",
        "choose a subnet of one of the addresses shown",
    ),
    (
        "blocked",
        "power-template: expected auto or off: there is no /etc/maas/templates/power/…",
        "set `power-template=auto`: MAAS 2.0 and newer have no templates",
    ),
    (
        "blocked",
        "power-template: …; or set it to off",
        "as the sentence says: mostly a template that is not MAAS's own",
    ),
    (
        "blocked",
        "a/0 is on this machine already: juju remove-unit b/0, and place it on another machine",
        "there can be one; where the other is removed instead, this one takes the machine over",
    ),
    (
        "blocked",
        "/etc/maas-virtualbox was here before this charm: move it to another place",
        "the charm changes nothing of others: `sudo mv` it, as a service set up by hand",
    ),
    (
        "blocked",
        "/etc/maas-virtualbox/notes is not this charm's: move it to another place",
        "the same, for what was put there later",
    ),
    (
        "blocked",
        "/opt/maas-virtualbox: the program cannot be installed: No space left on device",
        "as the sentence says; it is tried again at each update-status",
    ),
    (
        "blocked",
        "the user maas-virtualbox cannot be made: …",
        "as the sentence says: mostly the account files are locked or full",
    ),
    (
        "blocked",
        "the power service does not start: see `sudo journalctl -u maas-virtualbox` there",
        "read its last lines: mostly another program has the port (`listen-port`)",
    ),
    (
        "blocked",
        "the power service does not answer: see `sudo journalctl -u maas-virtualbox` there",
        "read its last lines",
    ),
    ("maintenance", "installing the power service", "wait"),
    ("maintenance", "stopped", "wait: the unit is being removed"),
    ("maintenance", "removed", "wait: the unit is being removed"),
)
"""What `juju status` says, and what people do about it."""

_HEAD = """\
# Reference: the charm

<!-- Written by `make docs` from charmcraft.yaml: change that, or tools/reference.py. -->

{summary}

Needs {assumes}. Runs on {bases}, on amd64 and arm64.

## Statuses

| status | message | what to do |
|---|---|---|
"""


_ACTIONS = """
## Actions

Such as `juju run maas-virtualbox/0 list-vms format=json`.

Juju reads parameters as YAML: a VM named 101, the zone 1 and a MAC without colons become numbers,
and what follows ` #` is a comment. The actions refuse numbers where a name is expected. With
`--string-args`, Juju passes on every parameter as it is typed:

```sh
# Needs a Juju controller.
juju run --string-args maas-virtualbox/0 power vm=080027112233 change=on
juju run --string-args maas-virtualbox/leader enlist zone=1 dry-run=true
```

Juju prints results as YAML. A key or a table stands below its name, indented by two blanks: copy
the lines without these.

`juju run` waits 60 seconds for an answer; the action continues after that. Where there are many
VMs or a slow MAAS, let it wait longer, or look later:

```sh
# Needs a Juju controller.
juju run --wait=10m maas-virtualbox/leader enlist
juju operations --actions enlist
```
"""


def render(charm: Mapping[str, Any]) -> str:
    """The page, given the content of charmcraft.yaml."""
    bases = sorted({platform.rpartition(":")[0] for platform in charm["platforms"]})
    page = _HEAD.format(
        summary=charm["summary"],
        assumes=" and ".join(charm["assumes"]),
        bases=" and ".join(bases),
    )
    page += _rows((status, f"`` {text} ``", remedy) for status, text, remedy in STATUSES)
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
                (f"`{each}`", _type(schema), _need(each, schema, action), schema["description"])
                for each, schema in parameters.items()
            )
    page += "\n## Relations\n\n| endpoint | interface | side | meaning |\n|---|---|---|---|\n"
    return page + _rows(
        (f"`{name}`", f"`{each['interface']}`", side, each.get("description", "among units"))
        for side in ("provides", "requires", "peers")
        for name, each in charm[side].items()
    )


def _rows(rows: Iterator[tuple[str, ...]]) -> str:
    return "".join(f"| {' | '.join(' '.join(cell.split()) for cell in row)} |\n" for row in rows)


def _type(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    limits = [str(schema[limit]) for limit in ("minimum", "maximum") if limit in schema]
    kind = schema["type"]
    # The first is meant; the others are what Juju makes of it, with or without --string-args.
    return " ".join([kind if isinstance(kind, str) else kind[0], " to ".join(limits)]).strip()


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
