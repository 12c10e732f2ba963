from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import ClientError
from chalice.app import Chalice, WebsocketAPI

from chalicelib import transport
from chalicelib.errors import ConnectionGone, Misconfigured, NotWritten, PostError, PostFailed, Throttled
from chalicelib.model import ConnectionId
from chalicelib.transport import ENDPOINT_VARIABLE, Session, poster

from .connections import Connections, connections_endpoint

ID = ConnectionId("IU3k-eN4_AMCJwA=")


@pytest.fixture(name="endpoint")
def an_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with connections_endpoint() as connections:
        monkeypatch.setenv(ENDPOINT_VARIABLE, connections.url)
        yield connections


def websocket_api() -> WebsocketAPI:
    api = Chalice("channels").websocket_api
    api.session = Session()
    api.configure_from_api_id("a1b2c3d4e5", "api")
    return api


def test_a_post_goes_to_the_endpoint_that_the_sdks_variable_names(endpoint: Connections) -> None:
    poster(websocket_api())(ID, "héllo")
    assert endpoint.posts == {ID: ["héllo"]}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (410, ConnectionGone),
        (429, Throttled),
        (403, PostFailed),
        (413, PostFailed),
        (400, PostFailed),
        (500, PostFailed),
    ],
)
def test_each_refusal_is_an_error_of_ours_and_is_sent_once(
    endpoint: Connections, status: int, error: type[PostError]
) -> None:
    endpoint.status[ID] = status
    with pytest.raises(error):
        poster(websocket_api())(ID, "hello")
    assert endpoint.requests == 1


def test_an_endpoint_that_refuses_connections_has_not_been_written_to(
    endpoint: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv(ENDPOINT_VARIABLE, f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(NotWritten):
            poster(websocket_api())(ID, "hello")


def test_an_endpoint_that_does_not_answer_may_have_delivered(
    endpoint: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.2)
    endpoint.hang.clear()
    with pytest.raises(PostFailed):
        poster(websocket_api())(ID, "hello")
    assert endpoint.requests == 1


def test_an_endpoint_that_hangs_up_may_have_delivered(endpoint: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            connection, _address = server.accept()
            connection.recv(65_536)
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        monkeypatch.setenv(ENDPOINT_VARIABLE, f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(PostFailed):
            poster(websocket_api())(ID, "hello")
        thread.join()


def test_without_the_variable_chalices_own_endpoint_counts(
    endpoint: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ENDPOINT_VARIABLE)
    client = Session().client("apigatewaymanagementapi", endpoint_url=endpoint.url)
    client.post_to_connection(ConnectionId=ID, Data="hello")
    assert endpoint.posts == {ID: ["hello"]}


def test_there_is_one_client_an_endpoint_for_all_threads(endpoint: Connections) -> None:
    session = Session()
    clients: list[object] = []
    together = threading.Barrier(8)

    def make() -> None:
        together.wait()
        clients.append(session.client("apigatewaymanagementapi", endpoint_url=endpoint.url))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 8
    assert len(set(map(id, clients))) == 1


def test_the_region_is_that_of_the_sdks_configuration(endpoint: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert Session().region_name == "eu-central-1"


# --- beside boto3's own client


ANSWERS = [
    (200, {}, b""),
    (200, {}, b"{}"),
    (204, {}, b""),
    (302, {"Location": "/"}, b""),
    (400, {"x-amzn-ErrorType": "BadRequestException:http://internal.amazon.com/"}, b'{"message":"no"}'),
    (403, {"x-amzn-ErrorType": "ForbiddenException"}, b'{"message":"Forbidden"}'),
    (403, {}, b"<html><body>Forbidden</body></html>"),
    (403, {}, b'{"Message":"The security token included in the request is expired","__type":"ExpiredTokenException"}'),
    (404, {}, b""),
    (410, {"x-amzn-ErrorType": "GoneException"}, b""),
    (410, {}, b'{"code":"GoneException"}'),
    (413, {"x-amzn-ErrorType": "PayloadTooLargeException"}, b'{"message":"too large"}'),
    (429, {"x-amzn-ErrorType": "LimitExceededException"}, b'{"message":"Too many requests"}'),
    (429, {}, b'{"message":"Too many requests"}'),
    (500, {}, b'{"message":"Internal server error"}'),
    (502, {}, b"<html><body><b>Http/1.1 Bad Gateway</b></body></html>"),
    (503, {}, b""),
]


@pytest.mark.parametrize(("status", "headers", "body"), ANSWERS)
@pytest.mark.parametrize("method", ["post_to_connection", "get_connection", "delete_connection"])
def test_every_answer_is_told_as_boto3_tells_it(
    endpoint: Connections, status: int, headers: dict[str, str], body: bytes, method: str
) -> None:
    def told_by(client: Any) -> Any:
        data = {"Data": "hello"} if method == "post_to_connection" else {}
        try:
            answer = getattr(client, method)(ConnectionId=ID, **data)
        except ClientError as error:
            kind = type(error)
            named = getattr(client.exceptions, kind.__name__, ClientError)
            response = {name: value for name, value in error.response.items() if name != "ResponseMetadata"}
            # It has been told to try once, and says that it has.
            text = str(error).replace(" (reached max retries: 0)", "")
            return kind.__name__, isinstance(error, named), text, response, metadata(error.response)
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}, metadata(answer)

    def metadata(response: Any) -> Any:
        found = response["ResponseMetadata"]
        return found["HTTPStatusCode"], found["RetryAttempts"], found["HTTPHeaders"]

    with raw_endpoint(status, headers, body) as url:
        config = Config(retries={"total_max_attempts": 1})
        theirs = boto3.client("apigatewaymanagementapi", endpoint_url=url, config=config)
        ours = transport.Client(url)
        assert told_by(ours) == told_by(theirs)
        theirs.close()


def test_a_connections_info_is_as_boto3_reads_it(endpoint: Connections) -> None:
    body = (
        b'{"connectedAt":"2026-11-25T10:00:00.123Z","lastActiveAt":"2026-11-25T10:00:01Z",'
        b'"identity":{"sourceIp":"10.0.0.1","userAgent":"x"}}'
    )
    with raw_endpoint(200, {}, body) as url:
        theirs = boto3.client("apigatewaymanagementapi", endpoint_url=url)
        told: list[Any] = [client.get_connection(ConnectionId=ID) for client in (transport.Client(url), theirs)]
        theirs.close()
    for answer in told:
        del answer["ResponseMetadata"]
    assert told[0] == told[1]
    assert told[0]["ConnectedAt"].year == 2026


def test_credentials_are_refreshed_when_they_expire_between_two_posts(
    endpoint: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(timezone.utc)
    refreshed: list[str] = []

    def fresh(key: str, seconds: int) -> dict[str, str]:
        expiry = (now + timedelta(seconds=seconds)).isoformat()
        return {"access_key": key, "secret_key": "secret", "token": f"token-{key}", "expiry_time": expiry}

    def refresh() -> dict[str, str]:
        refreshed.append("NEW")
        return fresh("NEW", 36_000)

    credentials: Any = RefreshableCredentials.create_from_metadata(fresh("OLD", 3_600), refresh, "test")
    monkeypatch.setattr(boto3.session.Session, "get_credentials", lambda _session: credentials)
    client = transport.Client(endpoint.url)
    client.post_to_connection(ConnectionId=ID, Data="one")
    assert refreshed == []
    credentials._expiry_time = now - timedelta(seconds=1)
    for text in ("two", "three"):
        client.post_to_connection(ConnectionId=ID, Data=text)
    assert refreshed == ["NEW"]
    assert [sent["Authorization"].partition("Credential=")[2][:3] for sent in endpoint.headers] == ["OLD", "NEW", "NEW"]
    assert [sent["X-Amz-Security-Token"] for sent in endpoint.headers] == ["token-OLD", "token-NEW", "token-NEW"]


def test_without_credentials_or_a_region_it_is_said_what_is_missing(
    endpoint: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boto3.session.Session, "get_credentials", lambda _session: None)
    with pytest.raises(PostFailed, match="Unable to locate credentials"):
        poster(websocket_api())(ID, "hello")
    assert endpoint.requests == 0
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Misconfigured, match="no region to sign posts for; set AWS_DEFAULT_REGION"):
        transport.Client(endpoint.url)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    transport.Client(endpoint.url)


@pytest.mark.parametrize(("name", "value"), [(ENDPOINT_VARIABLE, "ftp://x"), (transport.CA_VARIABLE, "/no/such/file")])
def test_a_variable_that_is_of_no_use_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(ENDPOINT_VARIABLE, "https://127.0.0.1:1/api")
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=f"Check {ENDPOINT_VARIABLE}, {transport.CA_VARIABLE}"):
        Session().client("apigatewaymanagementapi", endpoint_url="https://127.0.0.1:1/api")


@contextmanager
def raw_endpoint(status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    """Answers every request so."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    answer = f"HTTP/1.1 {status} X\r\nx-amzn-RequestId: r1\r\n{fields}{length}\r\n".encode() + body

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.readline():
                length = 0
                while head not in (b"\r\n", b""):
                    if head.lower().startswith(b"content-length:"):
                        length = int(head.split(b":")[1])
                    head = self.rfile.readline()
                self.rfile.read(length)
                self.wfile.write(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api"
        finally:
            server.shutdown()
