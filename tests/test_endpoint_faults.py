"""What goes wrong on a connection, over real sockets, plain and TLS: whatever happens, a request is sent once."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

from chalicelib import endpoint as module
from chalicelib.endpoint import UNCHECKED_SECONDS, NotFullyWritten

from .certificates import Authority
from .endpoints import REQUEST, MovedClock, Serve, await_something_to_read, echo, idle, request
from .scripted import OK, PATIENCE_SECONDS, Peer, Script, answers


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


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
IN_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def at_once(peer: Peer, cut: Script) -> None:
    cut(peer)


def in_the_middle_of_the_request(peer: Peer, cut: Script) -> None:
    peer.connection.recv(len(REQUEST) // 2)
    cut(peer)


def after_the_request(peer: Peer, cut: Script) -> None:
    peer.request()
    cut(peer)


def in_the_middle_of_the_answer(peer: Peer, cut: Script) -> None:
    peer.request()
    peer.send(ANSWER[:20])
    cut(peer)


@pytest.mark.parametrize("cut", [Peer.close, Peer.reset])
@pytest.mark.parametrize(
    ("when", "seen"),
    [(at_once, 0), (in_the_middle_of_the_request, 0), (after_the_request, 1), (in_the_middle_of_the_answer, 1)],
)
def test_a_request_whose_connection_is_cut_is_not_sent_again(
    serve: Serve, when: Callable[[Peer, Script], None], seen: int, cut: Script
) -> None:
    server, endpoint = serve(lambda peer: when(peer, cut))
    with pytest.raises(ConnectionClosedError) as raised:  # NotFullyWritten is one
        endpoint.exchange(REQUEST)
    if seen:
        assert not isinstance(raised.value, NotFullyWritten)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (1, seen, 0)


@pytest.mark.parametrize("answer", [ANSWER, IN_CHUNKS])
def test_an_answer_cut_at_any_byte_is_an_error_and_the_request_is_not_sent_again(serve: Serve, answer: bytes) -> None:
    def play(peer: Peer) -> None:
        peer.request()
        peer.send(answer[: peer.number])
        peer.close()

    server, endpoint = serve(play)
    for number in range(len(answer)):
        with pytest.raises(ConnectionClosedError) as raised:
            endpoint.exchange(REQUEST)
        assert not isinstance(raised.value, NotFullyWritten)
        assert (len(server.peers), len(server.requests)) == (number + 1, number + 1)
    assert endpoint.exchange(REQUEST).body == b"hello"


def test_a_request_on_a_connection_that_dies_unnoticed_is_not_sent_again(serve: Serve, clock: MovedClock) -> None:
    def play(peer: Peer) -> None:
        peer.request()
        peer.send(OK)
        peer.reset()

    server, endpoint = serve(play)
    endpoint.exchange(REQUEST)
    await_something_to_read(endpoint)
    clock.seconds = UNCHECKED_SECONDS / 2
    with pytest.raises(ConnectionClosedError):
        endpoint.exchange(REQUEST)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (1, 1, 0)


@pytest.mark.parametrize(
    "answer", [b"<html>Bad Gateway</html>\r\n\r\n", b"\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x28\r\n\r\n"]
)
def test_what_is_no_answer_is_an_error_and_the_request_is_not_sent_again(serve: Serve, answer: bytes) -> None:
    server, endpoint = serve(answers(answer))
    with pytest.raises(ConnectionClosedError):
        endpoint.exchange(REQUEST)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (1, 1, 0)


@pytest.mark.parametrize("begun", [b"", ANSWER[:1], ANSWER[:-1], b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_that_does_not_come_or_does_not_go_on_ends_in_a_timeout(serve: Serve, begun: bytes) -> None:
    def play(peer: Peer) -> None:
        peer.request()
        peer.send(begun)
        peer.drain()

    server, endpoint = serve(play, answer_seconds=0.1)
    with pytest.raises(ReadTimeoutError):
        endpoint.exchange(REQUEST)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (1, 1, 0)


def drip(peer: Peer) -> None:
    """Answers with a byte now and then, for much longer than the endpoint may wait."""
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(400):
        peer.send(b"x")
        peer.pause(0.01)


def test_an_answer_that_drips_ends_in_a_timeout_and_the_next_has_its_full_time(serve: Serve) -> None:
    server, endpoint = serve(lambda peer: echo(peer) if peer.number else drip(peer), answer_seconds=0.25)
    with pytest.raises(ReadTimeoutError):
        endpoint.exchange(REQUEST)
    endpoint._answer_seconds = PATIENCE_SECONDS
    assert endpoint.exchange(REQUEST).body == b"hello"
    assert (len(server.peers), len(server.requests)) == (2, 2)


def test_data_that_keeps_coming_does_not_put_the_deadline_off(serve: Serve, clock: MovedClock) -> None:
    _server, endpoint = serve(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000))
    clock.monotonic_step = PATIENCE_SECONDS + 1
    with pytest.raises(ReadTimeoutError):
        endpoint.exchange(REQUEST)


def test_after_a_request_or_an_answer_in_pieces_the_next_has_its_full_time_on_the_same_connection(
    serve: Serve, clock: MovedClock
) -> None:
    server, endpoint = serve(answers(b"HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n" + b"x" * 50_000))
    clock.monotonic_step = 0.1
    bounds = set()
    for size in (10, 100_000, 10):
        endpoint.exchange(request("x" * size))
        options = (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
        bounds |= {endpoint._idle[-1].socket.getsockopt(socket.SOL_SOCKET, option, 16) for option in options}
    assert len(server.peers) == 1
    assert len(bounds) == 1


LARGE = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 33554432\r\n\r\n" + b"x" * 33_554_432
"""More than all buffers on the way hold."""


def never_reads(peer: Peer) -> None:
    peer.connection.recv(10)
    peer.pause()


def reads_slowly(peer: Peer) -> None:
    while peer.connection.recv(4_096):
        peer.pause(0.005)


@pytest.mark.parametrize("reads", [never_reads, reads_slowly])
def test_a_request_that_is_not_taken_in_time_is_not_fully_written(serve: Serve, reads: Script) -> None:
    server, endpoint = serve(reads, answer_seconds=0.2)
    with pytest.raises(NotFullyWritten):
        endpoint.exchange(LARGE)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (1, 0, 0)


def test_a_request_that_stops_within_one_write_is_not_fully_written(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITTEN_AT_ONCE", len(LARGE))
    server, endpoint = serve(never_reads, answer_seconds=0.2)
    with pytest.raises(NotFullyWritten):
        endpoint.exchange(LARGE)
    assert (len(server.peers), len(server.requests), idle(endpoint)) == (1, 0, 0)


def test_a_large_request_that_is_taken_is_written_whole(serve: Serve) -> None:
    server, endpoint = serve()
    for size in (131_072, 1_000_000, 16_384, 16_385):
        endpoint.exchange(request("x" * size))
        assert server.requests[-1].body == b"x" * size
    assert len(server.peers) == 1
