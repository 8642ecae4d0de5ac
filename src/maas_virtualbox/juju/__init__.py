# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What charms are made of; the one place of this library that knows Juju. Needs ops.

The relation `virtualbox_hosts`, version 1: accounts that own VMs, for whoever switches these. The
charm that requires it publishes its public SSH keys, the one that provides it authorises exactly
these and publishes, per unit, what has to be known of the account. No private key moves::

    class Switcher(ops.CharmBase):
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
            self.switchers = VirtualBoxHostsProvider(self, "virtualbox-hosts")
            framework.observe(self.switchers.on.keys_changed, self._reconcile)

        def _reconcile(self, event):
            authorise(self.switchers.keys())  # those that are gone are revoked
            self.switchers.publish(AccountData(user="vbox", …))

Whoever removes the relation revokes the keys. It works across models: nothing depends on the name
of the other application, and addresses are those that the other side reaches a unit by. Databags
are described in `schema`. What cannot be used of the other side's is one warning in the log, and
left out. The library sets no status.

`programs` gives a charm a copy of its environment that outlives its folder; `statuses` has the
words of a unit that cannot do its work.
"""

from maas_virtualbox.juju.provider import VirtualBoxHostsProvider
from maas_virtualbox.juju.requirer import RelatedHost, VirtualBoxHostsRequirer
from maas_virtualbox.juju.schema import VERSION, AccountData, KeysData, SSHKey

__all__ = [
    "VERSION",
    "AccountData",
    "KeysData",
    "RelatedHost",
    "SSHKey",
    "VirtualBoxHostsProvider",
    "VirtualBoxHostsRequirer",
]
