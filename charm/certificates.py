# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The certificate of the power service, from the `certificates` relation if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    import ops
    from charmlibs.interfaces import tls_certificates as tls

RELATION = "certificates"


class Certificates:
    """Asks for a certificate of this unit's address. Without the relation it costs one look."""

    def __init__(self, charm: ops.CharmBase, address: Callable[[], str]) -> None:
        """Observe the relation.

        Args:
            charm: ours.
            address: returns the literal IP address that MAAS reaches this unit by.
        """
        relation = charm.model.get_relation(RELATION)
        self._address = address
        self.library: tls.TLSCertificatesRequiresV4 | None = None
        if relation is not None and relation.active:
            from charmlibs.interfaces import tls_certificates as tls  # noqa: PLC0415 - slow

            self.library = tls.TLSCertificatesRequiresV4(
                charm,
                RELATION,
                lambda _capabilities: self._requests(),
                refresh_events=[charm.on.config_changed],
            )

    def assigned(self) -> tuple[str, str]:
        """Return certificate with chain and its key, as PEM; twice nothing without the relation.

        Raises:
            Unready: it has not been issued yet.
        """
        if self.library is None:
            return "", ""
        certificate, key = self.library.get_assigned_certificate(self._request())
        if certificate is None or key is None:
            raise statuses.waiting("a certificate of the certificates relation is not there yet")
        leaf = str(certificate.certificate)
        chain = [str(each) for each in certificate.chain if str(each) != leaf]
        return "\n".join([leaf, *chain]) + "\n", str(key) + "\n"

    def _requests(self) -> list[tls.CertificateRequestAttributes]:
        try:
            return [self._request()]
        except statuses.Unready:
            return []  # the library asks in a handler of its own; the status says why

    def _request(self) -> tls.CertificateRequestAttributes:
        from charmlibs.interfaces import tls_certificates as tls  # noqa: PLC0415 - slow

        address = self._address()
        return tls.CertificateRequestAttributes(common_name=address, sans_ip=[address])
