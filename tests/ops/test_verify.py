"""`make verify`: its conversations, held with the local server, and what it says of servers that they cannot be held
with.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest
from websockets.http11 import Request, Response
from websockets.sync.client import connect as open_websocket
from websockets.sync.server import ServerConnection, serve

from ops.clients import FRAME_BYTES, SHOWN_CHARACTERS, Party, connect, receive
from ops.conversations import CONVERSATIONS, matches
from ops.errors import ConfigError, OpsError
from ops.verify import ABOUT, check, greet, hold, verify
from tests.certificates import Authority
from tests.server import OVERTAKING, Server, running_server


@pytest.fixture(scope="module", name="channels")
def a_server() -> Iterator[Server]:
    """Frames wait a random time there, and so are handled in any order, as on AWS."""
    with running_server(env=OVERTAKING) as server:
        yield server


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_goes_as_promised(channels: Server, name: str) -> None:
    _, failed = hold(channels.url, name)
    assert failed is None, str(failed)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_conversation_fails_with_a_server_that_only_repeats(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.clients.PAUSE_S", 0.05)
    with served(repeat) as url:
        _, failed = hold(url, name)
    assert failed is not None


def test_two_verifications_at_once_go_well_and_no_stranger_hears_of_them(
    channels: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_websocket(channels.url) as stranger, ThreadPoolExecutor() as threads:
        both = [threads.submit(verify, channels.url, any_host=False) for _ in range(2)]
        assert [one.result() for one in both] == [True, True]
        stranger.send("Marko?")
        assert stranger.recv(30) == "Polo!"
    printed = capsys.readouterr().out
    assert len(re.findall(r"ok +\d+\.\d s\n", printed)) == 2 * len(CONVERSATIONS)
    assert printed.count("All went as promised") == 2

    took = re.search(r"(\d+) connections, (\d+) messages sent", printed)
    said = re.search(r"about (\d+) connections, .* and (\d+) messages", ABOUT)
    assert took is not None
    assert said is not None
    connections, sent = map(int, took.groups())
    # Nearly every message that is sent is answered or reaches someone.
    for figure, about in zip((connections, 2 * sent), map(int, said.groups()), strict=True):
        assert 0.8 * about < figure < 1.2 * about, f"{figure}, not {about}"


def test_a_failed_conversation_says_what_was_said_and_expected_and_which_connections_to_look_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ops.clients.ANSWER_S", 1.0)
    monkeypatch.setattr("ops.clients.PAUSE_S", 0.05)

    def joins_and_then_fails(client: ServerConnection) -> None:
        for text in client:
            frame = json.loads(text) if str(text).endswith("}") else {}
            answer = {"message": "Internal server error", "connectionId": "abc=", "requestId": "r" * 1_000}
            if frame.get("action") == "joinchannel":
                answer = {"channel": frame["channel"], "connectionId": "abc="}
            client.send("Polo!" if text == "Marko?" else json.dumps(answer))

    with served(joins_and_then_fails) as url:
        assert not verify(url, any_host=False)
    printed = capsys.readouterr().out
    assert re.search(r"^ +pub/sub +FAILED +\d+\.\d s$", printed, re.MULTILINE)
    report = printed[printed.index("FAILED  pub/sub: A message reaches all members") :].split("\n\n")[0]
    assert 'said      ann > {"action": "sendmessage"' in report
    assert 'expected  ann: {"type": "ack", "delivered": 1, "stale": 0}' in report
    assert 'came      {"message": "Internal server error"' in report
    assert "log       ann is abc=, ben is abc=" in report
    assert max(map(len, report.splitlines())) < SHOWN_CHARACTERS + 60
    unheard = printed[printed.index("FAILED  20 messages at once") :].split("\n\n")[0]
    assert "came      nothing within 1 s" in unheard
    assert 'said      ben < {"message": "Internal server error"' in unheard
    assert re.search(rf"\n\d+ of {len(CONVERSATIONS)} failed: ", printed)


def test_a_server_that_goes_away_fails_the_conversation_with_the_reason() -> None:
    _, failed = hold(nothing_there(), "pub/sub")
    assert failed is not None
    assert "Nothing listens at ws://127.0.0.1:" in failed.came


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:8000/",
        "ws://127.1.2.3/",
        "ws://[::1]:8000/",
        "ws://localhost:8000",
        "ws://LOCALHOST./",
        "wss://abc.execute-api.localhost:4566/api",
    ],
)
def test_this_machine_is_verified_without_more_ado(url: str) -> None:
    check(url, any_host=False)


@pytest.mark.parametrize(
    "url",
    [
        "wss://abc.execute-api.eu-west-1.amazonaws.com/api",
        "ws://192.0.2.1/",
        "ws://0.0.0.0/",
        "ws://127.0.0.1.example.com/",
        "ws://localhost@example.com/",
        "ws://localhost.example.com/",
        "ws://notlocalhost/",
        "ws://[2001:db8::1]/",
    ],
)
def test_another_machine_is_verified_only_where_that_is_allowed(url: str) -> None:
    with pytest.raises(ConfigError, match=rf"nothing was sent to it.*{ABOUT}.*: make verify URL=.* ANY_HOST=1$"):
        verify(url, any_host=False)
    check(url, any_host=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "http://127.0.0.1:8000/",
        "https://abc.execute-api.eu-west-1.amazonaws.com/api",
        "ws://",
        "ws:///api",
        "ws://127.0.0.1:port/",
        "ws://127.0.0.1:99999/",
        "ws://[::1/",
        "ws://a..b/",
        "ws://127.0.0.1/#part",
    ],
)
def test_what_is_no_websocket_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"URL must be a WebSocket address, such as .*, not ") as refused:
        verify(url, any_host=True)
    assert repr(url) in str(refused.value)


def test_a_name_under_localhost_is_this_machine_whatever_a_resolver_says() -> None:
    def tell_host(client: ServerConnection) -> None:
        assert client.request is not None
        client.send(client.request.headers["Host"])

    with served(tell_host) as url:
        address = url.replace("127.0.0.1", "abc.execute-api.localhost")
        assert heard(address, {}) == urlsplit(address).netloc


def test_the_urls_own_parameters_are_kept_but_for_the_room() -> None:
    def tell_path(client: ServerConnection) -> None:
        assert client.request is not None
        client.send(client.request.path)

    with served(tell_path) as url:
        kept = heard(f"{url}api/?token=a%20b&room=theirs&none=", {"room": "our room"})
        assert kept == "/api/?token=a%20b&room=our%20room&none="
        assert heard(f"{url}api", {"room": ""}, "/nowhere") == "/api/nowhere?room="


def test_a_long_message_goes_in_frames_that_api_gateway_takes() -> None:
    def tell_lengths(client: ServerConnection) -> None:
        client.send(json.dumps({"lengths": [len(piece) for piece in client.recv_streaming()]}))

    with served(tell_lengths) as url, Party(url) as party:
        client = party.client("ann")
        client.send("x" * (2 * FRAME_BYTES + 1))
        client.expect({"lengths": [FRAME_BYTES, FRAME_BYTES, 1, 0]})
    assert FRAME_BYTES < 32 * 1024


@pytest.mark.parametrize(
    ("status", "advice"),
    [(401, "token"), (403, "ends with the stage"), (404, "host, port and path"), (500, "log"), (502, "log")],
)
def test_a_refused_handshake_is_explained(status: int, advice: str) -> None:
    def refuse(client: ServerConnection, _request: Request) -> Response:
        return client.respond(HTTPStatus(status), "")

    with served(repeat, process_request=refuse) as url, pytest.raises(OpsError) as refused:
        verify(f"{url}?token=secret", any_host=False)
    assert str(refused.value).startswith(f"{url} refused the handshake with {status}: ")
    assert advice in str(refused.value)


def test_a_redirect_is_not_followed() -> None:
    def redirect(client: ServerConnection, _request: Request) -> Response:
        response = client.respond(HTTPStatus.FOUND, "")
        response.headers["Location"] = elsewhere
        return response

    with (
        served(answer_polo) as elsewhere,
        served(repeat, process_request=redirect) as url,
        pytest.raises(OpsError, match=f"{url} refused the handshake with 302: "),
    ):
        greet(url)


def test_where_nothing_listens_that_is_said() -> None:
    url = nothing_there()
    with pytest.raises(OpsError, match=f"Nothing listens at {url}: start it .`make run`.,"):
        greet(url)


def test_where_nobody_answers_the_handshake_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.clients.HANDSHAKE_S", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        url = f"ws://127.0.0.1:{listener.getsockname()[1]}/"
        with pytest.raises(OpsError, match=f"Nothing answered at {url} in time: "):
            greet(url)


def test_a_websocket_server_that_says_nothing_is_not_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.verify.ANSWER_S", 0.2)

    def say_nothing(client: ServerConnection) -> None:
        for _ in client:
            pass

    with served(say_nothing) as url, pytest.raises(OpsError, match=r"expected 'Polo!' to 'Marko\?', came nothing\."):
        greet(url)


def test_a_name_that_nobody_has_is_said_to_be_none() -> None:
    with pytest.raises(OpsError, match=r"There is no host of the name in ws://no-such-host\.invalid/"):
        verify("ws://no-such-host.invalid/", any_host=True)


def test_a_server_that_speaks_something_else_is_told_from_one_of_websockets() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def greet_in_ssh() -> None:
            with listener.accept()[0] as client:
                client.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
                while client.recv(4_096):
                    pass

        thread = Thread(target=greet_in_ssh)
        thread.start()
        with pytest.raises(OpsError, match=r"does not speak as a WebSocket server does: check the port"):
            greet(f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        thread.join()


def test_a_certificate_that_is_not_trusted_is_explained(tmp_path: Path) -> None:
    with served(repeat, ssl=Authority(tmp_path).server()) as url, pytest.raises(OpsError) as refused:
        greet(url.replace("ws:", "wss:"))
    assert "is not trusted here: " in str(refused.value)
    assert "SSL_CERT_FILE" in str(refused.value)


def test_a_certificate_of_an_authority_that_is_trusted_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    with served(answer_polo, ssl=authority.server("channels.localhost")) as url:
        greet(url.replace("ws://127.0.0.1", "wss://channels.localhost"))


def test_wss_where_there_is_no_tls_is_explained(channels: Server) -> None:
    with pytest.raises(OpsError, match=r"There is no TLS at wss://.*use ws://"):
        greet(channels.url.replace("ws:", "wss:"))
    with served(repeat) as url, pytest.raises(OpsError, match=r"check the port, and whether it takes ws:// or wss://"):
        greet(url.replace("ws:", "wss:"))


def test_a_websocket_server_that_is_not_channels_is_told_by_its_answer() -> None:
    with (
        served(repeat) as url,
        pytest.raises(
            OpsError, match=r"does not answer as Channels does: expected 'Polo!' to 'Marko\?', came 'Marko\?'\."
        ),
    ):
        verify(url, any_host=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", "b"),
        (b"a", "a"),
        ("{}", {}),
        ({}, "{}"),
        ({}, {"a": 1}),
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 2}),
        ({"a": True}, {"a": 1}),
        ({"a": 1}, {"a": str}),
        ({"a": {"b": "c"}}, {"a": {"b": int}}),
    ],
)
def test_what_differs_is_not_taken_for_what_was_expected(value: object, expected: object) -> None:
    assert not matches(value, expected)


def heard(url: str, query: Mapping[str, str], path: str = "") -> str | bytes:
    """The first message that comes there."""

    async def first() -> str | bytes:
        async with await connect(url, query, path) as connection:
            return await receive(connection, 30)

    return asyncio.run(first())


def repeat(client: ServerConnection) -> None:
    for message in client:
        client.send(message)


def answer_polo(client: ServerConnection) -> None:
    for _ in client:
        client.send("Polo!")


def nothing_there() -> str:
    """The URL of a port that was free a moment ago."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return f"ws://127.0.0.1:{listener.getsockname()[1]}/"


@contextmanager
def served(handler: Callable[[ServerConnection], None], **options: object) -> Iterator[str]:
    """A WebSocket server of another kind. Yields its ws:// URL."""
    with serve(handler, "127.0.0.1", 0, **options) as server:  # type: ignore[arg-type]
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/"
        finally:
            server.shutdown()
            thread.join()
