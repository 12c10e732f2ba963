"""The client behind `app.websocket_api`: whom it posts to, as whom, and what its failures are to us."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import botocore.session
import pytest
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import NoCredentialsError
from chalice.app import Chalice, WebsocketAPI

from chalicelib import transport
from chalicelib.broadcast import Post
from chalicelib.errors import ConnectionGone, Misconfigured, NotWritten, PostError, PostFailed, Throttled
from chalicelib.model import ConnectionId
from chalicelib.transport import CA_VARIABLE, ENDPOINT_VARIABLE, SERVICE, Client, Session, poster

from . import sdk
from .certificates import Authority
from .connections import Connections, connections_endpoint
from .scripted import Peer, Script, answers, scripted

ID = ConnectionId("IU3k-eN4_AMCJwA=")


@pytest.fixture(name="sdk_configured", autouse=True)
def the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    sdk.configured(monkeypatch)


@pytest.fixture(name="endpoint")
def an_endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connections]:
    with connections_endpoint() as connections:
        monkeypatch.setenv(ENDPOINT_VARIABLE, connections.url)
        yield connections


def websocket_api() -> WebsocketAPI:
    api = Chalice("channels").websocket_api
    api.session = Session()
    api.configure("a1b2c3d4e5.execute-api.us-east-1.amazonaws.com", "api")
    return api


def test_a_post_goes_to_the_endpoint_that_the_sdks_variable_names(endpoint: Connections) -> None:
    poster(websocket_api())(ID, "héllo")
    assert endpoint.posts == {ID: ["héllo"]}


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


def test_a_session_makes_clients_for_no_other_service(endpoint: Connections) -> None:
    with pytest.raises(ValueError, match="not for s3"):
        Session().client("s3", endpoint_url=endpoint.url)


def test_a_session_has_clients_for_several_endpoints(endpoint: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session()
    of_the_variable = session.client(SERVICE, endpoint_url="https://ignored.example")
    monkeypatch.setenv(ENDPOINT_VARIABLE, "")
    other = session.client(SERVICE, endpoint_url="http://127.0.0.1:1")
    assert other is session.client(SERVICE, endpoint_url="http://127.0.0.1:1")
    assert of_the_variable is session.client(SERVICE, endpoint_url=endpoint.url)
    assert other is not of_the_variable


def test_a_request_names_its_host_and_who_sends_it_and_is_signed_with_the_environments_credentials() -> None:
    with scripted() as server:
        Client(server.url + "/api").post_to_connection(ConnectionId=ID, Data="héllo")
    [request] = server.requests
    assert (request.method, request.path, request.body.decode()) == ("POST", f"/api/@connections/{quote(ID)}", "héllo")
    assert (request.headers["host"], request.headers["user-agent"]) == (f"127.0.0.1:{server.port}", "Channels")
    assert f"Credential={sdk.ACCESS_KEY}/" in request.headers["authorization"]
    assert "/us-east-1/execute-api/aws4_request," in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == sdk.TOKEN


def test_without_a_session_token_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SESSION_TOKEN")
    with scripted() as server:
        Client(server.url).post_to_connection(ConnectionId=ID, Data=b"hello")
    [request] = server.requests
    assert "x-amz-security-token" not in request.headers
    assert "SignedHeaders=host;x-amz-date," in request.headers["authorization"]


def refreshable(monkeypatch: pytest.MonkeyPatch, refreshed: list[str]) -> Any:
    """Gives the SDK credentials that are good for an hour, and new ones when they have expired."""

    def fresh(key: str) -> dict[str, str]:
        expiry = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
        return {"access_key": key, "secret_key": "secret", "token": f"token-{key}", "expiry_time": expiry}

    def refresh() -> dict[str, str]:
        refreshed.append("NEW")
        return fresh("NEW")

    credentials = RefreshableCredentials.create_from_metadata(fresh("OLD"), refresh, "test")
    monkeypatch.setattr(botocore.session.Session, "get_credentials", lambda _session: credentials)
    return credentials


@pytest.mark.parametrize("threads", [1, 16])
def test_credentials_that_expire_between_two_posts_are_refreshed_once(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    refreshed: list[str] = []
    credentials = refreshable(monkeypatch, refreshed)
    with scripted() as server, ThreadPoolExecutor(threads) as executor:
        client = Client(server.url)
        client.post_to_connection(ConnectionId=ID, Data="one")
        assert refreshed == []
        credentials._expiry_time = datetime.now(timezone.utc) - timedelta(seconds=1)
        list(executor.map(lambda _: client.post_to_connection(ConnectionId=ID, Data="more"), range(2 * threads)))
    assert refreshed == ["NEW"]
    keys = [request.headers["authorization"].partition("Credential=")[2][:3] for request in server.requests]
    assert keys == ["OLD"] + ["NEW"] * 2 * threads
    tokens = [request.headers["x-amz-security-token"] for request in server.requests]
    assert tokens == ["token-OLD"] + ["token-NEW"] * 2 * threads


@pytest.mark.parametrize(
    ("variables", "region"),
    [
        ({"AWS_DEFAULT_REGION": "eu-central-1"}, "eu-central-1"),
        ({"AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "", "AWS_REGION": "eu-west-1"}, "eu-west-1"),
        ({"AWS_DEFAULT_REGION": "eu-central-1", "AWS_REGION": "eu-west-1"}, "eu-central-1"),
    ],
)
def test_posts_are_signed_for_the_region_of_the_sdks_configuration(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], region: str
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with scripted() as server:
        Client(server.url).post_to_connection(ConnectionId=ID, Data="hello")
    assert f"/{region}/execute-api/" in server.requests[0].headers["authorization"]


def test_the_region_that_chalice_is_told_is_that_of_the_sdks_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert Session().region_name == "eu-central-1"


@pytest.mark.parametrize(
    ("variables", "advice"),
    [
        ({"AWS_DEFAULT_REGION": ""}, "set AWS_DEFAULT_REGION"),
        ({"AWS_DEFAULT_REGION": "eu central\n"}, "AWS_"),
        ({"AWS_PROFILE": "nowhere"}, "AWS_"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "AWS_"),
        ({ENDPOINT_VARIABLE: "ftp://chat.example"}, ENDPOINT_VARIABLE),
        ({ENDPOINT_VARIABLE: "https://chat.example:port"}, ENDPOINT_VARIABLE),
        ({CA_VARIABLE: "/no/such/file"}, CA_VARIABLE),
        ({CA_VARIABLE: __file__}, CA_VARIABLE),
        ({CA_VARIABLE: "/"}, CA_VARIABLE),
    ],
)
def test_a_configuration_that_is_of_no_use_is_said_with_what_to_mend(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], advice: str
) -> None:
    monkeypatch.setenv(ENDPOINT_VARIABLE, "https://127.0.0.1:1/api")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=advice) as refused:
        Session().client(SERVICE, endpoint_url="https://127.0.0.1:1/api")
    assert sdk.TOKEN not in str(refused.value)
    with pytest.raises(PostFailed, match=advice):
        poster(websocket_api())(ID, "hello")


@pytest.mark.parametrize("trusted", [True, False])
def test_the_sdks_variable_for_certificates_says_who_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, trusted: bool
) -> None:
    authority = Authority(tmp_path)
    if trusted:
        monkeypatch.setenv(CA_VARIABLE, authority.ca_file)
    with scripted(context=authority.server()) as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url)
        if trusted:
            poster(websocket_api())(ID, "hello")
        else:
            with pytest.raises(PostFailed, match=f"{CA_VARIABLE} or {ENDPOINT_VARIABLE}"):
                poster(websocket_api())(ID, "hello")
    assert len(server.requests) == trusted


# --- What a post's failure is, by whether a repeat could deliver twice.


def answer(status: int, body: bytes = b"", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


ECHOED = f"{sdk.SECRET} {sdk.TOKEN}".encode()
"""What no error may show, even if the other side should send it back."""


@pytest.mark.parametrize(
    ("response", "kind", "text"),
    [
        (answer(410), PostFailed, "410 410"),
        (answer(410, headers="x-amzn-ErrorType: GoneException\r\n"), ConnectionGone, "410"),
        (answer(410, b'{"code":"GoneException"}'), ConnectionGone, "410"),
        (answer(429, b'{"message":"%s"}' % ECHOED), Throttled, "429"),
        (answer(429, headers="x-amzn-ErrorType: LimitExceededException\r\n"), Throttled, "LimitExceededException"),
        (answer(403, b'{"message":"%s"}' % ECHOED), PostFailed, "must allow execute-api:ManageConnections on this API"),
        (answer(403, b"<html>%s</html>" % ECHOED), PostFailed, "the endpoint must be API Gateway's"),
        (answer(413, headers="x-amzn-ErrorType: PayloadTooLargeException\r\n"), PostFailed, "PayloadTooLargeException"),
        (answer(300), PostFailed, "300 Unknown"),
        (answer(302, headers="Location: https://elsewhere.example/\r\n"), PostFailed, "302"),
        (answer(400, ECHOED), PostFailed, "400"),
        (answer(404, b"<html>%s</html>" % ECHOED), PostFailed, "404"),
        (answer(500), PostFailed, "500"),
        (answer(502, b"<html>%s</html>" % ECHOED), PostFailed, "502"),
        (answer(503), PostFailed, "503"),
        (answer(400, b"\xff" + ECHOED), PostFailed, f"Is {ENDPOINT_VARIABLE} set wrongly"),
        (answer(400, b"[1]"), PostFailed, f"Is {ENDPOINT_VARIABLE} set wrongly"),
        (answer(400, b'{"__type":1}'), PostFailed, f"Is {ENDPOINT_VARIABLE} set wrongly"),
        (b"<html>%s</html>\r\n\r\n" % ECHOED, PostFailed, "before we received a valid response"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", PostFailed, "before we received a valid response"),
    ],
)
def test_each_refusal_is_an_error_of_ours_and_is_sent_once(
    monkeypatch: pytest.MonkeyPatch, response: bytes, kind: type[PostError], text: str
) -> None:
    with scripted(answers(response)) as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url)
        with pytest.raises(PostError) as raised:
            poster(websocket_api())(ID, "hello")
    assert type(raised.value) is kind
    assert text in str(raised.value)
    assert len(server.requests) == 1
    assert_nothing_secret(raised.value)


def assert_nothing_secret(error: PostError) -> None:
    for secret in (sdk.SECRET, sdk.TOKEN, sdk.ACCESS_KEY):
        assert secret not in str(error)


def closes_after(peer: Peer) -> None:
    peer.request()
    peer.close()


def never_answers(peer: Peer) -> None:
    peer.request()
    peer.pause()


def never_reads(peer: Peer) -> None:
    peer.pause()


@pytest.mark.parametrize(
    ("script", "text_bytes", "kind", "seen"),
    [
        (closes_after, 5, PostFailed, 1),
        (never_answers, 5, PostFailed, 1),
        (never_reads, 33_554_432, NotWritten, 0),
    ],
)
def test_what_was_wholly_sent_may_have_been_delivered_and_what_was_not_cannot(
    monkeypatch: pytest.MonkeyPatch, script: Script, text_bytes: int, kind: type[PostError], seen: int
) -> None:
    monkeypatch.setattr(transport, "ANSWER_SECONDS", 0.2)
    with scripted(script) as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url)
        with pytest.raises(PostError) as raised:
            poster(websocket_api())(ID, "x" * text_bytes)
        assert type(raised.value) is kind
        assert (len(server.peers), len(server.requests)) == (1, seen)
    assert_nothing_secret(raised.value)


@pytest.mark.parametrize("script", [Peer.close, Peer.drain])
def test_a_handshake_that_fails_in_passing_is_not_written(monkeypatch: pytest.MonkeyPatch, script: Script) -> None:
    monkeypatch.setattr(transport, "CONNECT_SECONDS", 0.2)
    with scripted(script) as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url.replace("http", "https"))
        with pytest.raises(NotWritten):
            poster(websocket_api())(ID, "hello")


def test_an_endpoint_that_refuses_connections_has_not_been_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv(ENDPOINT_VARIABLE, f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(NotWritten, match=r"127\.0\.0\.1"):
            poster(websocket_api())(ID, "hello")


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
        ({"AWS_SESSION_TOKEN": f"{sdk.TOKEN}\n"}, "holds a line break"),
        ({"AWS_ACCESS_KEY_ID": f"{sdk.ACCESS_KEY}\r\nX: y"}, "holds a line break"),
    ],
)
def test_credentials_that_cannot_sign_send_nothing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], text: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with scripted() as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url)
        with pytest.raises(PostFailed, match=text) as raised:
            poster(websocket_api())(ID, "hello")
    assert server.requests == []
    assert_nothing_secret(raised.value)


def test_without_credentials_the_client_fails_as_boto3s_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(NoCredentialsError):
        Client("http://127.0.0.1:1").post_to_connection(ConnectionId=ID, Data="hello")


def test_many_threads_that_meet_the_first_stale_connections_at_once_all_know_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """botocore makes its exceptions anew at each load of its model: threads with one each would not know them."""
    gone = answer(410, headers="x-amzn-ErrorType: GoneException\r\n")
    with scripted(answers(gone)) as server:
        monkeypatch.setenv(ENDPOINT_VARIABLE, server.url)
        for _ in range(3):
            transport._loaded.cache_clear()
            post, together = poster(websocket_api()), threading.Barrier(8)
            with ThreadPoolExecutor(8) as threads:
                errors = list(threads.map(_error_of, [post] * 8, [together] * 8))
            assert [type(error) for error in errors] == [ConnectionGone] * 8


def _error_of(post: Post, together: threading.Barrier) -> PostError | None:
    together.wait()
    try:
        post(ID, "hello")
    except PostError as error:
        return error
    return None
