"""The registry of dialects: which of them a frame is in, and how a message is written for each kind of member.

The dialect of a frame is seen from the frame itself; there is nothing to choose at connect. With both `type` and
`action`, a `type` that a dialect knows decides. A new dialect is one module and one row in DIALECTS.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import ClientError, MissingField, TooLarge, UnknownAction, WrongType
from ..jsontext import NotJSON, parse
from ..limits import MESSAGE_BYTES
from ..model import JSON, TEXT, ConnectionId, Message
from . import actions, authentication, everyone, pubsub, rooms, ywebrtc
from .frame import Authenticate, Command, Decoder, Dialect, Encoder, Frame, Join, Leave, Publish, Reply, Run

DIALECTS: tuple[Dialect, ...] = (
    ywebrtc.DIALECT,
    pubsub.DIALECT,
    rooms.DIALECT,
    everyone.DIALECT,
    actions.DIALECT,
    authentication.DIALECT,
)

ID_CHARACTERS = 64
"""The longest `id` of a frame."""

_TYPES = {value: (dialect, decoder) for dialect in DIALECTS for value, decoder in dialect.types.items()}
_ACTIONS = {value: decoder for dialect in DIALECTS for value, decoder in dialect.actions.items()}
_ENCODERS: Mapping[str, Encoder] = {kind: encoder for dialect in DIALECTS for kind, encoder in dialect.members.items()}

BUILT_IN_ACTIONS = frozenset(_ACTIONS)
"""Values of `action` that a custom action cannot have."""


def route(text: str) -> tuple[Frame, Decoder]:
    """Reads a frame and finds what decodes it.

    Text that is not JSON is a frame too (everyone's). JSON that no dialect takes gets a decoder that raises why. Raises
    a ClientError for JSON that is no frame at all, and for an `id` that cannot be given back.
    """
    try:
        fields = parse(text)
    except NotJSON:
        return Frame(text), everyone.marko
    if not isinstance(fields, dict):
        raise WrongType(None, "a JSON object", fields)
    kind = fields.get("type")
    if isinstance(kind, str) and kind in _TYPES:
        dialect, decoder = _TYPES[kind]
        return Frame(text, fields, _id(fields) if dialect.correlates else None), decoder
    return Frame(text, fields, _id(fields)), _decoder_by_action(fields)


def _decoder_by_action(fields: Mapping[str, JSON]) -> Decoder:
    kind, action = fields.get("type"), fields.get("action")
    if isinstance(action, str):
        return _ACTIONS.get(action, actions.run)
    if "action" in fields:
        return _refuse(WrongType("action", "a string", action))
    if isinstance(kind, str):
        return _refuse(UnknownAction("type", kind, tuple(_TYPES)))
    if "type" in fields:
        return _refuse(WrongType("type", "a string", kind))
    return _refuse(MissingField("type", "a string in 'type' or in 'action'"))


def _refuse(error: ClientError) -> Decoder:
    def decoder(_frame: Frame, _sender: ConnectionId) -> Iterable[Command]:
        raise error

    return decoder


def _id(fields: Mapping[str, JSON]) -> str | None:
    value = fields.get("id")
    if value is None:
        return None
    if not isinstance(value, str):
        raise WrongType("id", f"a string of at most {ID_CHARACTERS} characters", value)
    if len(value) > ID_CHARACTERS:
        raise TooLarge("'id'", len(value), ID_CHARACTERS, "characters")
    return value


class Encoded:
    """A message in the form of each kind of member, each form written once.

    That every form fits is settled before anything is sent, so a message reaches all kinds of members or none: raises
    TooLarge, with the form that is over the limit. (A form is never much longer than the frame that it came in.) A kind
    of member that this version does not know, written by a newer one, is sent bare text.
    """

    def __init__(self, message: Message, clients: int) -> None:
        self._texts = {kind: encoder(message, clients) for kind, encoder in _ENCODERS.items()}
        for kind, text in self._texts.items():
            check_size(text, f"The message, as sent to {kind} members,")

    def text_for(self, kind: str) -> str:
        """The text for members of that kind."""
        return self._texts.get(kind, self._texts[TEXT])


def check_size(text: str, what: str, limit: int = MESSAGE_BYTES) -> None:
    """Raises TooLarge where `text` is over the limit (bytes of UTF-8), which by itself is what API Gateway takes in one
    message.
    """
    if len(text) * 4 > limit and (size := len(text.encode("utf-8", "surrogatepass"))) > limit:
        raise TooLarge(what, size, limit, "bytes")


__all__ = [
    "BUILT_IN_ACTIONS",
    "DIALECTS",
    "Authenticate",
    "Command",
    "Encoded",
    "Frame",
    "Join",
    "Leave",
    "Publish",
    "Reply",
    "Run",
    "check_size",
    "route",
]
