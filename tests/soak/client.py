"""One WebSocket client: opens a connection, speaks frames of any dialect on it, and writes down what comes of them.

Knows the frames and no plan: when it says what is crowd.py's.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from itertools import count
from math import inf
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from .accounts import UPSTREAM
from .history import ENVELOPE, JSON, TEXT, YWEBRTC, Connection, History, Message, mark, marked

HANDSHAKE_S = 60.0
ANSWER_S = 25.0
"""How long an answer is waited for before the frame is sent again. One that comes later counts all the same."""

CLOSE_S = 10.0
JOIN_ATTEMPTS = 4

ODD_FRAMES = {
    '{"action":"nonsense"}': "unknown_action",
    '{"type":"nonsense"}': "unknown_action",
    '{"action":"joinchannel"}': "missing_field",
    '{"action":"sendmessage","channel":7,"message":"m"}': "wrong_type",
    "[1,2,3]": "wrong_type",
    "null": "wrong_type",
}
"""What is no frame of any dialect, and what it is answered."""

_numbers = count(1)


async def enter(url: str, home: str, history: History, hush: asyncio.Future[None]) -> Client | None:
    """A client with that home channel, none if it is empty; None where the handshake failed. From `hush` on it waits
    for no answer any more.
    """
    connection = history.connecting()
    asked_at = time.monotonic()
    try:
        socket = await connect(
            f"{url}?room={quote(home)}",
            open_timeout=HANDSHAKE_S,
            close_timeout=CLOSE_S,
            ping_interval=None,
            compression=None,
            max_queue=None,
            proxy=None,
        )
    except (OSError, InvalidHandshake, InvalidMessage, TimeoutError) as error:
        status = error.response.status_code if isinstance(error, InvalidStatus) else type(error).__name__
        history.refused[str(status)] += 1
        connection.end(asked_at)
        return None
    if home:
        connection.joining(home, TEXT, asked_at).joined_at = time.monotonic()
    return Client(socket, connection, history, hush)


class Client:
    """An open connection."""

    def __init__(
        self, socket: ClientConnection, connection: Connection, history: History, hush: asyncio.Future[None]
    ) -> None:
        self.connection = connection
        self.at_rest = asyncio.Lock()
        """Held while it joins, leaves or goes: one of these at a time."""
        self._socket = socket
        self._history = history
        self._hush = hush
        self._waiting: dict[str, asyncio.Future[JSON]] = {}
        self.gone = asyncio.create_task(self._listen())
        """Done once the connection has ended."""

    @property
    def is_open(self) -> bool:
        return self.connection.ending_at == inf

    async def join(self, channel: str, *, envelope: bool = False) -> bool:
        """Joins as a member of pubsub, and learns the connection's id; False if it never heard that it has."""
        frame = {"action": "joinchannel", "channel": channel, **({"envelope": True} if envelope else {})}
        stay = self.connection.joining(channel, ENVELOPE if envelope else TEXT, time.monotonic())
        was_unsure, self.connection.unsure = self.connection.unsure, True
        for attempt in range(JOIN_ATTEMPTS):
            answer = await self._ask(f"join-{next(_numbers)}", frame)
            if answer is not None and "connectionId" in answer:
                self.connection.id = answer["connectionId"]
                stay.joined_at = min(stay.joined_at, time.monotonic())
                # After a second attempt the function of the first may still be under way.
                self.connection.unsure = was_unsure or attempt > 0
                return True
            if not self.is_open or self._hush.done():
                break
        return False

    async def subscribe(self, channel: str, home: str) -> None:
        """Subscribes as y-webrtc does. Nothing says that it is done; a message of one's own that comes back does."""
        now = time.monotonic()
        self.connection.joining(channel, YWEBRTC, now)
        if home != channel and (at_home := self.connection.stay(home)) is not None:
            at_home.leaving_at = now
        await self._send({"type": "subscribe", "topics": [channel]})

    async def leave(self, channel: str) -> None:
        """Leaves a channel of pubsub. Not one whose join was sent twice: the first may be handled after the leave."""
        stay = self.connection.stay(channel)
        if stay is None or self.connection.unsure:
            return
        stay.leaving_at = time.monotonic()
        answer = await self._ask(f"leave-{next(_numbers)}", {"action": "leavechannel", "channel": channel})
        if answer is not None and answer.get("left"):
            stay.left_at = time.monotonic()

    async def unsubscribe(self, channel: str) -> None:
        """Leaves as y-webrtc does. Nothing says when it is done."""
        stay = self.connection.stay(channel)
        if stay is not None:
            stay.leaving_at = time.monotonic()
            await self._send({"type": "unsubscribe", "topics": [channel]})

    async def publish(self, message: Message, frame: JSON) -> None:
        """Sends a frame that publishes the message, and waits for its answer, or for ANSWER_S."""
        message.sent_at = time.monotonic()
        self._history.published(message)
        if message.wants_answer:
            await self._ask(mark(message.number), {**frame, "ack": True})
            return
        came = asyncio.get_running_loop().create_future()
        self._waiting[mark(message.number)] = came
        await self._send(frame)
        await self._wait(mark(message.number), came)

    async def say_something_odd(self, text: str) -> None:
        """Sends text that is not to be taken for a frame."""
        await self._send_text(text)

    async def close(self) -> None:
        """Goes with a close frame."""
        self.connection.end(time.monotonic())
        await self._socket.close()
        await self.gone

    async def vanish(self) -> None:
        """Goes without one: the TCP connection is reset."""
        self.connection.end(time.monotonic())
        self._socket.transport.abort()
        await self.gone

    async def _ask(self, name: str, frame: JSON) -> JSON:
        """The answer to a frame; None if there is none."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        await self._send({**frame, "id": name})
        return await self._wait(name, answer)

    async def _wait(self, name: str, answer: asyncio.Future[JSON]) -> JSON:
        try:
            ends = (answer, self.gone, self._hush)
            await asyncio.wait(ends, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting.pop(name, None)
        return answer.result() if answer.done() else None

    async def _send(self, frame: JSON) -> None:
        await self._send_text(json.dumps(frame))

    async def _send_text(self, text: str) -> None:
        self._history.frames += 1
        with suppress(ConnectionClosed):
            await self._socket.send(text)

    async def _listen(self) -> None:
        with suppress(ConnectionClosed):
            async for text in self._socket:
                self._hear(str(text))
        self.connection.end(time.monotonic())

    def _hear(self, text: str) -> None:
        self._history.heard += 1
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        match value:
            case {"type": "ack", "id": str() as name}:
                self._acked(name, value)
            case {"type": "error", "code": str() as code}:
                self._failed(code, value.get("id"))
            case {"connectionId": str() as name, "requestId": str()}:
                self.connection.id = name
                self.connection.notices += 1
            case {"connectionId": str(), "id": str() as name}:
                self._settle(name, value)
            case {"type": "pong"}:
                pass
            case _ if text in {"Polo!", "Marko?"}:
                pass
            case _:
                self._history.received(self.connection, text)
                if (number := marked(text)) is not None:
                    self._settle(mark(number), None)

    def _acked(self, name: str, counts: JSON) -> None:
        if (number := marked(name)) is not None:
            self._history.answered(number, time.monotonic(), None, counts)
        self._settle(name, counts)

    def _failed(self, code: str, name: str | None) -> None:
        self._history.codes[code] += 1
        if name is None:
            if code in UPSTREAM:
                self.connection.errors.append((time.monotonic(), code))
            return
        if (number := marked(name)) is not None:
            self._history.answered(number, time.monotonic(), code)
        self._settle(name, {"code": code})

    def _settle(self, name: str, answer: JSON) -> None:
        waiting = self._waiting.get(name)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)
