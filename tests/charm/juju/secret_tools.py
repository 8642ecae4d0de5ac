# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The hook tools for secrets, with their access rules and revisions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from tests.charm.juju.calls import formatted
from tests.charm.juju.context import HookContext
from tests.charm.juju.model import (
    JujuError,
    Secret,
    UsageError,
    application_of,
    check_secret_content,
    secret_id,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_ROTATIONS = {"", "never", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")
_DURATION = re.compile(r"[-+]?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+")


class SecretTools(HookContext):
    """One method for each tool, as in `HookTools`."""

    def secret_add(
        self,
        *content: str,
        label: str = "",
        description: str = "",
        rotate: str = "",
        expire: str = "",
        owner: str = "application",
        file: str = "",
    ) -> str:
        if owner == "application":
            self._must_lead("this unit is not the leader")
        elif owner != "unit":
            raise UsageError(f'secret owner "{owner}" not valid')
        name = self.unit.name if owner == "unit" else self._application.name
        values = check_secret_content(self._secret_content(content, file))
        secret = Secret(name, {1: values})
        self._describe(secret, label, description, rotate, expire)
        self.state.secrets[secret.id] = secret
        return secret.full_uri

    @formatted
    def secret_get(
        self,
        uri: str = "",
        key: str = "",
        *,
        label: str = "",
        peek: bool = False,
        refresh: bool = False,
    ) -> object:
        if peek and refresh:
            raise UsageError("specify one of --peek or --refresh but not both")
        secret = self._secret(uri) if uri else self._labelled(label)
        unit = self.unit.name
        if not secret.is_readable_by(unit):
            raise JujuError("permission denied")
        if uri and label:
            secret.labels[unit] = label
        latest = self._latest_seen(secret, by_label=not uri)
        if refresh:
            secret.tracked[unit] = latest
        revision = latest if peek else secret.tracked.setdefault(unit, latest)
        content = secret.revisions[revision]
        if key and key not in content:
            raise JujuError(f'secret key value "{key}" not found')
        return content[key] if key else content

    def secret_grant(self, uri: str, *, relation: str = "", r: str = "", unit: str = "") -> None:
        secret = self._managed(uri)
        found = self._relation(r or relation)
        application = found.remote_application(self._application.name)
        if unit and application_of(unit) != application:
            raise JujuError(
                f'cannot specify unit "{unit}" in relation to application "{application}"'
            )
        secret.grants[unit or application] = found.id

    @formatted
    def secret_ids(self) -> list[str]:
        return sorted(secret.id for secret in self.state.secrets.values() if self._manages(secret))

    @formatted
    def secret_info_get(self, uri: str = "", *, label: str = "") -> object:
        if bool(uri) == bool(label):
            raise JujuError("specify either a secret URI or label but not both")
        wanted = secret_id(uri) if uri else label
        for secret in self.state.secrets.values():
            if self._manages(secret) and wanted in {secret.id, secret.label}:
                known = self._before.secrets.get(secret.id, secret)
                details = {
                    "revision": known.latest,
                    "label": secret.label,
                    "owner": "unit" if secret.owner == self.unit.name else "application",
                    "description": secret.description,
                    "rotation": secret.rotate,
                    "expiry": secret.expire,
                }
                return {secret.id: {name: value for name, value in details.items() if value}}
        raise JujuError(f'secret "{wanted}" not found')

    def secret_remove(self, uri: str, *, revision: str = "") -> None:
        secret = self._managed(uri)
        if revision and int(revision) not in secret.revisions:
            raise JujuError(f'secret revision "{secret.id}/{revision}" not found')
        for number in [int(revision)] if revision else list(secret.revisions):
            secret.revisions.pop(number, None)
        if not secret.revisions:
            del self.state.secrets[secret.id]

    def secret_revoke(
        self, uri: str, *, relation: str = "", r: str = "", app: str = "", unit: str = ""
    ) -> None:
        secret = self._managed(uri)
        if (r or relation) and not unit and not app:
            app = self._relation(r or relation).remote_application(self._application.name)
        secret.grants.pop(unit or app, None)

    def secret_set(
        self,
        uri: str,
        *content: str,
        label: str = "",
        description: str = "",
        rotate: str = "",
        expire: str = "",
        owner: str = "application",  # noqa: ARG002
        file: str = "",
    ) -> None:
        secret = self._managed(uri)
        self._describe(secret, label, description, rotate, expire)
        if label:
            self._relabelled.add(secret.id)
        # All changes of one hook become one revision; an unchanged content becomes none.
        before = self._before.secrets.get(secret.id)
        latest = before.latest if before else 0
        if content or file:
            values = check_secret_content(self._secret_content(content, file))
            secret.revisions.pop(latest + 1, None)
            if before is None or values != before.revisions[latest]:
                secret.revisions[latest + 1] = values

    # --- Helpers

    def _latest_seen(self, secret: Secret, *, by_label: bool) -> int:
        """Return the newest revision that the hook sees.

        The controller does not have the hook's own writes yet, and a label is looked up there.
        Since Juju 4.0.1, the owner reads its own write also by label, and not only by URI.
        """
        before = self._before.secrets.get(secret.id)
        if before is None:
            return secret.latest
        by_owner = self.unit.juju.version.reads_own_writes and self._manages(secret)
        if by_label and not by_owner and secret.id not in self._relabelled:
            return before.latest
        return secret.latest

    def _secret(self, uri: str) -> Secret:
        if not self.unit.juju.version.reads_secret_uri(uri):
            raise UsageError(f'secret URI "{uri}" not valid')
        identifier = secret_id(uri)
        if identifier not in self.state.secrets:
            raise JujuError(f'secret "{identifier}" not found')
        return self.state.secrets[identifier]

    def _labelled(self, label: str) -> Secret:
        """Return the secret to which this unit, or the owner, has given a label."""
        if not label:
            raise UsageError("require either a secret URI or label")
        mine = {self.unit.name, self._application.name}
        for secret in self.state.secrets.values():
            if secret.labels.get(self.unit.name) == label or (
                secret.label == label and secret.owner in mine
            ):
                return secret
        raise JujuError(f'consumer label "{label}" not found')

    def _manages(self, secret: Secret) -> bool:
        return secret.owner == self.unit.name or (
            secret.owner == self._application.name and self.unit.is_leader
        )

    def _managed(self, uri: str) -> Secret:
        secret = self._secret(uri)
        if not self._manages(secret):
            own = secret.owner == self._application.name
            raise JujuError("this unit is not the leader" if own else "permission denied")
        return secret

    def _describe(
        self, secret: Secret, label: str, description: str, rotate: str, expire: str
    ) -> None:
        if rotate not in _ROTATIONS:
            raise UsageError(f'rotate policy "{rotate}" not valid')
        if expire and not (_TIME.fullmatch(expire) or _DURATION.fullmatch(expire)):
            raise UsageError(f'expire time or duration "{expire}" not valid')
        if expire.startswith("-"):
            raise UsageError(f'negative expire duration "{expire}" not valid')
        for other in self.state.secrets.values():
            if label and other.label == label and other.owner == secret.owner and other != secret:
                raise JujuError(f'secret with label "{label}" already exists')
        secret.label = label or secret.label
        secret.description = description or secret.description
        secret.rotate = rotate or secret.rotate
        secret.expire = expire or secret.expire

    def _secret_content(self, content: Sequence[str], file: str) -> dict[str, str]:
        values: dict[str, str] = yaml.safe_load(self._files[file]) if file else {}
        for item in content:
            key, equals, value = item.partition("=")
            name, _, suffix = key.partition("#")
            if not equals or suffix not in {"", "file"}:
                raise UsageError(f'key value "{item}" not valid')
            values[name] = self._files[value] if suffix else value
        return values
