"""A client's frame with typed access to its fields, and the commands that a dialect makes of it.

Sans I/O: text came in, commands go out; who carries them out is the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from ..errors import MissingField, WrongType
from ..model import JSON, ChannelName, ConnectionId, Message

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frame:
    """What a client sent: its text, and its fields if it was a JSON object.

    `id` is the client's own name for the frame; it comes back in the frame's ack or error.
    """

    text: str
    fields: Mapping[str, JSON] = field(default_factory=dict)
    id: str | None = None

    def value(self, name: str) -> JSON:
        """The field's value, null included; raises MissingField."""
        if name not in self.fields:
            raise MissingField(name, "any JSON value")
        return self.fields[name]

    def string(self, name: str) -> str:
        """The field's string; raises MissingField and WrongType."""
        if name not in self.fields:
            raise MissingField(name, "a string")
        return _typed(name, self.fields[name], str, "a string")

    def channel(self, name: str) -> ChannelName | None:
        """The channel that the field names, None where the field is absent or null; raises WrongType."""
        value = self.fields.get(name)
        return None if value is None else ChannelName(_typed(name, value, str, "a string"))

    def flag(self, name: str) -> bool:
        """The field's boolean, false where it is absent; raises WrongType."""
        return _typed(name, self.fields.get(name, False), bool, "true or false")

    def strings(self, name: str) -> list[str]:
        """The strings in the field's array; empty where it is absent or null. Other entries are skipped. Raises
        WrongType.
        """
        entries = _typed(name, self.fields.get(name) or [], list, "an array of strings")
        return [entry for entry in entries if isinstance(entry, str)]

    def answer(self, fields: Mapping[str, JSON]) -> dict[str, JSON]:
        """`fields` with the frame's own `id`, where it has one."""
        return {**fields} if self.id is None else {**fields, "id": self.id}


def _typed(name: str, value: JSON, expected: type[T], description: str) -> T:
    if not isinstance(value, expected):
        raise WrongType(name, description, value)
    return value


@dataclass(frozen=True, slots=True)
class Join:
    """Make the sender a member of each channel, in `dialect`; then answer `ack`."""

    channels: tuple[ChannelName, ...]
    dialect: str
    ack: Mapping[str, JSON] | None = None
    leaves_home: bool = False
    """The dialect's clients must be sent nothing but it: end the membership that connecting made."""


@dataclass(frozen=True, slots=True)
class Leave:
    """End the sender's membership of each channel; then answer `ack`."""

    channels: tuple[ChannelName, ...]
    ack: Mapping[str, JSON] | None = None


@dataclass(frozen=True, slots=True)
class Publish:
    """Send `body` to the members of `channel`, or of the sender's home channel where it is None."""

    channel: ChannelName | None
    body: JSON
    dialect: str
    to_sender: bool = False
    ack: bool = False
    after_join: bool = False
    """Wait until the sender's own subscribe is written: its frame came just before this one (guarantee 2)."""
    announces: bool = False
    """An announce: hold it back from members that joined after the sender (guarantee 2)."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the sender with `text`."""

    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """Run the custom action of that name."""

    action: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Take `token` in the place of the sender's; then answer when it expires."""

    token: str = field(repr=False)


Command: TypeAlias = Join | Leave | Publish | Reply | Run | Authenticate
Decoder: TypeAlias = Callable[[Frame, ConnectionId], Iterable[Command]]
"""A frame and its sender -> commands. Raises a ClientError for a frame that is not as the dialect wants it."""

Encoder: TypeAlias = Callable[[Message, int], str]
"""A message and the number of the channel's members -> the text for one kind of member."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One protocol: the frames it takes, each found by the value of its `type` or `action`, and the members it writes
    for.
    """

    name: str
    types: Mapping[str, Decoder] = field(default_factory=dict)
    actions: Mapping[str, Decoder] = field(default_factory=dict)
    members: Mapping[str, Encoder] = field(default_factory=dict)
    correlates: bool = True
    """Whether a frame's `id` is ours: comes back in its ack or error. In ywebrtc it is the client's business."""
