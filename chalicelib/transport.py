"""The way out to API Gateway's @connections: the session behind `app.websocket_api`, and its errors as ours.

`app.websocket_api.session` is Chalice's public seam: any object with `client(name, endpoint_url=…)` and `region_name`.
The client that this one makes does what boto3's does, with the same exceptions, for less than a twelfth of the CPU:
boto3 spends it on building, signing and hooking each request, and on a certificate store for each connection.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from botocore.errorfactory import BaseClientExceptions, ClientExceptionsFactory
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    SSLError,
)
from botocore.httpsession import get_cert_path
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from botocore.utils import normalize_url_path, validate_region_name
from chalice.app import WebsocketAPI, WebsocketDisconnectedError

from . import aws, logs
from .broadcast import Post
from .endpoint import Endpoint, NotFullyWritten
from .errors import ConfigurationError, ConnectionGone, Misconfigured, NotWritten, PostFailed, Throttled
from .http1 import Response
from .model import ConnectionId
from .sigv4 import Scope, sign

log = logs.logger("channels.transport")

SERVICE = "apigatewaymanagementapi"
SIGNED_AS = "execute-api"

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
"""The SDK's own variable for another endpoint. Chalice passes its endpoint explicitly, which would win over it."""

CA_VARIABLE = "AWS_CA_BUNDLE"
"""The SDK's own variable for other certificates to trust."""

CONNECT_SECONDS = 2
ANSWER_SECONDS = 5
"""A post is answered in milliseconds; one that hangs must not use up the invocation's 29 s."""

FORBIDDEN, THROTTLED = 403, 429

OPERATION = "PostToConnection"

_SENT_AS_THEY_ARE = "/%!$&'()*+,;=:@~"
"""What a path may hold besides letters, digits and "-._" (RFC 3986)."""

_ENCODED = {code: quote(chr(code), safe="-._~") for code in range(128)}
"""Of each character of ASCII, what stands for it in a path: five times as fast as asking for each."""

_ADVICE = {
    FORBIDDEN: ": the function's role must allow execute-api:ManageConnections on this API, its credentials must not "
    "have expired, and the endpoint must be API Gateway's",
}


class Session:
    """A session for `app.websocket_api`: one client an endpoint, shared by all threads."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._lock = threading.Lock()

    @property
    def region_name(self) -> str | None:
        """The region of the SDK's configuration; Chalice builds the endpoint from it where AWS_REGION is not set."""
        return aws.region()

    def client(self, name: str, endpoint_url: str) -> Client:
        """The client for that endpoint, or for the one that ENDPOINT_VARIABLE names; raises Misconfigured."""
        if name != SERVICE:
            raise ValueError(f"This session makes clients for {SERVICE} alone, not for {name}.")
        url = os.environ.get(ENDPOINT_VARIABLE) or endpoint_url
        with self._lock:
            if url not in self._clients:
                self._clients[url] = Client(url)
            return self._clients[url]


class Client:
    """boto3's apigatewaymanagementapi client at `url`, over connections of our own.

    It never repeats a request by itself: a request whose answer was lost may have been delivered. Credentials are those
    of botocore's chain, asked for each request, so that they are refreshed when they expire.
    """

    def __init__(self, url: str) -> None:
        region = aws.region() or os.environ.get("AWS_REGION")
        if not region:
            raise Misconfigured("The AWS SDK has no region to sign posts for; set AWS_DEFAULT_REGION.")
        try:
            validate_region_name(region)
            self._credentials = aws.credentials()
            self._endpoint = Endpoint(
                url,
                connect_seconds=CONNECT_SECONDS,
                answer_seconds=ANSWER_SECONDS,
                ca_file=os.environ.get(CA_VARIABLE) or get_cert_path(True),
            )
        except (BotoCoreError, ValueError, OSError) as error:
            advice = f"Check {ENDPOINT_VARIABLE}, {CA_VARIABLE} and the SDK's other variables, AWS_*."
            raise Misconfigured(f"Posts cannot be sent: {error}. {advice}") from error
        self._scope = Scope(region, SIGNED_AS, self._endpoint.host)
        path = quote(normalize_url_path(urlsplit(url).path), safe=_SENT_AS_THEY_ARE).rstrip("/")
        self._path = f"{path}/@connections/"
        self._canonical_path = quote(self._path, safe="/~")
        self._headers = f"Host: {self._endpoint.host}\r\nUser-Agent: Channels\r\n"

    def post_to_connection(self, *, ConnectionId: str, Data: str | bytes) -> dict[str, Any]:  # noqa: N803  boto3's names
        """Sends `Data` to the connection as one text message."""
        return self._call(OPERATION, "POST", ConnectionId, *_payload(Data))

    def get_connection(self, *, ConnectionId: str) -> dict[str, Any]:  # noqa: N803
        """When it was connected and was last active, and who it is."""
        return self._call("GetConnection", "GET", ConnectionId, *_payload(b""))

    def delete_connection(self, *, ConnectionId: str) -> dict[str, Any]:  # noqa: N803
        """Closes the connection."""
        return self._call("DeleteConnection", "DELETE", ConnectionId, *_payload(b""))

    @property
    def exceptions(self) -> BaseClientExceptions:
        """The modelled exceptions, as boto3's client has them: `client.exceptions.GoneException`."""
        return _model().exceptions

    def _call(self, operation: str, method: str, connection_id: str, body: bytes, digest: str) -> dict[str, Any]:
        if self._credentials is None:
            raise NoCredentialsError
        name = connection_id.translate(_ENCODED) if connection_id.isascii() else quote(connection_id, safe="-._~")
        signature = sign(
            self._credentials.get_frozen_credentials(),
            self._scope,
            int(time.time()),
            method=method,
            canonical_path=self._canonical_path + name.replace("%", "%25"),
            payload_sha256=digest,
        )
        head = f"{method} {self._path}{name} HTTP/1.1\r\n{self._headers}Content-Length: {len(body)}\r\n{signature}\r\n"
        response = self._endpoint.exchange(head.encode() + body)
        if response.status == 200 and not response.body:  # noqa: PLR2004  what a post is answered
            metadata = {"HTTPStatusCode": 200, "HTTPHeaders": response.headers, "RetryAttempts": 0}
            if (request_id := response.headers.get("x-amzn-requestid")) is not None:
                metadata["RequestId"] = request_id
            return {"ResponseMetadata": metadata}
        return _model().read(operation, response)


@lru_cache(maxsize=8)
def _payload(data: str | bytes) -> tuple[bytes, str]:
    """The body and its hash. A broadcast sends one text to many: it is encoded and hashed once."""
    body = data.encode() if isinstance(data, str) else data
    return body, hashlib.sha256(body).hexdigest()


class _Model:
    """botocore's own model of the service: how its answers are read, and what its exceptions are."""

    def __init__(self) -> None:
        self.service = ServiceModel(Loader().load_service_model(SERVICE, "service-2"), SERVICE)
        self.exceptions = ClientExceptionsFactory().create_client_exceptions(self.service)

    def read(self, operation: str, response: Response) -> dict[str, Any]:
        """What boto3's client returns, or raises, for that response."""
        received = {"status_code": response.status, "headers": response.headers, "body": response.body}
        parser: Any = create_parser(self.service.resolved_protocol)  # its stub knows no operation without an output
        parsed: dict[str, Any] = parser.parse(received, self.service.operation_model(operation).output_shape)
        parsed["ResponseMetadata"]["RetryAttempts"] = 0
        if response.status >= 300:  # noqa: PLR2004  botocore's own bound
            code = parsed.get("Error", {}).get("Code")
            shape = self.service.shape_for_error_code(code)
            if shape is not None:
                parsed.update(parser.parse(received, shape))
            kind: Any = self.exceptions.from_code(code)
            raise kind(parsed, operation)
        return parsed


_loading = threading.Lock()
_loaded = lru_cache(maxsize=1)(_Model)


def _model() -> _Model:
    """Loaded when the first answer comes that is not the usual one; once, since each load makes exceptions anew."""
    with _loading:
        return _loaded()


def poster(websocket_api: WebsocketAPI) -> Post:
    """`websocket_api.send`, with its failures told apart by whether a repeat could deliver twice."""

    def post(connection_id: ConnectionId, text: str) -> None:
        try:
            websocket_api.send(connection_id, text)
        except WebsocketDisconnectedError as error:
            raise ConnectionGone(OPERATION, "410") from error
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            code = error.response.get("Error", {}).get("Code", "Unknown")
            if status == THROTTLED:
                raise Throttled(OPERATION, code) from error
            raise PostFailed(OPERATION, f"{status} {code}{_ADVICE.get(status, '')}") from error
        except SSLError as error:
            raise PostFailed(OPERATION, f"{error}. Is {CA_VARIABLE} or {ENDPOINT_VARIABLE} set wrongly?") from error
        except (EndpointConnectionError, ConnectTimeoutError, NotFullyWritten) as error:
            raise NotWritten(OPERATION, str(error)) from error
        except (UnicodeDecodeError, AttributeError, TypeError) as error:  # from botocore's parser of errors
            raise PostFailed(
                OPERATION, f"an answer that is none of API Gateway's: {error}. Is {ENDPOINT_VARIABLE} set wrongly?"
            ) from error
        except (BotoCoreError, ConfigurationError) as error:
            raise PostFailed(OPERATION, str(error)) from error

    return post


def closer(websocket_api: WebsocketAPI) -> Callable[[ConnectionId], None]:
    """`websocket_api.close`, whose failures are logged: who is to be closed may be gone already."""

    def close(connection_id: ConnectionId) -> None:
        try:
            websocket_api.close(connection_id)
        except (WebsocketDisconnectedError, ClientError, BotoCoreError, ConfigurationError) as error:
            log.warning("not closed connection=%s cause=%s", connection_id, str(error) or type(error).__name__)

    return close
