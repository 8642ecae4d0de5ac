# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Parts for Juju charms. This is the only package of the library that imports ops.

It implements version 1 of the relation interface `virtualbox_hosts`. The requirer controls VMs. It
publishes its public SSH keys. The provider owns accounts with VMs. It authorises exactly these
keys, and each of its units publishes the data of its account. No private key is transferred::

    class Controller(ops.CharmBase):
        def __init__(self, framework):
            super().__init__(framework)
            self.related = VirtualBoxHostsRequirer(self, "virtualbox-hosts")
            framework.observe(self.related.on.hosts_changed, self._reconcile)

        def _reconcile(self, event):
            self.related.publish_keys(["ssh-ed25519 AAAA…"])
            fleet = Fleet([related.host for related in self.related.hosts()], …)

    class Laptop(ops.CharmBase):
        def __init__(self, framework):
            super().__init__(framework)
            self.provider = VirtualBoxHostsProvider(self, "virtualbox-hosts")
            framework.observe(self.provider.on.keys_changed, self._reconcile)

        def _reconcile(self, event):
            authorise(self.provider.keys())  # revokes all other keys
            self.provider.publish(AccountData(user="vbox", …))

Removing the relation revokes the keys. The interface works across models: it does not depend on
the name of the other application, and the addresses are those at which the other side reaches a
unit. `schema` describes the databags. Invalid data of the other side are ignored, with one warning
in the log. These classes do not set statuses.

Modules for charms of this project: `programs` copies the charm's environment to a folder that
outlives the charm's own folder, `machine_lock` keeps two units from changing one machine,
`actions` reads parameters and sets results, and `statuses` has the exceptions that become
statuses.
"""

from maas_virtualbox.juju.databags import VERSION, AccountData, KeysData, SSHKey
from maas_virtualbox.juju.provider import VirtualBoxHostsProvider
from maas_virtualbox.juju.requirer import RelatedHost, VirtualBoxHostsRequirer

__all__ = [
    "VERSION",
    "AccountData",
    "KeysData",
    "RelatedHost",
    "SSHKey",
    "VirtualBoxHostsProvider",
    "VirtualBoxHostsRequirer",
]
