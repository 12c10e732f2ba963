"""What the clients did and what they got, as seen from their side.

Knows no socket and judges nothing. All times are in seconds of one clock that never goes back (time.monotonic). Each is
taken on the side that demands less: what a client asks for is timed before it is sent, what it is told after it came.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, TypeAlias

JSON: TypeAlias = Any

TEXT, ENVELOPE, YWEBRTC = "text", "envelope", "ywebrtc"
"""The forms that a member of a channel may get its messages in."""

_MARK = re.compile(r"~(\d+)~")


def mark(number: int) -> str:
    """What stands in each message, and is the id of its frame."""
    return f"~{number}~"


def marked(text: str) -> int | None:
    """The number of the message that is in there."""
    found = _MARK.search(text)
    return int(found[1]) if found else None


@dataclass(eq=False)
class Stay:
    """A connection's time in a channel. It is sure to be a member from `joined_at` to `leaving_at`, and sure not to be
    one before `asked_at` and after `left_at`.
    """

    channel: str
    asked_at: float
    joined_at: float = inf
    leaving_at: float = inf
    left_at: float = inf
    forms: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Connection:
    """One WebSocket connection. Nothing is demanded for it from `ending_at` on, and nothing at all without an `id`,
    which only an ack tells.
    """

    number: int
    id: str | None = None
    ending_at: float = inf
    stays: list[Stay] = field(default_factory=list)
    received: Counter[int] = field(default_factory=Counter)
    """How often each message came."""
    errors: list[tuple[float, str]] = field(default_factory=list)
    """When it was told that AWS failed and how, without being told which of its frames met with it."""
    notices: int = 0
    """How often API Gateway itself said that a frame had failed."""
    unsure: bool = False
    """A join of it was not answered in time, and may be handled when it has gone."""

    def stay(self, channel: str) -> Stay | None:
        """Its present stay in the channel, asked for and not ended."""
        return next((stay for stay in self.stays if stay.channel == channel and stay.leaving_at == inf), None)

    def joining(self, channel: str, form: str, at: float) -> Stay:
        """It asks to be a member. A repeated join may change the form, and nothing else."""
        stay = self.stay(channel)
        if stay is None:
            stay = Stay(channel, asked_at=at)
            self.stays.append(stay)
        stay.forms.add(form)
        return stay

    def end(self, at: float) -> None:
        """It goes, or has been seen to be gone. The first time counts."""
        self.ending_at = min(self.ending_at, at)


@dataclass(eq=False)
class Message:
    """A message that was published, by a connection or by a backend.

    `answered_at` and `code` are what became of it: no code for an ack, an error's code otherwise. With
    `wants_answer` one is due.
    """

    number: int
    channel: str
    body: JSON
    sender: Connection | None
    sent_at: float = 0.0
    to_sender: bool = False
    excluded: Connection | None = None
    wants_answer: bool = True
    answered_at: float = inf
    code: str | None = None
    given_up: int = 0
    """How many posts the server says failed: what it gave up for other causes than a 429 or a 410."""
    handed_on: int = 0
    """How many parts of it were left to other invocations, which come after its answer."""

    @property
    def acked(self) -> bool:
        """Its sender was told how many have it."""
        return self.answered_at < inf and self.code is None

    @property
    def done_at(self) -> float:
        """When it was surely done with: all posts ended, or none to come."""
        return inf if self.handed_on else self.answered_at


@dataclass
class History:
    """All of it."""

    connections: list[Connection] = field(default_factory=list)
    messages: dict[int, Message] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    """Handshakes that failed, by status or error."""
    codes: Counter[str] = field(default_factory=Counter)
    """Errors that clients were told, by code."""
    frames: int = 0
    """How many were sent."""
    heard: int = 0
    """How many came, of whatever kind."""
    deliveries: int = 0
    """How many messages came."""
    rested_at: float = inf
    """From here on nothing was under way any more, and nobody had gone yet."""
    oddities: list[str] = field(default_factory=list)
    """What no client should ever be sent."""
    _number: int = 0

    def next_number(self) -> int:
        """A number for a message. Warm-up and what follows have them from here, so that no two are the same."""
        self._number += 1
        return self._number

    def at_the_latest(self, message: Message, at: float) -> float:
        """`at`, or before it when all that was sent before had come to rest."""
        return min(at, self.rested_at) if message.sent_at < self.rested_at else at

    def connecting(self) -> Connection:
        connection = Connection(len(self.connections))
        self.connections.append(connection)
        return connection

    def published(self, message: Message) -> None:
        self.messages[message.number] = message

    def answered(self, number: int, at: float, code: str | None, counts: Mapping[str, int] | None = None) -> None:
        """The sender was told what became of its message: an error's code, or how many posts ended how. The first
        answer counts.
        """
        message = self.messages[number]
        if message.answered_at == inf:
            message.answered_at, message.code = at, code
            told = counts or {}
            message.given_up = told.get("failed", 0)
            message.handed_on = told.get("handed_on", 0)

    def received(self, connection: Connection, text: str) -> None:
        """Something came that is no answer: a message that was published."""
        number = marked(text)
        message = None if number is None else self.messages.get(number)
        if message is None:
            self.oddities.append(f"connection {connection.id} was sent {text[:200]!r}, which nobody published")
            return
        self.deliveries += 1
        connection.received[message.number] += 1
        forms = {form for stay in connection.stays if stay.channel == message.channel for form in stay.forms}
        if forms and not any(_is(form, text, message) for form in forms):
            self.oddities.append(
                f"connection {connection.id}, a {' or '.join(sorted(forms))} member of {message.channel}, was sent "
                f"{text[:200]!r} for {str(message.body)[:200]!r}"
            )


def _is(form: str, text: str, message: Message) -> bool:
    """Whether that is the message in that form."""
    body = message.body
    if form == TEXT and isinstance(body, str):
        return text == body
    try:
        value = json.loads(text)
    except ValueError:
        return False
    if form == TEXT:
        return bool(value == body)
    return isinstance(value, dict) and (_is_envelope if form == ENVELOPE else _is_ywebrtc)(value, message)


def _is_envelope(value: dict[str, JSON], message: Message) -> bool:
    at, sender = value.pop("at", None), message.sender and message.sender.id
    return isinstance(at, int) and value == {"channel": message.channel, "message": message.body, "from": sender}


def _is_ywebrtc(value: dict[str, JSON], message: Message) -> bool:
    body = message.body
    if isinstance(body, dict) and "action" in body:
        return value == body
    if not isinstance(value.pop("clients", None), int):
        return False
    if isinstance(body, dict) and body.get("type") == "publish":
        return value == body
    return value == {"type": "publish", "topic": message.channel, "data": body}
