"""Keep-alive connections over real sockets, plain and TLS: used again while they are good, and nothing sent twice."""

from __future__ import annotations

import gc
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from botocore.exceptions import ConnectionClosedError

from chalicelib import endpoint as module
from chalicelib.endpoint import IDLE_SECONDS, Endpoint, NotFullyWritten

from .certificates import Authority
from .endpoints import REQUEST, MovedClock, Serve, await_something_to_read, echo, idle, opened, request
from .scripted import OK, PATIENCE_SECONDS, Gone, Peer, Script, answers, scripted


@pytest.fixture(name="authority", scope="module")
def an_authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(name="serve", params=["plain", "tls"])
def serves(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Serve]:
    with ExitStack() as stack:
        yield Serve(stack, authority if request.param == "tls" else None)


@pytest.fixture(name="clock")
def a_clock(monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    clock = MovedClock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_requests_one_after_another_share_one_connection(serve: Serve) -> None:
    server, endpoint = serve(echo)
    for number in range(50):
        assert endpoint.exchange(request(str(number))).body == str(number).encode()
    assert [each.body for each in server.requests] == [str(number).encode() for number in range(50)]
    assert len(server.peers) == 1


def test_there_are_never_more_connections_than_requests_were_under_way_at_once(serve: Serve) -> None:
    server, endpoint = serve(echo)
    at_once = threading.Semaphore(3)

    def exchange(number: int) -> bytes:
        with at_once:
            return endpoint.exchange(request(str(number))).body

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(exchange, range(300))) == [str(number).encode() for number in range(300)]
    assert Counter(each.body for each in server.requests) == Counter(str(number).encode() for number in range(300))
    assert len(server.peers) <= 3
    assert idle(endpoint) == len(server.peers)


def test_the_connection_that_was_used_last_is_used_next(serve: Serve) -> None:
    both = threading.Barrier(2)

    def together(peer: Peer) -> None:
        peer.request()
        both.wait(PATIENCE_SECONDS)
        peer.send(OK)
        echo(peer)

    server, endpoint = serve(together)
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(endpoint.exchange, [REQUEST, REQUEST]))
    for _ in range(5):
        endpoint.exchange(REQUEST)
    assert sorted(peer.received.count(REQUEST) for peer in server.peers) == [1, 6]


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_a_connection_that_may_not_be_used_again_is_closed(serve: Serve, response: bytes) -> None:
    closed = threading.Semaphore(0)

    def play(peer: Peer) -> None:
        peer.request()
        peer.send(response)
        peer.drain()
        closed.release()

    server, endpoint = serve(play)
    for number in range(3):
        endpoint.exchange(REQUEST)
        assert closed.acquire(timeout=PATIENCE_SECONDS)
        assert (len(server.peers), len(server.requests), idle(endpoint)) == (number + 1, number + 1, 0)


@pytest.mark.parametrize("cut", [Peer.close, Peer.reset])
def test_a_connection_that_died_while_idle_is_noticed_before_it_is_used(
    serve: Serve, clock: MovedClock, cut: Script
) -> None:
    def play(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        if peer.number == 0:
            cut(peer)
        else:
            echo(peer)

    server, endpoint = serve(play)
    endpoint.exchange(REQUEST)
    await_something_to_read(endpoint)
    clock.seconds = 1
    assert endpoint.exchange(request("again")).status == 200
    assert [each.body for each in server.requests] == [b"hello", b"again"]
    assert len(server.peers) == 2


def test_all_connections_that_died_while_idle_are_noticed(serve: Serve, clock: MovedClock) -> None:
    together = threading.Barrier(5)

    def play(peer: Peer) -> None:
        peer.request()
        if peer.number < 5:
            together.wait(PATIENCE_SECONDS)
        peer.send(OK)
        if peer.number < 5:
            peer.close()

    server, endpoint = serve(play)
    with ThreadPoolExecutor(5) as threads:
        list(threads.map(endpoint.exchange, [REQUEST] * 5))
    await_something_to_read(endpoint)
    clock.seconds = 1
    endpoint.exchange(REQUEST)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (6, 6, 1)


@pytest.mark.parametrize(
    ("seconds", "connections"),
    [(0, 1), (1, 1), (IDLE_SECONDS - 1, 1), (IDLE_SECONDS + 1, 2), (86_400, 2), (-1, 2), (-86_400, 2)],
)
def test_a_connection_is_used_again_only_for_so_long(
    serve: Serve, clock: MovedClock, seconds: float, connections: int
) -> None:
    server, endpoint = serve()
    endpoint.exchange(REQUEST)
    clock.seconds = seconds
    endpoint.exchange(REQUEST)
    endpoint.exchange(REQUEST)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (connections, 3, 1)


def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next(serve: Serve, clock: MovedClock) -> None:
    idle_now = threading.Event()

    def play(peer: Peer) -> None:
        if peer.number:
            echo(peer)
        peer.request()
        peer.send(OK)
        idle_now.wait(PATIENCE_SECONDS)
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")
        peer.drain()

    server, endpoint = serve(play)
    endpoint.exchange(REQUEST)
    idle_now.set()
    await_something_to_read(endpoint)
    clock.seconds = 1
    assert endpoint.exchange(request("right")).body == b"right"
    assert len(server.peers) == 2


def test_a_connection_looked_at_and_found_good_still_waits_for_its_answer(serve: Serve, clock: MovedClock) -> None:
    def play(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.request()
        peer.pause(0.05)
        peer.send(OK)

    server, endpoint = serve(play)
    endpoint.exchange(REQUEST)
    clock.seconds = 1
    assert endpoint.exchange(REQUEST).status == 200
    assert len(server.peers) == 1


def test_many_threads_get_each_its_own_answer_and_nothing_arrives_twice(serve: Serve) -> None:
    def play(peer: Peer) -> None:
        """Cuts now and then, before, within and after an answer; each 5th connection lives on."""
        for number in range(1_000_000 if peer.number % 5 == 0 else 3 + peer.number % 7):
            body = peer.request().body
            response = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            peer.send(response[: number % 4] if number % 11 == 10 else response)
            if number % 11 == 10:
                break
        (peer.reset if peer.number % 2 else peer.close)()

    server, endpoint = serve(play)

    def exchange(number: int) -> bytes | ConnectionClosedError:
        try:
            return endpoint.exchange(request(str(number))).body
        except ConnectionClosedError as error:
            return error

    with ThreadPoolExecutor(32) as threads:
        outcomes = list(threads.map(exchange, range(1_000)))
    arrived = Counter(each.body for each in server.requests)
    assert max(arrived.values()) == 1
    for number, outcome in enumerate(outcomes):
        body = str(number).encode()
        assert isinstance(outcome, ConnectionClosedError) or (outcome == body and body in arrived)
        assert not (isinstance(outcome, NotFullyWritten) and body in arrived)
    assert any(isinstance(outcome, bytes) for outcome in outcomes)
    assert idle(endpoint) <= 32


def test_a_connection_is_closed_when_its_exchange_is_broken_off(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server, endpoint = serve()
    endpoint.exchange(REQUEST)

    def interrupted(_receive: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "read_response", interrupted)
    with pytest.raises(KeyboardInterrupt):
        endpoint.exchange(REQUEST)
    monkeypatch.undo()
    assert idle(endpoint) == 0
    endpoint.exchange(REQUEST)
    assert len(server.peers) == 2


def test_an_endpoint_that_nobody_uses_any_more_takes_its_connections_along() -> None:
    closed = threading.Event()

    def play(peer: Peer) -> None:
        try:
            answers(OK)(peer)
        except Gone:
            closed.set()
            raise

    with scripted(play) as server:
        endpoint = Endpoint(server.url, connect_seconds=5, answer_seconds=5, ca_file=None)
        endpoint.exchange(REQUEST)
        assert not closed.is_set()
        del endpoint
        gc.collect()
        assert closed.wait(PATIENCE_SECONDS)


def test_an_address_of_ipv6_is_reached_and_named_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with scripted(host="::1") as server, opened(server.url) as endpoint:
        assert endpoint.exchange(REQUEST).status == 200
        assert endpoint.host == f"[::1]:{server.port}"
