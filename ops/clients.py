"""Clients that take part in a conversation: connections, what is said on them, and what is waited for and how long.

Knows sockets and frames' sizes, and nothing of what frames mean.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import ExitStack, closing, suppress
from ipaddress import ip_address
from itertools import count
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from websockets.asyncio.client import connect as open_websocket
from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from .conversations import JSON, Expected, a_channel, ack, matches

T = TypeVar("T")

# websockets logs tracebacks of connections that break; a person is told in a sentence, once.
log = logging.getLogger("channels.verify")
log.addHandler(logging.NullHandler())

HANDSHAKE_S = 30.0
"""API Gateway itself gives $connect 29 s."""
ANSWER_S, CONVERSATION_S, CLOSE_S = 15.0, 90.0, 5.0
"""How long these may take. A Lambda that has to be started takes a second or two, an emulator's more."""
PAUSE_S = 0.2
"""Between two looks at what happens soon and without a word."""

FRAME_BYTES = 30 * 1024
"""A message goes in frames of at most so many bytes. API Gateway takes 32 KB (MESSAGE_BYTES has the page); whether that
counts a frame's header is not published.
"""

SHOWN_CHARACTERS, SHOWN_LINES, HEARD_AT_ONCE = 160, 8, 100


class Failed(Exception):
    """A promise was not kept. Its text says what was said, expected and received, and what to search the log for."""

    def __init__(self, party: Party, expected: str, came: str) -> None:
        self.party, self.expected, self.came = party, expected, came

    def __str__(self) -> str:
        said = [f"said      {line}" for line in self.party.said[-SHOWN_LINES:]]
        ids = ", ".join(f"{name} is {connection}" for name, connection in self.party.ids.items())
        log = f"log       {ids or 'no connection id is known'}"
        return "\n".join([*said, f"expected  {self.expected}", f"came      {self.came}", log])


class Party:
    """Those who take part in a conversation: connects them, keeps what is said, and sees that it ends in time."""

    def __init__(self, url: str) -> None:
        self.said: list[str] = []
        self.opened = self.sent = 0
        self.ids: dict[str, str] = {}
        """Connection ids, as far as the server has told them."""
        self._url = url
        self._clients: list[Client] = []
        self._ends_at = time.monotonic() + CONVERSATION_S
        # websockets has clients without asyncio, too, but over TLS some of their handshakes fail (with Python 3.11).
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Party:
        return self

    def __exit__(self, *_error: object) -> None:
        with closing(self._loop), ExitStack() as connections:
            for client in self._clients:
                connections.callback(client.close)

    def run(self, wait: Coroutine[object, object, T]) -> T:
        """Waits, and meanwhile all connections go on."""
        return self._loop.run_until_complete(wait)

    def client(self, name: str, room: str | None = None, path: str = "") -> Client:
        """Connects, with a home channel of its own where `room` names none, to a `path` behind the server's."""
        self.opened += 1
        query = {"room": a_channel() if room is None else room}
        self._clients.append(Client(self, name, self.run(connect(self._url, query, path))))
        return self._clients[-1]

    def clients(self, *names: str, room: str | None = None) -> list[Client]:
        return [self.client(name, room) for name in names]

    def patience(self) -> float:
        """How many seconds a frame may take now."""
        return min(ANSWER_S, self._ends_at - time.monotonic())

    def until(self, what: str) -> Iterator[int]:
        """Counts looks at something that happens soon, and raises Failed where it does not."""
        ends_at = time.monotonic() + self.patience()
        for number in count():
            yield number
            if time.monotonic() > ends_at:
                raise self.failed(what, f"something else, for {ANSWER_S:.0f} s")
            time.sleep(PAUSE_S)

    def failed(self, expected: str, came: str) -> Failed:
        for client in self._clients:
            client.heard()  # it may tell what went wrong
        return Failed(self, expected, came)


class Client:
    """One connection, with a name for it."""

    def __init__(self, party: Party, name: str, connection: Connection) -> None:
        self.name = name
        self._party, self._connection = party, connection

    @property
    def id(self) -> str:
        """The connection's id, which an ack has told."""
        return self._party.ids[self.name]

    def send(self, frame: JSON | bytes) -> None:
        """Sends text, JSON or binary data. websockets sends a message as one frame, whatever its size: what is too big
        for API Gateway goes in pieces. If the server has closed, that shows in what comes.
        """
        self._party.sent += 1
        self._party.said.append(f"{self.name} > {shown(frame)}")
        if not isinstance(frame, str | bytes):
            frame = json.dumps(frame, ensure_ascii=False)
        # Half a surrogate pair can only be sent escaped, and Python's escape for it is JSON's too.
        data = frame if isinstance(frame, bytes) else frame.encode("utf-8", "backslashreplace")
        pieces = [data[start : start + FRAME_BYTES] for start in range(0, len(data), FRAME_BYTES)]
        with suppress(ConnectionClosed):
            message = pieces if len(pieces) > 1 else data
            self._party.run(self._connection.send(message, text=isinstance(frame, str)))

    def expect(self, *expected: Expected) -> list[JSON]:
        """Waits for all of these, in whatever order, and returns what came. Nothing else may come before the last."""
        missing, heard = list(expected), []
        while missing:
            wanted = shown(missing[0]) + (f" and {len(missing) - 1} more" if missing[1:] else "")
            came = self._receive(wanted)
            place = next((place for place, one in enumerate(missing) if matches(came, one)), None)
            if place is None:
                raise self._failed(wanted, shown(came))
            heard.append(came)
            del missing[place]
        return heard

    def expect_nothing(self) -> None:
        """Nothing has come that was not expected: what was posted before now would come before this answer."""
        self.send("Marko?")
        self.expect("Polo!")

    def expect_close(self, code: int) -> None:
        """Waits until the server closes the connection, with that code."""
        try:
            came = shown(self._read(self._party.patience()))
        except TimeoutError:
            came = f"nothing within {ANSWER_S:.0f} s"
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code == code:
                return
            came = f"{closed}"
        raise self._failed(f"to be closed with {code}", came)

    def heard(self) -> list[JSON]:
        """What has come by now, or does within a moment."""
        heard: list[JSON] = []
        with suppress(TimeoutError, ConnectionClosed):
            while len(heard) < HEARD_AT_ONCE:
                heard.append(self._read(PAUSE_S))
        return heard

    def close(self) -> None:
        self._party.run(self._connection.close())

    def join(self, channel: str, **options: JSON) -> None:
        """Joins, and waits until it is written."""
        self.send({"action": "joinchannel", "channel": channel, **options})
        self.expect({"channel": channel, "connectionId": str})

    def publish(self, channel: str, message: JSON, *, reaches: int) -> None:
        """Publishes, and waits until it is sent to so many."""
        self.send({"action": "sendmessage", "channel": channel, "message": message, "ack": True})
        self.expect(ack(reaches))

    def _receive(self, wanted: str) -> JSON:
        try:
            return self._read(self._party.patience())
        except TimeoutError:
            raise self._failed(wanted, f"nothing within {ANSWER_S:.0f} s") from None
        except ConnectionClosed as closed:
            raise self._failed(wanted, f"the end of the connection: {closed}") from closed

    def _read(self, seconds: float) -> JSON:
        """The next frame: an object where it is one's JSON, else what came."""
        came: JSON = self._party.run(receive(self._connection, seconds))
        with suppress(ValueError):
            value = json.loads(came)
            came = value if isinstance(value, dict) else came
        self._party.said.append(f"{self.name} < {shown(came)}")
        if isinstance(came, dict) and isinstance(came.get("connectionId"), str):
            self._party.ids[self.name] = came["connectionId"]
        return came

    def _failed(self, wanted: str, came: str) -> Failed:
        return self._party.failed(f"{self.name}: {wanted}", came)


def shown(value: Expected) -> str:
    """A value on one line, as much of it as can be read; nothing of it can act on a terminal."""
    text = json.dumps(value, default=lambda kind: f"any {kind.__name__}") if isinstance(value, dict) else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… ({len(text):,} characters)"


class OpenWebSocket(open_websocket):
    """Follows no redirect: it may lead to another machine."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def connect(url: str, query: Mapping[str, str], path: str = "") -> Connection:
    """Connects to the server, to a path behind its own, with more parameters in the URL. Raises OSError and
    WebSocketException.

    Offers no subprotocol, which would have to be answered, and no compression, so that sizes are what they seem.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    parameters = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **query}
    address = parts._replace(
        path=f"{parts.path.rstrip('/')}{path}" if path else parts.path, query=urlencode(parameters, quote_via=quote)
    )
    unresolved = host.rstrip(".").endswith(".localhost")  # by glibc, for one
    here: dict[str, Any] = {"host": "127.0.0.1"} if unresolved else {}
    return await OpenWebSocket(
        address.geturl(),
        **here,
        proxy=None if is_loopback(host) else True,
        compression=None,
        logger=log,
        max_queue=None,  # what nobody reads any more must not hold up the close
        open_timeout=HANDSHAKE_S,
        close_timeout=CLOSE_S,
    )


async def receive(connection: Connection, seconds: float) -> str | bytes:
    """The next message. Raises TimeoutError and ConnectionClosed."""
    try:
        return await asyncio.wait_for(connection.recv(), seconds)
    except asyncio.TimeoutError:  # Python 3.10 has two
        raise TimeoutError from None


def is_loopback(host: str) -> bool:
    """Whether the name or address is this machine's, whatever a resolver says (RFC 6761, 6.3)."""
    name = host.rstrip(".").lower()
    with suppress(ValueError):
        return ip_address(name).is_loopback
    return name == "localhost" or name.endswith(".localhost")
