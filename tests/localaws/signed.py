"""Signed requests that boto3's clients would not send as they are: odd methods, paths and bodies."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import NamedTuple

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials


class Answer(NamedTuple):
    status: int
    error: str | None
    """AWS's name for it, if it is one."""
    body: bytes


def headers(port: int, method: str, path: str, body: bytes = b"", service: str = "execute-api") -> dict[str, str]:
    """The headers that make a request to that port of this machine genuine."""
    request = AWSRequest(method, f"http://127.0.0.1:{port}{path}", data=body)
    SigV4Auth(Credentials("local", "local"), service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


def send(port: int, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
    """Send a request with these headers, and no others but Host and Content-Length."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    answer = Answer(response.status, response.headers["x-amzn-ErrorType"], response.read())
    connection.close()
    return answer


def ask(port: int, method: str, path: str, body: bytes = b"", service: str = "execute-api") -> Answer:
    """Send a signed request."""
    return send(port, method, path, body, headers(port, method, path, body, service))
