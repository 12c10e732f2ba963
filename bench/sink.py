"""A stand-in for @connections in a process of its own: fast enough to measure a sender with, and with AWS's rules.

It takes a post in, counts it for its receiver, and answers as its rules say: late, 429 beyond a quota, 410 for stale
receivers, or not at all. It knows nothing of who sends; gateway.py starts it.

`python -m bench.sink [--certificate FILE]` takes commands on stdin, one JSON object a line, and answers each with one
line on stdout. It ends with its stdin, and so with the process that started it.

    {"do": "rules", …}     the fields of Rules that are not at their defaults; quota and departures begin anew
    {"do": "reset"}        counts, quota and departures begin anew
    {"do": "totals"}       {"accepted": n, …}: Totals
    {"do": "receivers"}    {id: [times accepted, times accepted but not answered]}, of each that was posted to
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import unquote
from zlib import crc32

MESSAGE_BYTES = 131_072
"""The largest message, as AWS has it; 413 beyond."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REQUEST_LINE = re.compile(rb"POST /[^ ]*@connections/([^ /]+) HTTP/1\.1\r\n")

CUTS = ("idle", "unread", "unanswered", "half")
"""Where a socket dies: after an answer, so that the next request finds it dead; before its request is read whole; once
that is read and accepted; in the midst of the answer.
"""

FLUSHED_SECONDS = 0.002
"""How long a socket that dies after it has written lives on, so that what it wrote arrives."""


@dataclass(frozen=True)
class Rules:
    """How posts are answered. Shares are of 1."""

    latency_ms: float = 0.0
    rate: float | None = None
    """Posts a second beyond which the answer is 429; None for no quota."""
    burst: float = 0.0
    """How many posts the quota lets through at once: it is a bucket of that size, filled at `rate`."""
    throttled: float = 0.0
    """The share of posts that are answered 429 for no reason."""
    cut: float = 0.0
    """The share of posts whose socket dies."""
    stale: float = 0.0
    """The share of receivers that are gone."""
    leaving: float = 0.0
    """The share of receivers that go at some time within `leaving_seconds` of the first post."""
    leaving_seconds: float = 1.0

    def is_stale(self, connection_id: str) -> bool:
        """Whether that receiver is gone from the start: always the same ones."""
        return _of_1(b"stale", connection_id) < self.stale

    def leaves_at(self, connection_id: str) -> float | None:
        """When that receiver goes, in seconds after the first post; None for one that stays."""
        place = _of_1(b"leaving", connection_id)
        return place / self.leaving * self.leaving_seconds if place < self.leaving else None


def _of_1(salt: bytes, connection_id: str) -> float:
    """Where a receiver stands between 0 and 1."""
    return crc32(salt + connection_id.encode()) / 2**32


@dataclass
class Totals:
    """What became of all posts since the last reset. Times are of the machine's monotonic clock, in seconds."""

    accepted: int = 0
    """Answered 200, or cut off where that answer should have been."""
    over_quota: int = 0
    throttled_at_random: int = 0
    gone: int = 0
    too_large: int = 0
    cuts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CUTS, 0))
    first_accepted: float = 0.0
    last_accepted: float = 0.0
    at: float = 0.0
    """When these were counted."""


def _answer(status: str, kind: str = "", body: bytes = b"") -> bytes:
    error = f"x-amzn-ErrorType: {kind}\r\n" if kind else ""
    head = (
        f"HTTP/1.1 {status}\r\nDate: Wed, 25 Nov 2026 10:00:00 GMT\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: keep-alive\r\n"
        f"x-amzn-RequestId: 5c2f9c9e-58e3-4ad7-9d1a-0b4a6f2d5b55\r\n{error}\r\n"
    )
    return head.encode() + body


OK = _answer("200 OK")
GONE = _answer("410 Gone", "GoneException")
TOO_MANY = _answer("429 Too Many Requests", "LimitExceededException", b'{"message":"Too many requests"}')
TOO_LARGE = _answer("413 Payload Too Large", "PayloadTooLargeException", b'{"message":"Payload too large"}')
FORBIDDEN = _answer("403 Forbidden", "ForbiddenException", b'{"message":"Forbidden"}')


class Sink:
    """The rules in force, and the counts."""

    def __init__(self) -> None:
        self.begin(Rules())

    def begin(self, rules: Rules) -> None:
        self.rules = rules
        self.delay = rules.latency_ms / 1_000
        self.totals = Totals()
        self.accepted: dict[bytes, int] = {}
        self.unanswered: dict[bytes, int] = {}
        self._plain = not (rules.stale or rules.leaving or rules.throttled)
        self._tokens = rules.burst
        self._filled_at = self._began_at = 0.0

    def decide(self, connection_id: bytes) -> bytes:
        """The answer to a post that was read whole, which is counted."""
        now = time.monotonic()
        if not self._began_at:
            self._began_at = self._filled_at = now
        self.accepted.setdefault(connection_id, 0)
        totals, rules = self.totals, self.rules
        if rules.rate is not None:
            self._tokens = min(rules.burst, self._tokens + (now - self._filled_at) * rules.rate)
            self._filled_at = now
            if self._tokens < 1:
                totals.over_quota += 1
                return TOO_MANY
            self._tokens -= 1
        if not self._plain:
            if rules.throttled and random.random() < rules.throttled:
                totals.throttled_at_random += 1
                return TOO_MANY
            name = unquote(connection_id.decode())
            leaves_at = rules.leaves_at(name)
            if rules.is_stale(name) or (leaves_at is not None and now - self._began_at >= leaves_at):
                totals.gone += 1
                return GONE
        totals.accepted += 1
        totals.first_accepted = totals.first_accepted or now
        totals.last_accepted = now
        self.accepted[connection_id] += 1
        return OK

    def cut(self, connection_id: bytes) -> str:
        """How the socket of this post dies; empty for one that lives."""
        if not self.rules.cut or random.random() >= self.rules.cut:
            return ""
        self.accepted.setdefault(connection_id, 0)
        return random.choice(CUTS)

    def count_unanswered(self, answer: bytes, connection_id: bytes) -> None:
        """An answer that its sender never gets whole. Only what was accepted counts."""
        if answer is OK:
            self.unanswered[connection_id] = self.unanswered.get(connection_id, 0) + 1

    def obey(self, command: dict[str, Any]) -> object:
        what = command.pop("do")
        if what == "totals":
            self.totals.at = time.monotonic()
            return asdict(self.totals)
        if what == "receivers":
            return {
                unquote(connection_id.decode()): [times, self.unanswered.get(connection_id, 0)]
                for connection_id, times in self.accepted.items()
            }
        self.begin(Rules(**command) if what == "rules" else self.rules)
        return {}


class Exchange(asyncio.Protocol):
    """One connection: requests in, one after the other, and their answers."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._read = b""
        self._needed = 0
        self._receiver = b""
        self._cut = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read = self._read + data if self._read else data
        while self._read:
            if not self._needed and not self._begin_request():
                return
            if len(self._read) < self._needed:
                return
            length, self._needed = self._needed, 0
            self._read = self._read[length:]
            self._respond()

    def _begin_request(self) -> bool:
        """Reads the head, once it is there and if the request is to be read further."""
        head = self._read.find(b"\r\n\r\n")
        if head < 0:
            return False
        line, length = _REQUEST_LINE.match(self._read), _LENGTH.search(self._read, 0, head)
        size = int(length[1]) if length else 0
        if line is None or size > MESSAGE_BYTES:
            self._sink.totals.too_large += line is not None
            self._transport.write(FORBIDDEN if line is None else TOO_LARGE)
            self._transport.close()
            self._read = b""
            return False
        self._receiver, self._cut = line[1], self._sink.cut(line[1])
        if self._cut == "unread":
            self._sink.totals.cuts[self._cut] += 1
            self._die()
            return False
        self._needed = head + 4 + size
        return True

    def _respond(self) -> None:
        answer = self._sink.decide(self._receiver)
        cut = self._cut if answer is OK else ""
        if self._sink.delay:
            self._loop.call_later(self._sink.delay, self._write, answer, self._receiver, cut)
        else:
            self._write(answer, self._receiver, cut)

    def _write(self, answer: bytes, receiver: bytes, cut: str) -> None:
        dead = self._transport.is_closing()
        if dead or cut in ("unanswered", "half"):
            self._sink.count_unanswered(answer, receiver)
        if dead:
            return
        if cut:
            self._sink.totals.cuts[cut] += 1
        if cut == "unanswered":
            self._die()
            return
        self._transport.write(answer[: random.randrange(1, len(answer))] if cut == "half" else answer)
        if cut:
            self._loop.call_later(FLUSHED_SECONDS, self._die)

    def _die(self) -> None:
        self._read = b""
        self._transport.abort()


class Commands(asyncio.Protocol):
    """stdin, line by line."""

    def __init__(self, sink: Sink, ended: asyncio.Event) -> None:
        self._sink = sink
        self._ended = ended
        self._read = b""

    def data_received(self, data: bytes) -> None:
        *lines, self._read = (self._read + data).split(b"\n")
        for line in lines:
            say(self._sink.obey(json.loads(line)))

    def connection_lost(self, _error: Exception | None) -> None:
        self._ended.set()


def say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def serve(certificate: str | None) -> None:
    """Answers posts until stdin ends. The first line on stdout is {"port": n}."""
    loop = asyncio.get_running_loop()
    sink, ended = Sink(), asyncio.Event()
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    server = await loop.create_server(lambda: Exchange(sink), "127.0.0.1", 0, ssl=context, backlog=4_096)
    await loop.connect_read_pipe(lambda: Commands(sink, ended), sys.stdin)
    say({"port": server.sockets[0].getsockname()[1]})
    await ended.wait()


def answer_at_once() -> None:
    """Has this process run as soon as it has something to do, whatever else wants its core, where that may be set.

    On a machine that does other things too, a post would take as long as those let the sink wait: by root on Linux.
    """
    with suppress(AttributeError, PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description="A stand-in for @connections.")
    parser.add_argument("--certificate", help="serve TLS with this PEM file: the key, then the certificate")
    certificate = parser.parse_args().certificate
    answer_at_once()
    try:
        import uvloop  # noqa: PLC0415  twice as fast where it is; the tests do without
    except ImportError:
        asyncio.run(serve(certificate))
    else:
        uvloop.run(serve(certificate))


if __name__ == "__main__":
    main()
