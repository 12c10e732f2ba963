"""The publish function's events: what a backend asks for, what SQS brings, what one invocation hands on to the next.

{"channel": c, "message": m}       m, any JSON value, to the members of c. Besides, all optional:
  "exclude": id | [id, …]            connections that do not get it
  "dialect": name                    whose form m is in: see DIALECTS
  "id": text                         the message's name: what has one is sent once within a day, however often it is
                                     asked for; without one, Lambda's own name of the invocation
{"Records": [{"eventSource": "aws:sqs", "messageId": id, "body": text}, …]}
                                   text is such an event in JSON, and the message's name is SQS's
{"handed_on": …}                   what is left of a sending, by `to_event`
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from . import aws
from .dialects import ID_CHARACTERS, Frame, actions, pubsub, ywebrtc
from .errors import ConfigurationError, MissingField, NotHandedOn, TooLarge, UnknownName, WrongType
from .fanout import Sending
from .jsontext import NotJSON, compact, parse, plain
from .model import JSON, ChannelName, ConnectionId, KeyRange, Member, Message

FIELDS = ("channel", "message", "exclude", "dialect", "id")

DIALECTS = (pubsub.NAME, actions.NAME, ywebrtc.NAME)
"""Forms of a message: pubsub, the usual one, any value, which y-webrtc members get inside a publish object; actions, an
object that y-webrtc members get as it is; ywebrtc, a whole publish object of that protocol.
"""

EXCLUDED_MOST = 10_000
"""A connection id takes some 25 bytes of what is handed on, of which Lambda takes 1 MB."""

INVOKE_ATTEMPTS = 2
CONNECT_SECONDS = 1
ANSWER_SECONDS = 3
"""What handing on is given: it happens when the handler's time is nearly up, 20 s of 30."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message that SQS brings: its name, and its text or what is in the place of it."""

    id: str
    body: Any


def records(event: Any) -> list[Record] | None:
    """What SQS brings; None for an event that is not SQS's."""
    if not isinstance(event, dict) or not isinstance(event.get("Records"), list):
        return None
    found = event["Records"]
    if not all(
        isinstance(each, dict) and each.get("eventSource") == "aws:sqs" and "messageId" in each for each in found
    ):
        raise WrongType("Records", "messages of SQS", found)
    return [Record(each["messageId"], each.get("body")) for each in found]


def from_record(record: Record, at: int) -> Sending:
    """The sending that a message of SQS asks for. Raises a ClientError."""
    try:
        event = parse(record.body)
    except (NotJSON, TypeError):
        raise WrongType("body", "the JSON text of a publish event", record.body) from None
    return from_event(event, record.id, at)


def from_event(event: JSON, request_id: str, at: int) -> Sending:
    """The sending that an event asks for, at `at` (ms since 1970). Raises a ClientError that says what was expected."""
    if not isinstance(event, dict):
        raise WrongType(None, 'an object like {"channel": "news", "message": "hello"}', event)
    if "handed_on" in event:
        return _handed_on(event["handed_on"])
    for name in event:
        if name not in FIELDS:
            raise UnknownName("field", name, FIELDS)
    fields = Frame("", event)
    channel = fields.channel("channel")
    if channel is None:
        raise MissingField("channel", "a channel's name")
    body = fields.value("message")
    dialect = fields.string("dialect") if event.get("dialect") is not None else pubsub.NAME
    if dialect not in DIALECTS:
        raise UnknownName("dialect", dialect, DIALECTS)
    if dialect != pubsub.NAME and not isinstance(body, dict):
        raise WrongType("message", f"an object, in the dialect {dialect}", body)
    message_id = fields.string("id") if event.get("id") is not None else request_id
    if not message_id:  # it would name all messages that have it, and only the first be sent
        raise WrongType("id", "the message's own name, or no id at all", message_id)
    if len(message_id) > ID_CHARACTERS:
        raise TooLarge("'id'", len(message_id), ID_CHARACTERS, "characters")
    message = Message(channel, body, dialect, None, at)
    return Sending(plain(message_id), message, _excluded(event.get("exclude")))


def _excluded(value: JSON) -> frozenset[ConnectionId]:
    names = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise WrongType("exclude", "a connection id or an array of them", value)
    if len(names) > EXCLUDED_MOST:
        raise TooLarge("'exclude'", len(names), EXCLUDED_MOST, "connection ids")
    return frozenset(map(ConnectionId, names))


def to_event(sending: Sending) -> Mapping[str, JSON]:
    """The event that makes another invocation do the sending: some 180 KB and 25 bytes for each connection that is
    excluded at most, of the 1 MB that Lambda takes.

    The message is base64 in it. As a JSON string inside of JSON it could take six times its size.
    """
    message, announcer, within = sending.message, sending.announcer, sending.within
    text = compact(
        {
            "channel": message.channel,
            "body": message.body,
            "dialect": message.dialect,
            "sender": message.sender,
            "at": message.at,
            "exclude": sorted(sending.exclude),
            "announcer": announcer and [announcer.connection_id, announcer.dialect, announcer.joined_at],
        }
    )
    part = {
        "id": sending.id,
        "after": within.after,
        "up_to": within.up_to,
        "clients": sending.clients,
        "rate": sending.rate,
    }
    return {"handed_on": {**part, "sending": b64encode(text.encode()).decode()}}


def _handed_on(part: JSON) -> Sending:
    try:
        sent = parse(b64decode(part["sending"]).decode())
        message = Message(ChannelName(sent["channel"]), sent["body"], sent["dialect"], sent["sender"], int(sent["at"]))
        announcer = Member(*sent["announcer"]) if sent["announcer"] else None
        within = KeyRange(part["after"], part["up_to"])
        return Sending(
            part["id"], message, frozenset(sent["exclude"]), announcer, within, part["clients"], part["rate"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise WrongType("handed_on", "what another invocation has handed on", part) from error


@dataclass(frozen=True)
class Invoke:
    """Hands a sending to another invocation of the function of that name, and does not wait for it."""

    function: str | None

    def __call__(self, sending: Sending) -> None:
        if self.function is None:
            raise NotHandedOn("Invoke", "PUBLISH_FUNCTION is not set; it must name this stage's publish function")
        try:
            _lambda_client().invoke(
                FunctionName=self.function, InvocationType="Event", Payload=json.dumps(to_event(sending))
            )
        except (ClientError, BotoCoreError, ConfigurationError) as error:
            advice = f"PUBLISH_FUNCTION must name a function that this one's role may invoke; it is {self.function}"
            raise NotHandedOn("Invoke", f"{error}; {advice}") from error


@lru_cache(maxsize=1)
def _lambda_client() -> Any:
    """Made when it is needed first: most invocations hand nothing on."""
    return aws.client(
        "lambda",
        attempts=INVOKE_ATTEMPTS,
        connect_seconds=CONNECT_SECONDS,
        answer_seconds=ANSWER_SECONDS,
        sockets=1,
    )
