"""One connection on a real socket: how long it lasts, and what it costs others if its client does not read or answer.

Time is put forward, not waited for.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from websockets.frames import Frame, Opcode

from localaws import connections
from localaws.connections import CLOSE_S, BufferFull, Connection
from localaws.events import Identity
from localaws.frames import Close
from localaws.limits import OUTGOING_BUFFER_BYTES
from tests.localaws.raw import CLOSE, CONT, PING, TEXT, WAIT_S, Reader, closing, frame

MOST_BYTES = 8 * OUTGOING_BUFFER_BYTES
"""What may wait for a client or for the server, the kernel's own buffers included; far more would be memory lost."""
IDLE_S, LIFE_S = 600.0, 7_200.0
GOING_AWAY = Close(1001, "Going away")
GONE = b"\x03\xe9Going away"
IDENTITY = Identity("an id", 0, "api", "x", "127.0.0.1", None)


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


class Handed(asyncio.Protocol):
    """Does what aiohttp does with what its parser is set to: hands over what comes, and the end."""

    connection: Connection

    def data_received(self, data: bytes) -> None:
        self.connection.feed_data(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.connection.feed_eof()


@dataclass
class Pair:
    """A connection, and its client's end of the socket."""

    connection: Connection
    clock: Clock
    client: socket.socket
    _reader: Reader = field(default_factory=Reader)
    _received: list[Frame] = field(default_factory=list)

    async def forward(self, seconds: float) -> None:
        """Let time pass, and what is due happen."""
        self.clock.ahead += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    async def send(self, data: bytes) -> None:
        await self.clock.sock_sendall(self.client, data)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame that the client gets."""
        while not self._received:
            data = await asyncio.wait_for(self.clock.sock_recv(self.client, 65_536), WAIT_S)
            assert data, "the connection has ended"
            self._received = self._reader.read(data)
        received = self._received.pop(0)
        return received.opcode, bytes(received.data)

    async def read(self) -> list[str]:
        return await asyncio.wait_for(self.connection.read(), WAIT_S)

    async def fill(self, data: bytes) -> int:
        """Send the same over and over until it is not taken any more, or MOST_BYTES are; how often it was taken."""
        rounds, rest, refusals = 0, data, 0
        while refusals < 50 and rounds * len(data) < MOST_BYTES:
            try:
                rest = rest[self.client.send(rest) :]
                refusals = 0
            except BlockingIOError:
                refusals += 1
                await asyncio.sleep(0.001)
            except OSError:  # the connection has ended
                break
            if not rest:
                rounds, rest = rounds + 1, data
                await asyncio.sleep(0)
        return rounds


def run(scenario: Callable[[Pair], Awaitable[None]]) -> None:
    """A scenario with a connection of its own; its client does not read unless told."""
    clock = Clock()

    async def play() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        handed = Handed()
        transport, _ = await clock.connect_accepted_socket(lambda: handed, ours)
        handed.connection = Connection(IDENTITY, transport, idle_s=IDLE_S, life_s=LIFE_S)
        with theirs:
            try:
                await scenario(Pair(handed.connection, clock, theirs))
            finally:
                transport.abort()
                await asyncio.sleep(0)

    try:
        clock.run_until_complete(play())
    finally:
        clock.close()


# How long it lasts


def test_a_connection_without_messages_is_closed_with_1001_after_its_idle_time() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.forward(IDLE_S - 1)
        assert pair.connection.closed is None
        await pair.forward(1)
        assert pair.connection.closed == GOING_AWAY
        assert await pair.frame() == (CLOSE, GONE)

    run(scenario)


def test_a_message_in_either_direction_puts_off_the_idle_close() -> None:
    async def scenario(pair: Pair) -> None:
        for _ in range(3):
            await pair.forward(IDLE_S - 1)
            await pair.send(frame(TEXT, b"hi"))
            assert await pair.read() == ["hi"]
            await pair.forward(IDLE_S - 1)
            pair.connection.post(b"hi")
        assert pair.connection.closed is None
        await pair.forward(IDLE_S)
        assert pair.connection.closed == GOING_AWAY

    run(scenario)


@pytest.mark.parametrize("data", [frame(TEXT, b"half", fin=False), frame(TEXT, b"half")[:-1], frame(PING)])
def test_a_message_that_is_not_complete_or_a_ping_does_not_put_off_the_idle_close(data: bytes) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.forward(IDLE_S - 1)
        await pair.send(data + frame(PING) if data == frame(PING) else frame(PING) + data)
        assert await pair.frame() == (Opcode.PONG, b"")
        await pair.forward(1)
        assert pair.connection.closed == GOING_AWAY

    run(scenario)


def test_an_active_connection_is_closed_with_1001_after_its_life_time() -> None:
    async def scenario(pair: Pair) -> None:
        for _ in range(24):
            assert pair.connection.closed is None
            await pair.forward(LIFE_S / 24)
            pair.connection.post(b"hi")
        assert pair.connection.closed == GOING_AWAY
        assert [await pair.frame() for _ in range(24)] == [(TEXT, b"hi")] * 23 + [(CLOSE, GONE)]

    run(scenario)


# How it ends


def test_a_close_is_sent_behind_what_was_posted_and_nothing_after_it() -> None:
    async def scenario(pair: Pair) -> None:
        pair.connection.post(b"last words")
        pair.connection.close(1000, "done")
        pair.connection.post(b"too late")
        pair.connection.close(1001)
        assert await pair.frame() == (TEXT, b"last words")
        assert await pair.frame() == (CLOSE, b"\x03\xe8done")
        await pair.send(closing(1000))
        pair.client.close()
        assert await pair.read() == []
        assert pair.connection.closed == Close(1000, "done")

    run(scenario)


@pytest.mark.parametrize("data", [closing(1000), frame(TEXT, b"\xff")], ids=["closes", "is at fault"])
def test_a_client_that_closes_or_is_at_fault_sees_the_end_at_once(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(connections, "CLOSE_S", 1_000_000.0)

    async def scenario(pair: Pair) -> None:
        await pair.send(data)
        assert (await pair.frame())[0] == CLOSE
        assert await asyncio.wait_for(pair.clock.sock_recv(pair.client, 1), WAIT_S) == b""

    run(scenario)


@pytest.mark.parametrize("data", [b"", frame(PING), frame(TEXT, b"late")], ids=["silent", "pings", "goes on"])
def test_a_client_that_does_not_answer_a_close_is_cut_off(data: bytes) -> None:
    async def scenario(pair: Pair) -> None:
        pair.connection.close(1000)
        await pair.send(data)
        reading = asyncio.ensure_future(pair.read())
        await pair.forward(CLOSE_S / 2)
        assert not reading.done()
        await pair.forward(CLOSE_S / 2)
        assert await reading == []

    run(scenario)


def test_what_came_before_the_end_is_read_before_the_end() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.send(frame(TEXT, b"a") + frame(TEXT, b"b") + closing(4000, b"bye"))
        assert await pair.read() == ["a", "b"]
        assert pair.connection.closed == Close(4000, "bye")
        assert await pair.frame() == (CLOSE, b"\x0f\xa0bye")
        pair.client.close()
        assert await pair.read() == []

    run(scenario)


def test_a_connection_that_is_lost_ends_with_1006() -> None:
    async def scenario(pair: Pair) -> None:
        await pair.send(frame(TEXT, b"half")[:-1])
        pair.client.close()
        assert await pair.read() == []
        assert pair.connection.closed == Close(1006)
        pair.connection.post(b"to nobody")
        pair.connection.close(1000)

    run(scenario)


# A client that does not read, and a server that is busy


def test_posts_to_a_client_that_does_not_read_are_refused_until_it_reads() -> None:
    async def scenario(pair: Pair) -> None:
        posted = 0
        with pytest.raises(BufferFull):
            while posted * 10_000 < MOST_BYTES:
                pair.connection.post(b"x" * 10_000)
                posted += 1
        for _ in range(posted):
            assert await pair.frame() == (TEXT, b"x" * 10_000)
        pair.connection.post(b"again")
        assert await pair.frame() == (TEXT, b"again")

    run(scenario)


def test_a_client_that_pings_and_does_not_read_is_cut_off_before_its_pongs_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "CLOSE_S", 1_000_000.0)  # at once, and not as one that does not answer a close

    async def scenario(pair: Pair) -> None:
        pings = frame(PING, b"x" * 125) * 1_000
        assert await pair.fill(pings) * len(pings) < MOST_BYTES
        assert pair.connection.closed is not None
        assert pair.connection.closed.code == 1008
        assert await pair.read() == []

    run(scenario)


def test_a_client_that_pings_among_more_posts_than_fit_gets_them_all_and_its_pong() -> None:
    async def scenario(pair: Pair) -> None:
        for _ in range(3 * OUTGOING_BUFFER_BYTES // 125 // 500):  # pongs that were read do not count
            await pair.send(frame(PING, b"x" * 125) * 500)
            assert {await pair.frame() for _ in range(500)} == {(Opcode.PONG, b"x" * 125)}
        posts = 4 * OUTGOING_BUFFER_BYTES // 10_000
        for _ in range(posts):
            pair.connection.send(b"x" * 10_000)  # as one that was delayed: whether it fits was asked long ago
        await pair.send(frame(PING, b"hi") + frame(TEXT, b"hi"))
        assert await pair.read() == ["hi"]
        assert pair.connection.closed is None
        for _ in range(posts):
            assert await pair.frame() == (TEXT, b"x" * 10_000)
        assert await pair.frame() == (Opcode.PONG, b"hi")

    run(scenario)


def test_a_client_is_not_read_from_while_its_messages_wait() -> None:
    async def scenario(pair: Pair) -> None:
        messages = frame(TEXT, b"x" * 1_000) + frame(TEXT, b"y" * 1_000, fin=False) + frame(CONT)
        rounds = await pair.fill(messages)
        assert rounds * len(messages) < MOST_BYTES
        texts: list[str] = []
        while len(texts) < 2 * rounds:
            texts += await pair.read()
        assert texts[: 2 * rounds] == ["x" * 1_000, "y" * 1_000] * rounds

    run(scenario)
