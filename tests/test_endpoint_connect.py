"""How an endpoint is reached: which URLs there are, who is refused, and that nothing is sent to whom is not trusted."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, SSLError

from chalicelib import endpoint as module
from chalicelib.endpoint import Endpoint

from .certificates import Authority
from .endpoints import REQUEST, MovedClock, idle, opened
from .scripted import PATIENCE_SECONDS, Peer, scripted


@pytest.fixture(name="authority", scope="module")
def an_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def full_backlog() -> Iterator[int]:
    """The port of a socket that listens and takes no one any more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        while True:
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
            if not select.select([], [waiting], [], 0.1)[1]:
                break
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com/a", "a1b2c3d4e5.execute-api.eu-west-1.amazonaws.com"),
        ("https://chat.example:443/a/b/", "chat.example"),
        ("https://chat.example:8443", "chat.example:8443"),
        ("https://chat.example:80", "chat.example:80"),
        ("http://chat.example:80", "chat.example"),
        ("http://chat.example:443", "chat.example:443"),
        ("http://chat.example:", "chat.example"),
        ("HTTPS://Chat.Example/", "chat.example"),
        ("http://127.0.0.1:8000/api", "127.0.0.1:8000"),
        ("http://[::1]/api", "[::1]"),
        ("https://[2001:DB8::1]:443", "[2001:db8::1]"),
        ("https://[2001:db8::1]:1", "[2001:db8::1]:1"),
    ],
)  # fmt: skip
def test_a_url_names_the_host_that_is_signed_for(url: str, host: str) -> None:
    with opened(url) as endpoint:
        assert endpoint.host == host
    signer = SigV4Auth(Credentials("key", "secret"), "execute-api", "eu-west-1")
    assert signer.headers_to_sign(AWSRequest(method="GET", url=url))["host"] == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        "api",
        "localhost",
        "localhost:8000",
        "127.0.0.1:8000",
        "//localhost",
        "https://",
        "https:///api",
        "https://:443",
        "https:localhost",
        "ftp://localhost",
        "ws://localhost",
        "https://localhost:port",
        "https://localhost:-1",
        "https://localhost:65536",
        "https://localhost:80:80",
        "https://local host",
        "https://local\nhost",
        "https://local\0host",
        "https://.localhost",
        "https://a..b",
        "https://" + "a" * 64,
        "https://" + "a." * 200 + "b",
        "https://[::1",
        "https://::1",
        "https://[::g]",
    ],
)  # fmt: skip
def test_what_is_no_url_of_an_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        Endpoint(url, connect_seconds=1, answer_seconds=1, ca_file=None)
    assert str(refused.value)


def test_an_endpoint_of_tls_is_reached_with_its_name_and_the_authority_that_is_trusted(authority: Authority) -> None:
    with (
        scripted(context=authority.server("localhost")) as server,
        opened(server.url.replace("127.0.0.1", "localhost"), ca_file=authority.ca_file) as endpoint,
    ):
        assert endpoint.exchange(REQUEST).status == 200
        assert endpoint._idle[-1].socket.version() == "TLSv1.3"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("names", "expired", "trusted", "reason"),
    [
        (("127.0.0.1",), False, False, "unable to get local issuer|self.signed"),
        (("other.example",), False, True, "IP address mismatch"),
        (("127.0.0.2", "localhost"), False, True, "IP address mismatch"),
        (("127.0.0.1",), True, True, "expired"),
    ],
    ids=["unknown authority", "another name", "another address", "expired"],
)
def test_a_certificate_that_does_not_verify_is_refused_and_nothing_is_sent(  # noqa: PLR0917
    authority: Authority, tmp_path: Path, names: tuple[str, ...], expired: bool, trusted: bool, reason: str
) -> None:
    ca_file = authority.ca_file if trusted else Authority(tmp_path).ca_file
    with (
        scripted(context=authority.server(*names, expired=expired)) as server,
        opened(server.url, ca_file=ca_file) as endpoint,
    ):
        for _ in range(2):
            with pytest.raises(SSLError, match=reason):
                endpoint.exchange(REQUEST)
        assert idle(endpoint) == 0
    assert [bytes(peer.received) for peer in server.peers] == [b"", b""]


def test_the_authorities_of_the_system_do_not_vouch_for_our_own(authority: Authority) -> None:
    with (
        scripted(context=authority.server()) as server,
        opened(server.url, ca_file=None) as endpoint,
        pytest.raises(SSLError),
    ):
        endpoint.exchange(REQUEST)
    assert [bytes(peer.received) for peer in server.peers] == [b""]


def test_a_server_that_speaks_no_tls_is_told_by_an_error_of_tls(authority: Authority) -> None:
    def plain(peer: Peer) -> None:
        peer.connection.recv(4_096)
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.drain()

    with (
        scripted(plain) as server,
        opened(server.url.replace("http", "https"), ca_file=authority.ca_file) as endpoint,
        pytest.raises(SSLError),
    ):
        endpoint.exchange(REQUEST)
    assert len(server.peers) == 1


@pytest.mark.parametrize("cut", [Peer.close, Peer.reset])
@pytest.mark.parametrize("first", [0, 4_096])
def test_a_handshake_that_is_cut_is_a_connection_that_could_not_be_made(
    authority: Authority, cut: Callable[[Peer], None], first: int
) -> None:
    def play(peer: Peer) -> None:
        if first:
            peer.connection.recv(first)
        cut(peer)

    with (
        scripted(play) as server,
        opened(server.url.replace("http", "https"), ca_file=authority.ca_file) as endpoint,
        pytest.raises(EndpointConnectionError),
    ):
        endpoint.exchange(REQUEST)
    assert len(server.peers) == 1


def test_a_handshake_that_is_not_answered_ends_in_a_timeout_and_nothing_is_sent(authority: Authority) -> None:
    with (
        scripted(Peer.drain) as server,
        opened(server.url.replace("http", "https"), ca_file=authority.ca_file, connect_seconds=0.1) as endpoint,
        pytest.raises(ConnectTimeoutError),
    ):
        endpoint.exchange(REQUEST)
    assert b"hello" not in server.peers[0].received


def test_a_handshake_that_drips_ends_in_a_timeout(authority: Authority) -> None:
    def drip(peer: Peer) -> None:
        for byte in b"\x16\x03\x03\x40\x00" + bytes(16_384):
            peer.send(bytes((byte,)))
            peer.pause(0.01)

    with (
        scripted(drip) as server,
        opened(server.url.replace("http", "https"), ca_file=authority.ca_file, connect_seconds=0.2) as endpoint,
        pytest.raises(ConnectTimeoutError),
    ):
        endpoint.exchange(REQUEST)
    assert len(server.peers) == 1


def test_a_port_where_nobody_listens_is_a_connection_that_could_not_be_made() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            opened(f"http://127.0.0.1:{unused.getsockname()[1]}") as endpoint,
            pytest.raises(EndpointConnectionError, match=r"127\.0\.0\.1"),
        ):
            endpoint.exchange(REQUEST)


def test_a_name_that_is_not_known_is_a_connection_that_could_not_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_arguments: Any, **_more: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with (
        opened("https://nowhere.example") as endpoint,
        pytest.raises(EndpointConnectionError, match=r"nowhere\.example"),
    ):
        endpoint.exchange(REQUEST)


def test_a_connection_that_is_not_taken_ends_in_a_timeout() -> None:
    with full_backlog() as port, opened(f"http://127.0.0.1:{port}", connect_seconds=0.1) as endpoint:
        with pytest.raises(ConnectTimeoutError):
            endpoint.exchange(REQUEST)
        assert idle(endpoint) == 0


def test_an_address_that_does_not_answer_leaves_the_next_its_full_time(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = MovedClock()
    monkeypatch.setattr(module, "time", clock)
    with full_backlog() as dead, scripted(context=authority.server("chat.example")) as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
            for port in (dead, server.port)
        ]
        with (
            monkeypatch.context() as patch,
            opened("https://chat.example", ca_file=authority.ca_file, connect_seconds=1) as endpoint,
        ):
            patch.setattr(socket, "getaddrinfo", lambda *_arguments, **_more: addresses)
            assert endpoint.exchange(REQUEST).status == 200


def test_tickets_of_tls_that_arrive_late_do_not_spoil_an_idle_connection(authority: Authority) -> None:
    with (
        scripted(context=authority.server()) as server,
        opened(server.url, ca_file=authority.ca_file) as endpoint,
    ):
        connection = endpoint._connect()
        connection.used_at = time.time() - 1
        endpoint._idle.append(connection)
        tickets, _, _ = select.select([connection.socket], [], [], PATIENCE_SECONDS)
        assert tickets, "no tickets came"
        assert endpoint.exchange(REQUEST).status == 200
        assert len(server.peers) == 1
