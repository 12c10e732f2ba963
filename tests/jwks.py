"""Issuers of tokens: keys that sign, tokens of any shape, a server that publishes keys over real HTTP(S), and verifiers
that trust them.
"""

from __future__ import annotations

import json
import ssl
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chalicelib.errors import BadToken
from chalicelib.settings import ALGORITHMS
from chalicelib.tokens import Reason, TokenSettings, Verifier, key_ring

from .fakes import NOW, FakeClock

SECRET = "a secret of more than thirty-two bytes"

NOW_S = NOW // 1_000
CLAIMS = {"sub": "ada", "exp": NOW_S + 600}

numbers = st.integers() | st.floats() | st.integers(NOW_S - 1_000, NOW_S + 1_000)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=8) | st.sampled_from([*ALGORITHMS, "none", "b64"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)


@lru_cache(maxsize=8)
def rsa_key(number: int = 1, bits: int = 2_048) -> RSAPrivateKey:
    """The same for the same number: making one takes a while."""
    return rsa.generate_private_key(65_537, bits)


@lru_cache(maxsize=8)
def ec_key(number: int = 1, curve: type[ec.EllipticCurve] = ec.SECP256R1) -> EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


KEYS: Mapping[str, Any] = {"HS256": SECRET.encode(), "RS256": rsa_key(), "ES256": ec_key()}
OTHERS: Mapping[str, Any] = {"HS256": b"not the secret, but as long as it is", "RS256": rsa_key(2), "ES256": ec_key(2)}
"""By algorithm: what the server trusts, and what it does not."""


def jwk(key: RSAPrivateKey | EllipticCurvePrivateKey, **more: Any) -> dict[str, Any]:
    """The public key as a set holds it, with a kid or whatever else."""
    if isinstance(key, RSAPrivateKey):
        return {**RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}
    return {**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), **more}


def public_pem(key: RSAPrivateKey | EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signature(signed: bytes, algorithm: str, key: Any) -> bytes:
    """What `key` makes of those bytes, without PyJWT's looking at what they say."""
    method = jwt.get_algorithm_by_name(algorithm)
    made: bytes = method.sign(signed, key)
    return made


def token(header: Any, payload: Any, sign: Callable[[bytes], bytes] = lambda _signed: b"") -> str:
    """A token of any header and any payload: JSON values, or bytes as they are."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload)]
    signed = b".".join(map(_base64, parts))
    return b".".join((signed, _base64(sign(signed)))).decode()


def signer(algorithm: str, key: Any) -> Callable[[bytes], bytes]:
    return lambda signed: signature(signed, algorithm, key)


def signed(algorithm: str, payload: Any, key: Any = None, **header: Any) -> str:
    """A token that is signed as its header says, with the server's key or another."""
    return token({"alg": algorithm, **header}, payload, signer(algorithm, key or KEYS[algorithm]))


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_about: object) -> None:
        """Clients here hang up in the middle."""


class JwksServer:
    """Publishes `keys`, or answers with whatever a test sets. It counts the requests; `hold` keeps them waiting."""

    def __init__(self, *keys: Mapping[str, Any], tls: ssl.SSLContext | None = None) -> None:
        self.body = b""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.requests: list[str] = []
        self.asked = Event()
        self.hold: Event | None = None
        self.publish(*keys)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.asked.set()
                if server.hold is not None:
                    server.hold.wait(10)
                if server.status == 0:  # broken off
                    return
                self.send_response(server.status)
                for name, value in server.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(server.body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}/.well-known/jwks.json?of=tests"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def publish(self, *keys: Mapping[str, Any]) -> None:
        self.status, self.body = 200, json.dumps({"keys": keys}).encode()

    def close(self) -> None:
        """From then on nobody answers there."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> JwksServer:
        return self

    def __exit__(self, *_raised: object) -> None:
        if self._thread.is_alive():
            self.close()


def settings_for(algorithm: str, server: JwksServer, **more: Any) -> TokenSettings:
    source = {"secret": SECRET} if algorithm == "HS256" else {"jwks_url": server.url}
    return TokenSettings(algorithm=algorithm, leeway_s=0, **{**source, **more})


def verifier_for(of: TokenSettings, clock: FakeClock | None = None) -> Verifier:
    clock = clock or FakeClock()
    return Verifier(of, key_ring(of, clock), clock)


def hs256(**more: Any) -> Verifier:
    return verifier_for(TokenSettings("HS256", **{"secret": SECRET, "leeway_s": 0, **more}))


def refusal(verifier: Verifier, presented: str) -> Reason:
    """Why it is not taken: one of the fixed reasons, and nothing else."""
    with pytest.raises(BadToken) as raised:
        verifier.verify(presented)
    assert str(raised.value) == f"The token cannot be taken: {raised.value.reason}."
    return Reason(raised.value.reason)
