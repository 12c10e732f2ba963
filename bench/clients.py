"""Members of a channel in a process of their own: WebSocket clients that count what each of them receives.

`python -m bench.clients` takes commands on stdin, one JSON object a line, and answers each on stdout when it is done.
It ends with its stdin, and so with the process that started it. Who publishes, and what is made of the counts, is
fanout.py's.

    {"do": "connect", "url": u, "members": n}      {"opened": n so far} …, then {"done": "connect"}
    {"do": "leave", "members": n, "seconds": s}    {"done": "leave"}, once the last has left
    {"do": "await", "message": m, "patience": s}   {"done": "await"}, once all have it, or nothing came for so long
    {"do": "count", "messages": [m, …]}            {"done": "count", "missing": n, "twice": n, "latencies": [[s, …], …]}

A message is text that begins with its number and the time it was sent at, both decimal: `7 123456789 xxxx…`. The time
is CLOCK_MONOTONIC's in ns, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

CONNECTING_AT_ONCE = 48
OPEN_SECONDS = 60.0
REPORT_EVERY = 50

QUIET_SECONDS = 0.5
"""So long nothing may have come before it is counted what did."""


class Socket(asyncio.Protocol):
    """One connection, with as little between the kernel and `receive` as there can be: the clients share the cores with
    what is measured.
    """

    def __init__(self, url: str, receive: Callable[[bytes], None]) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._websocket = ClientProtocol(parse_uri(url))
        self._receive = receive
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._websocket.send_request(self._websocket.connect())
        self._write()

    def data_received(self, data: bytes) -> None:
        self._websocket.receive_data(data)
        for event in self._websocket.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self._receive(bytes(event.data))
            elif isinstance(event, Response) and self._websocket.handshake_exc is None:
                self.opened.set_result(None)
        self._write()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.opened.done():
            why = self._websocket.handshake_exc or error or ConnectionError("the server closed the connection")
            self.opened.set_exception(why)

    def end(self, *, politely: bool) -> None:
        """Closes with a close frame, or vanishes."""
        if politely:
            self._websocket.send_close(1001)
            self._write()
        else:
            self._transport.abort()

    def _write(self) -> None:
        for data in self._websocket.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


class Members:
    """The members that live in this process, and how often each message has come to each of them."""

    def __init__(self) -> None:
        self._sockets: dict[int, Socket] = {}
        self._staying_from = 0
        """Members of a lower number leave, or have left: what they received is not asked for."""
        self._size = 0
        self._counts: dict[int, bytearray] = {}
        self._latencies: dict[int, array[float]] = {}
        self._came = asyncio.Event()

    async def connect(self, url: str, size: int, report: Callable[[int], None]) -> None:
        """Opens `size` connections. Raises what the first that fails is told."""
        self._size = size
        numbers, opened = iter(range(size)), count(1)

        async def open_some() -> None:
            for number in numbers:
                await self._open(url, number)
                if (so_far := next(opened)) % REPORT_EVERY == 0 or so_far == size:
                    report(so_far)

        await asyncio.gather(*(open_some() for _ in range(CONNECTING_AT_ONCE)))

    async def leave(self, leavers: int, seconds: float) -> None:
        """Ends so many connections at random times within `seconds`: half of them with a close frame, half without."""
        leaving = range(self._staying_from, self._staying_from + leavers)
        self._staying_from = leaving.stop
        dice = random.Random(leavers)

        async def end(number: int) -> None:
            await asyncio.sleep(dice.uniform(0, seconds))
            self._sockets[number].end(politely=number % 2 == 0)

        await asyncio.gather(*map(end, leaving))

    async def wait_for(self, message: int, patience: float) -> None:
        """Until the message has come to all who stay, or nothing has come to anyone for `patience` s."""
        while self._received(message).count(0):
            self._came.clear()
            try:
                await asyncio.wait_for(self._came.wait(), patience)
            except asyncio.TimeoutError:
                return
            await asyncio.sleep(0.02)

    async def count(self, messages: list[int]) -> dict[str, Any]:
        """What became of these messages: how many are missing at those who stay, and how many were one too many."""
        with suppress(asyncio.TimeoutError):  # what comes twice may come last
            while True:
                self._came.clear()
                await asyncio.wait_for(self._came.wait(), QUIET_SECONDS)
        return {
            "missing": sum(self._received(number).count(0) for number in messages),
            "twice": sum(seen - 1 for number in messages for seen in self._counts.get(number, b"") if seen > 1),
            "latencies": [[*self._latencies.get(number, ())] for number in messages],
        }

    async def _open(self, url: str, number: int) -> None:
        def receive(text: bytes) -> None:
            self._receive(number, text)

        uri = parse_uri(url)
        loop = asyncio.get_running_loop()
        _, socket = await loop.create_connection(lambda: Socket(url, receive), uri.host, uri.port)
        await asyncio.wait_for(socket.opened, OPEN_SECONDS)
        self._sockets[number] = socket

    def _receive(self, member: int, text: bytes) -> None:
        now = time.monotonic_ns()
        digits, sent_at, _ = text.split(b" ", 2)
        number = int(digits)
        if number not in self._counts:
            self._counts[number] = bytearray(self._size)
            self._latencies[number] = array("d")
        counts = self._counts[number]
        counts[member] += 1
        if counts[member] == 1:
            self._latencies[number].append((now - int(sent_at)) / 1e9)
        self._came.set()

    def _received(self, message: int) -> bytearray:
        return self._counts.get(message, bytearray(self._size))[self._staying_from :]


async def main() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    members = Members()
    running: set[asyncio.Task[None]] = set()
    while line := await commands.readline():
        task = asyncio.create_task(_carry_out(members, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


async def _carry_out(members: Members, command: dict[str, Any]) -> None:
    answer: dict[str, Any] = {}
    try:
        match command["do"]:
            case "connect":
                await members.connect(command["url"], command["members"], lambda opened: _say({"opened": opened}))
            case "leave":
                await members.leave(command["members"], command["seconds"])
            case "await":
                await members.wait_for(command["message"], command["patience"])
            case "count":
                answer = await members.count(command["messages"])
    except Exception as error:  # noqa: BLE001  whoever gave the command is told
        answer = {"error": f"{type(error).__name__}: {error}"}
    _say({"done": command["do"], **answer})


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says "unlimited" and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())
