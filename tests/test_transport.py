from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from chalice.app import Chalice, WebsocketAPI

from chalicelib import transport
from chalicelib.errors import ConnectionGone, NotWritten, PostError, PostFailed, Throttled
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
