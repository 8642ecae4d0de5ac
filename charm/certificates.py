# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The certificate of the power service, from the optional relation `certificates`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import statuses

if TYPE_CHECKING:
    from collections.abc import Callable

    import ops
    from charmlibs.interfaces import tls_certificates as tls

RELATION = "certificates"


class Certificates:
    """Requests a certificate for this unit's address. Without the relation, it does nothing."""

    def __init__(self, charm: ops.CharmBase, address: Callable[[], str]) -> None:
        """Observe the relation.

        Args:
            charm: The charm.
            address: Returns the literal IP address at which MAAS reaches this unit. It raises
                `NotReady` if there is none.
        """
        relation = charm.model.get_relation(RELATION)
        self._address = address
        self.library: tls.TLSCertificatesRequiresV4 | None = None
        if relation is not None and relation.active:
            from charmlibs.interfaces import tls_certificates as tls  # noqa: PLC0415 - slow to load

            self.library = tls.TLSCertificatesRequiresV4(
                charm,
                RELATION,
                lambda _capabilities: self._requests(),
                refresh_events=[charm.on.config_changed],
            )

    def assigned(self) -> tuple[str, str]:
        """Return the certificate with its chain, and its key, as PEM.

        Without the relation, both are empty.

        Raises:
            NotReady: The certificate has not been issued yet, or there is no address.
        """
        if self.library is None:
            return "", ""
        certificate, key = self.library.get_assigned_certificate(self._request())
        if certificate is None or key is None:
            raise statuses.Waiting("waiting for a certificate from the relation certificates")
        leaf = str(certificate.certificate)
        chain = [text for text in map(str, certificate.chain) if text != leaf]
        return "\n".join([leaf, *chain]) + "\n", str(key) + "\n"

    def _requests(self) -> list[tls.CertificateRequestAttributes]:
        try:
            return [self._request()]
        except statuses.NotReady:
            return []  # The library calls this in its own handler. The status says why.

    def _request(self) -> tls.CertificateRequestAttributes:
        from charmlibs.interfaces import tls_certificates as tls  # noqa: PLC0415 - slow to load

        address = self._address()
        return tls.CertificateRequestAttributes(common_name=address, sans_ip=[address])
