"""What a frame asks for, as README.md tells it: read from its text, by other means than chalicelib/dialects reads it.

All that is wrong with a frame is found, not the first of it: which of several faults a server names is its own choice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

LONG_BYTES = 20_000
"""Of a frame longer than this, the answer or the form for some kind of member may be over 128 KB."""

DEEP = 400
"""More brackets than this may be too deep, depending on how deep the stack is already."""


@dataclass
class Meaning:
    """`command` is what the frame becomes; None where it becomes nothing. `channels` are those that it names;
    `at_home` is whether it means its sender's home channel instead. `faults` are codes, one of which it is to be
    refused with; `doubts` are those that it may be refused with.
    """

    dialect: str = ""
    command: str | None = None
    does: str = ""
    """join, leave, publish, reply or authenticate."""
    channels: tuple[str, ...] = ()
    at_home: bool = False
    member: str = "text"
    leaves_home: bool = False
    to_sender: bool = False
    replies: int = 0
    token: str = ""
    id: str | None = None
    faults: set[str] = field(default_factory=set)
    doubts: set[str] = field(default_factory=set)


class _NotJSON(ValueError):
    pass


def read(text: str, max_bytes: int) -> Meaning:
    """What that text asks for, of a server that takes frames of so many bytes."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > max_bytes:
        return Meaning(faults={"too_large"})
    doubts = {"too_large"} if size > LONG_BYTES else set()
    if text.count("[") + text.count("{") > DEEP:
        doubts.add("too_deep")
    overflow = False

    def number(convert: Callable[[str], Any], literal: str) -> Any:
        nonlocal overflow
        if math.isinf(float(literal)):
            overflow = True
            return 0
        return convert(literal)

    try:
        value = json.loads(
            text,
            parse_constant=_constant,
            parse_int=lambda literal: number(int, literal),
            parse_float=lambda literal: number(float, literal),
        )
    except RecursionError:
        return Meaning(faults={"too_deep", *({"invalid_number"} if overflow else ())})
    except (json.JSONDecodeError, _NotJSON):
        doubts |= {"invalid_number"} if overflow else set()
        return Meaning("everyone", "Reply", "reply", replies=1, doubts=doubts)
    if overflow:
        return Meaning(faults={"invalid_number"}, doubts=doubts)
    if not isinstance(value, dict):
        return Meaning(faults={"wrong_type"}, doubts=doubts)
    reader = _Reader(value)
    reader.read()
    reader.meaning.doubts |= doubts
    return reader.meaning


def _constant(_name: str) -> NoReturn:
    raise _NotJSON


class _Reader:
    """Reads one JSON object."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self.fields = fields
        self.meaning = Meaning()

    def read(self) -> None:
        kind, action = self.fields.get("type"), self.fields.get("action")
        by_type = {"subscribe": self._subscribe, "unsubscribe": self._unsubscribe, "publish": self._publish}
        if isinstance(kind, str) and kind in by_type:
            self.meaning.dialect = "ywebrtc"
            by_type[kind]()
        elif kind == "ping":
            self._does("ywebrtc", "Reply", "reply", replies=1)
        else:
            self._id()
            if kind == "message":
                self._does("everyone", "Publish", "publish", at_home=True, to_sender=True)
                self._says("data")
                self._acks()
            elif isinstance(action, str):
                self._action(action)
            else:
                self._nothing(kind)

    def _nothing(self, kind: Any) -> None:
        if "action" in self.fields or ("type" in self.fields and not isinstance(kind, str)):
            self.meaning.faults.add("wrong_type")
        else:
            self.meaning.faults.add("unknown_action" if "type" in self.fields else "missing_field")

    def _action(self, action: str) -> None:
        if action == "joinchannel":
            self._does("pubsub", "Join", "join", channels=self._channel("channel"), replies=1)
            self.meaning.member = "envelope" if self._flag("envelope") else "text"
        elif action == "leavechannel":
            self._does("pubsub", "Leave", "leave", channels=self._channel("channel"), replies=1)
        elif action == "sendmessage":
            named = self.fields.get("channel") is not None
            self._does("pubsub", "Publish", "publish", channels=self._channel("channel") if named else ("default",))
            self._says("message")
            self._acks()
        elif action == "message":
            self._does("rooms", "Publish", "publish")
            self._channel_or_home("room")
            self._says("messageBody")
            self._acks()
        elif action == "authenticate":
            self._does("authentication", "Authenticate", "authenticate", replies=1)
            self.meaning.token = next(iter(self._channel("token")), "")
        else:
            self._run(action)

    def _run(self, action: str) -> None:
        does = {"chat": "publish", "join": "join", "publish": "publish", "leave": "leave", "reply": "reply"}
        self._does("actions", "Run", does.get(action, ""))
        if action not in does:
            self.meaning.faults.add("unknown_action")
        elif action == "reply":
            self.meaning.replies = 1
        else:
            self._channel_or_home("channel")
            if action == "chat":
                self._says("message")
        self._acks()

    def _subscribe(self) -> None:
        self._does("ywebrtc", "Join", "join", channels=self._topics(), member="ywebrtc", leaves_home=True)

    def _unsubscribe(self) -> None:
        self._does("ywebrtc", "Leave", "leave", channels=self._topics())

    def _publish(self) -> None:
        channels = self._channel("topic")
        if channels != ("",):
            self._does("ywebrtc", "Publish", "publish", channels=channels, to_sender=True)

    def _does(self, dialect: str, command: str, does: str, **more: Any) -> None:
        meaning = self.meaning
        meaning.dialect, meaning.command, meaning.does = dialect, command, does
        for name, value in more.items():
            setattr(meaning, name, value)

    def _id(self) -> None:
        value = self.fields.get("id")
        if isinstance(value, str) and len(value) <= 64:
            self.meaning.id = value
        elif value is not None:
            self.meaning.faults.add("too_large" if isinstance(value, str) else "wrong_type")

    def _channel(self, name: str) -> tuple[str, ...]:
        value = self.fields.get(name)
        if isinstance(value, str):
            return (value,)
        self.meaning.faults.add("wrong_type" if name in self.fields else "missing_field")
        return ()

    def _channel_or_home(self, name: str) -> None:
        if self.fields.get(name) is None:
            self.meaning.at_home = True
        else:
            self.meaning.channels = self._channel(name)

    def _topics(self) -> tuple[str, ...]:
        topics = self.fields.get("topics") or []
        if not isinstance(topics, list):
            self.meaning.faults.add("wrong_type")
            return ()
        return tuple({topic: None for topic in topics if isinstance(topic, str)})

    def _says(self, name: str) -> None:
        if name not in self.fields:
            self.meaning.faults.add("missing_field")

    def _flag(self, name: str) -> bool:
        value = self.fields.get(name, False)
        if not isinstance(value, bool):
            self.meaning.faults.add("wrong_type")
        return value is True

    def _acks(self) -> None:
        self.meaning.replies += self._flag("ack")
