"""Signature Version 4 on requests to AWS's APIs: who may post to connections and invoke functions.

Knows the Authorization header, and whose secret is whose. What the signature must be is botocore's to compute. Signed
URLs, session tokens and the region are not looked at: a stand-in has neither roles nor regions.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from hashlib import sha256
from http.client import HTTPMessage
from typing import Any, NamedTuple, NoReturn, Protocol

from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import MultiMapping

from localaws.limits import SIGNATURE_WINDOW_S

CONNECTIONS, LAMBDA = "execute-api", "lambda"
"""The names that requests to @connections and to Lambda are signed for."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_TERMINATOR = "aws4_request"
_ISO_8601 = "%Y%m%dT%H%M%SZ"
_PARAMETERS = ("Credential", "SignedHeaders", "Signature")


class Refused(Exception):
    """A request that is not signed as it must be: AWS's name for the error, and what the caller may read.

    Kinds and texts: https://repost.aws/knowledge-center/api-gateway-troubleshoot-403-forbidden,
    https://docs.aws.amazon.com/lambda/latest/api/CommonErrors.html and
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def response(self) -> web.Response:
        """How both APIs say it."""
        return web.json_response({"message": self.message}, status=403, headers={"x-amzn-ErrorType": self.kind})


class Request(Protocol):
    """What is signed of a request, besides its body. aiohttp's is one."""

    @property
    def method(self) -> str: ...
    @property
    def raw_path(self) -> str: ...
    @property
    def headers(self) -> MultiMapping[str]: ...


class Signatures:
    """Checks signatures by the secret of each access key."""

    def __init__(
        self, secrets: Mapping[str, str], *, checked: bool = True, now: Callable[[], float] = time.time
    ) -> None:
        self._secrets = secrets
        self._checked = checked
        self._now = now

    def check(self, request: Request, body: bytes, service: str) -> None:
        """Raises Refused unless the request is signed, now, for `service`, by one of the access keys."""
        if not self._checked:
            return
        claim = _claim(request.headers)
        secret = self._secrets.get(claim.access_key)
        if secret is None:
            message = "The security token included in the request is invalid. This server's greeting names its keys."
            raise Refused("UnrecognizedClientException", message)
        if claim.service != service:
            _refuse(f"Credential should be scoped to correct service: '{service}'.")
        self._check_time(claim)
        if not hmac.compare_digest(_expected(claim, secret, request, body), claim.signature.encode()):
            _mismatch()

    def _check_time(self, claim: _Claim) -> None:
        now, minutes = self._now(), SIGNATURE_WINDOW_S // 60
        least, most = now - SIGNATURE_WINDOW_S, now + SIGNATURE_WINDOW_S
        if claim.at < least:
            bound = f"{_date(least)} ({_date(now)} - {minutes} min.)"
            _refuse(f"Signature expired: {claim.date} is now earlier than {bound}")
        if claim.at > most:
            bound = f"{_date(most)} ({_date(now)} + {minutes} min.)"
            _refuse(f"Signature not yet current: {claim.date} is still later than {bound}")


class _Claim(NamedTuple):
    """What a request says of its own signature."""

    access_key: str
    region: str
    service: str
    date: str
    at: float
    """The date, in seconds since 1970."""
    signed_headers: frozenset[str]
    signature: str


def _claim(headers: MultiMapping[str]) -> _Claim:
    authorization = headers.get("Authorization")
    if authorization is None:
        raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != _ALGORITHM or not _is_text(authorization):
        _incomplete(f"Authorization header requires the algorithm {_ALGORITHM}.")
    pairs = (part.strip().partition("=") for part in rest.split(","))
    parameters = {name: value for name, _, value in pairs}
    for name in _PARAMETERS:
        if name not in parameters:
            _incomplete(f"Authorization header requires '{name}' parameter.")
    date = headers.get("X-Amz-Date", "")
    if (at := _seconds(date)) is None:
        _incomplete("Authorization header requires a 'X-Amz-Date' header in ISO 8601, like 20260131T235959Z.")
    scope = parameters["Credential"].rsplit("/", 4)
    if len(scope) != 5:  # noqa: PLR2004  the message names them
        _incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
    access_key, day, region, service, terminator = scope
    if terminator != _TERMINATOR:
        _refuse(f"Credential should be scoped with a valid terminator: '{_TERMINATOR}'.")
    if day != date[:8]:
        _refuse("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.")
    signed_headers = frozenset(parameters["SignedHeaders"].split(";"))
    if "host" not in signed_headers:
        _refuse("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return _Claim(access_key, region, service, date, at, signed_headers, parameters["Signature"])


def _expected(claim: _Claim, secret: str, request: Request, body: bytes) -> bytes:
    digest = sha256(body).hexdigest()
    # The path as it was sent: aiohttp's parsed one is decoded where it need not be encoded.
    signed = AWSRequest(request.method, f"http://localhost{request.raw_path}")
    signed.context.update(timestamp=claim.date, payload_sha256=digest)
    headers = [(name.lower(), value) for name, value in request.headers.items()]
    headers = [(name, value) for name, value in headers if name in claim.signed_headers]
    if not all(map(_is_text, (request.raw_path, *(value for _, value in headers)))):
        _mismatch()
    for name, value in headers:
        signed.headers[name] = value  # botocore's mapping keeps both of two
    if signed.headers.get("X-Amz-Content-SHA256", digest) != digest:  # botocore takes the header's word for it
        _mismatch()
    signer = _Signer(Credentials(claim.access_key, secret), claim.service, claim.region)
    text = signer.string_to_sign(signed, signer.canonical_request(signed))
    return signer.signature(text, signed).encode()


class _Signer(SigV4Auth):
    """botocore's signer for a request that has come, instead of one that is to be sent."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPMessage:
        """Those that the client has signed: they are its choice, but for Host."""
        return request.headers

    def payload(self, request: AWSRequest) -> str:
        """botocore would prepare the whole request to get at its body."""
        return str(request.context["payload_sha256"])

    def _sign(self, key: bytes, msg: str, hex: bool = False) -> Any:  # noqa: A002  botocore's name
        return _hmac(key, msg, hex)


@lru_cache(maxsize=64)
def _hmac(key: bytes, text: str, hexadecimal: bool) -> Any:
    """botocore's, remembered: the key of a day, a region and a service is used for each request, and costs four."""
    return SigV4Auth._sign(None, key, text, hexadecimal)  # type: ignore[attr-defined]


def _is_text(text: str) -> bool:
    """Whether it came as UTF-8. aiohttp keeps other bytes as lone surrogates, which nobody can have signed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=8)
def _seconds(date: str) -> float | None:
    try:
        return datetime.strptime(date, _ISO_8601).replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        return None


def _date(seconds: float) -> str:
    return time.strftime(_ISO_8601, time.gmtime(seconds))


def _incomplete(message: str) -> NoReturn:
    raise Refused("IncompleteSignatureException", message)


def _refuse(message: str) -> NoReturn:
    raise Refused("InvalidSignatureException", message)


def _mismatch() -> NoReturn:
    _refuse(
        "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )
