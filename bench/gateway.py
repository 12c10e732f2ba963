"""The sink, as measurements see it: a gateway whose rules they set, and which tells them who got what."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.machine import SINK_CORE, Child
from bench.sink import Rules, Totals

STAGE = "api"


@dataclass(frozen=True)
class Receiver:
    """What one receiver got: how often a post for it was accepted, and how often without its sender being told so."""

    accepted: int
    unanswered: int


class Gateway:
    """A running sink at `host`:`port`."""

    def __init__(self, child: Child, authority: Path | None) -> None:
        self._child = child
        self.authority = authority
        """The certificate to trust, where it serves TLS."""
        self.address = f"127.0.0.1:{child.hear()['port']}"
        self.url = f"{'https' if authority else 'http'}://{self.address}/{STAGE}"

    def env(self) -> dict[str, str]:
        """The variables with which SDKs, and our own transport, find it and trust it."""
        trust = {name: str(self.authority) for name in ("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS") if self.authority}
        return {"AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI": self.url, **trust}

    def rule(self, rules: Rules) -> None:
        """From now on posts are answered so, and counted anew."""
        self._child.ask(do="rules", **asdict(rules))

    def totals(self) -> Totals:
        return Totals(**self._child.ask(do="totals"))

    def receivers(self) -> Mapping[str, Receiver]:
        """Those that were posted to since the rules were set, by connection id."""
        return {name: Receiver(*counts) for name, counts in self._child.ask(do="receivers").items()}


@contextmanager
def running_gateway(*, tls: bool = True) -> Iterator[Gateway]:
    """A sink on a core of its own, on a free port; it ends with the block, or with this process."""
    with tempfile.TemporaryDirectory() as folder:
        arguments, authority = [], None
        if tls:
            certificate = Path(folder, "sink.pem")
            authority = _certify(certificate)
            arguments = ["--certificate", str(certificate)]
        with Child.python("bench.sink", *arguments, env={}, core=SINK_CORE) as child:
            yield Gateway(child, authority)


def _certify(certificate: Path) -> Path:
    """Makes an authority and an EC certificate of it for 127.0.0.1, key and all; returns the authority's own."""
    import trustme  # noqa: PLC0415  the tests talk to the sink without TLS, and do without it

    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA).private_key_and_cert_chain_pem.write_to_path(
        str(certificate)
    )
    trusted = certificate.with_name("authority.pem")
    authority.cert_pem.write_to_path(str(trusted))
    return trusted
