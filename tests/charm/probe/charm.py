# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A charm that logs each of its events in Juju's log and calls the hook tools."""

from __future__ import annotations

import subprocess
import sys

# Disable ops's tracing, which takes half of a hook's time.
sys.modules["ops_tracing"] = None  # type: ignore[assignment]

import ops  # noqa: E402

LABEL = "shared"


class Probe(ops.CharmBase):
    """Writes its name into each databag. Its leader shares a secret with all peers."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        for name, event in self.on.events().items():
            if not name.startswith("collect_"):
                framework.observe(event, self._note)
        framework.observe(self.on.config_changed, self._configure)
        framework.observe(self.on.leader_elected, self._share)
        framework.observe(self.on.above_relation_joined, self._introduce)
        framework.observe(self.on.secret_changed, self._configure)
        framework.observe(self.on.secret_remove, self._forget)
        framework.observe(self.on["call"].action, self._call)

    def _note(self, event: ops.EventBase) -> None:
        name = event.handle.kind
        print(f"event {name}")
        if name == str(self.config.get("fail-on", "")).replace("-", "_"):
            self.unit.set_ports(9)
            self.model.relations["peers"][0].data[self.unit]["written"] = "in vain"
            self.unit.add_secret({"password": "in vain"}, label="vain")
            sys.exit(7)

    def _configure(self, _: ops.EventBase) -> None:
        self.unit.set_workload_version("1.2")
        if "port" in self.config:
            self.unit.set_ports(int(self.config["port"]))
        message = str(self.config["greeting"])
        if "key" in self.config:
            try:
                secret = self.model.get_secret(id=str(self.config["key"]))
                message = f"{len(secret.get_content(refresh=True)['value'])} characters"
            except ops.SecretNotFoundError:
                self.unit.status = ops.BlockedStatus("no such secret")
                return
            except ops.ModelError as error:
                self.unit.status = ops.BlockedStatus(str(error).strip())
                return
        self.unit.status = ops.ActiveStatus(message)

    def _share(self, _: ops.EventBase) -> None:
        try:
            secret = self.model.get_secret(label=LABEL)
        except ops.SecretNotFoundError:
            secret = self.app.add_secret({"password": "first"}, label=LABEL)
        (peers,) = self.model.relations["peers"]
        peers.data[self.app].update(leader=self.unit.name, secret=str(secret.id))

    def _introduce(self, event: ops.RelationJoinedEvent) -> None:
        event.relation.data[self.unit]["from"] = self.unit.name
        if self.unit.is_leader():
            self.model.get_secret(label=LABEL).grant(event.relation)
            event.relation.data[self.app]["for"] = event.app.name

    def _forget(self, event: ops.SecretRemoveEvent) -> None:
        event.remove_revision()

    def _call(self, event: ops.ActionEvent) -> None:
        done = subprocess.run(event.params["argv"], capture_output=True, text=True, check=False)
        event.log(f"exit code {done.returncode}")
        event.set_results({"tool": {"out": done.stdout, "err": done.stderr}})
        if "then-fail" in event.params:
            event.fail(event.params["then-fail"])


if __name__ == "__main__":
    ops.main(Probe)
