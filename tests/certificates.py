"""A certificate authority that only these tests trust, and servers' certificates of it: good, for others, expired."""

from __future__ import annotations

import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme


class Authority:
    """Writes its own certificate to a file in `folder`, for clients to trust."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca_file = str(folder / "authority.pem")
        self._authority.cert_pem.write_to_path(self.ca_file)

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """What a server with a certificate for those names needs; "127.0.0.1" where none is given."""
        now = datetime.now(timezone.utc)
        certificate = self._authority.issue_cert(
            *(names or ("127.0.0.1",)),
            not_before=now - timedelta(days=2),
            not_after=now + timedelta(days=-1 if expired else 1),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context
