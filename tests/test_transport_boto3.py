"""Our client beside boto3's own, against the same answers: the same results, and the same exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from chalice.app import Chalice, WebsocketAPI, WebsocketDisconnectedError

from chalicelib.transport import CA_VARIABLE, Client, Session

from . import sdk
from .certificates import Authority
from .scripted import Peer, Server, scripted

ID = "IU3k-eN4_AMCJwA="

STATUSES = [200, 204, 300, 301, 302, 304, 307, 400, 403, 404, 410, 413, 429, 500, 502, 503]

BODIES = [
    b"",
    b"{}",
    b'{"message":"no"}',
    b'{"Message":"No","__type":"com.amazon#ExpiredTokenException:http://internal/"}',
    b'{"message":null,"code":"GoneException"}',
    b'{"Code":"PayloadTooLargeException:http://internal/","message":"too large"}',
    b'{"code":"LimitExceededException"}',
    b"<html><body>Service Unavailable</body></html>",
    b"<!DOCTYPE html>\n<html></html>",
    b"Ungl\xfcck",
    "Unglück".encode(),
    b"[1]",
    b'"text"',
    b'{"__type":5}',
]

ERROR_TYPES = [
    "",
    "x-amzn-ErrorType: GoneException\r\n",
    "X-Amzn-Errortype: ForbiddenException:http://internal.amazon.com/coral/\r\n",
    "x-amzn-errortype: LimitExceededException\r\nx-amzn-RequestId: r-1\r\nX-Amzn-Trace-Id: Root=1\r\n",
    "x-amzn-errortype: com.amazon#PayloadTooLargeException\r\nX-Twice: a\r\nX-Twice: b\r\n",
    "x-amzn-ErrorType: UnheardOfException\r\n",
]


class Answering:
    """A server that answers as it is told to."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, "", b""
        self.server: Server

    def play(self, peer: Peer) -> None:
        while True:
            peer.request()
            bodiless = self.status in {204, 304}
            length = "" if bodiless else f"Content-Length: {len(self.body)}\r\n"
            head = f"HTTP/1.1 {self.status} Whatever\r\n{self.headers}{length}\r\n"
            peer.send(head.encode() + (b"" if bodiless else self.body))


@pytest.fixture(name="sdk_configured", autouse=True)
def the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk.configured(monkeypatch)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture(name="answering")
def an_answering_server() -> Iterator[Answering]:
    answering = Answering()
    with scripted(answering.play) as answering.server:
        yield answering


@contextmanager
def boto3s(url: str) -> Iterator[Any]:
    client: Any = boto3.client(
        "apigatewaymanagementapi", endpoint_url=url, config=Config(retries={"total_max_attempts": 1})
    )
    try:
        yield client
    finally:
        client.close()


def told(client: Any, call: Callable[[Any], Any]) -> Any:
    """What a call of a client returns, or all that can be seen of what it raises."""
    try:
        result = call(client)
    except WebsocketDisconnectedError as error:
        return WebsocketDisconnectedError, error.connection_id
    except ClientError as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        caught_by = [name for name in MODELLED if isinstance(error, getattr(client.exceptions, name))]
        # boto3 was told to try once, and says that it did.
        text = str(error).replace(" (reached max retries: 0)", "")
        metadata = {**error.response["ResponseMetadata"], "MaxAttemptsReached": None}
        return kinds, caught_by, text, {**error.response, "ResponseMetadata": metadata}, error.operation_name
    except (ValueError, TypeError, AttributeError) as error:  # of botocore's parser
        return type(error), str(error)
    return result


MODELLED = (
    "ClientError",
    "GoneException",
    "ForbiddenException",
    "LimitExceededException",
    "PayloadTooLargeException",
)

CALLS: dict[str, Callable[[Any], Any]] = {
    "post": lambda client: client.post_to_connection(ConnectionId=ID, Data=b"hello"),
    "get": lambda client: client.get_connection(ConnectionId=ID),
    "delete": lambda client: client.delete_connection(ConnectionId=ID),
}


@pytest.mark.parametrize("method", CALLS)
def test_every_answer_is_told_as_boto3_tells_it(answering: Answering, method: str) -> None:
    call, ours, seen = CALLS[method], Client(answering.server.url), set()
    with boto3s(answering.server.url) as theirs:
        for answering.status in STATUSES:
            for answering.headers in ERROR_TYPES:
                for answering.body in BODIES:
                    expected = told(theirs, call)
                    where = (answering.status, answering.headers, answering.body)
                    assert told(ours, call) == expected, where
                    seen.add(str(expected))
    assert len(seen) > len(STATUSES) * len(ERROR_TYPES)


def test_the_exceptions_are_caught_by_their_names_and_by_what_they_are() -> None:
    ours = Client("http://127.0.0.1:1")
    for name in MODELLED:
        kind = getattr(ours.exceptions, name)
        assert issubclass(kind, ClientError)
        assert kind is getattr(Client("http://127.0.0.1:2").exceptions, name)
    with pytest.raises(AttributeError, match="UnheardOfException"):
        _ = ours.exceptions.UnheardOfException


@pytest.mark.parametrize(
    "body",
    [
        b'{"connectedAt":"2026-11-25T10:00:00.123Z","lastActiveAt":"2026-11-25T10:00:01Z",'
        b'"identity":{"sourceIp":"10.0.0.1","userAgent":"\xc3\xbc"}}',
        b'{"connectedAt":1800000000,"lastActiveAt":1800000000.5}',
        b'{"connectedAt":"2026-11-25T10:00:00+02:00","identity":{}}',
        b'{"connectedAt":null,"identity":null,"unknown":[1]}',
        b'{"connectedAt":"tomorrow"}',
        b'{"identity":5}',
        b"{}",
        b"",
        b"<html></html>",
        b"[]",
        b"null",
        b"\xff",
    ],
)
def test_what_is_told_of_a_connection_is_as_boto3_reads_it(answering: Answering, body: bytes) -> None:
    answering.body, ours = body, Client(answering.server.url)
    with boto3s(answering.server.url) as theirs:
        expected = told(theirs, CALLS["get"])
    assert told(ours, CALLS["get"]) == expected


@pytest.fixture(name="authority", scope="module")
def an_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


THROUGH_CHALICE: dict[str, Callable[[WebsocketAPI], Any]] = {
    "send": lambda api: api.send(ID, "hello"),
    "close": lambda api: api.close(ID),
    "info": lambda api: api.info(ID),
}


@pytest.mark.parametrize("method", THROUGH_CHALICE)
def test_chalices_api_is_the_same_over_our_session_and_over_boto3s(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setenv(CA_VARIABLE, authority.ca_file)
    answering = Answering()

    def all_told(session: Session | boto3.session.Session) -> list[Any]:
        api = Chalice("channels").websocket_api
        api.session = session
        api.configure(f"127.0.0.1:{server.port}", "api")
        outcomes = []
        for answering.status in STATUSES:
            for answering.headers in ERROR_TYPES:
                outcomes.append(told(api._get_client(), lambda _client: THROUGH_CHALICE[method](api)))
        if isinstance(session, boto3.session.Session):
            api._get_client().close()
        return outcomes

    with scripted(answering.play, context=authority.server()) as server:
        ours, theirs = all_told(Session()), all_told(boto3.session.Session())
    assert ours == theirs
    assert (WebsocketDisconnectedError, ID) in ours
    sent = [(each.method, each.path, each.body) for each in server.requests]
    assert sent[: len(ours)] == sent[len(ours) :]
