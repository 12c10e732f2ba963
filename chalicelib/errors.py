"""Every error that Channels raises on purpose, split by whose fault it is, and the one mapper from error to frame.

    ChannelsError
    ├── ClientError             the client can mend it: it gets an error frame       wire code
    │   ├── UnknownAction         no dialect and no action takes such a frame          unknown_action
    │   ├── UnknownName           a field or a dialect of an event that there is not   unknown_name
    │   ├── MissingField          a field that the frame needs is not there            missing_field
    │   ├── WrongType             a field, or the frame itself, is of another type     wrong_type
    │   ├── InvalidNumber         a number that no 64-bit float can hold               invalid_number
    │   ├── TooDeep               arrays and objects nested too deeply                 too_deep
    │   ├── NoHomeChannel         the frame names no channel, the sender has no home   no_home_channel
    │   ├── Superseded            a later leave was handled before this join           superseded
    │   ├── Forbidden             the token gives no right to this                     forbidden
    │   ├── TokenExpired          the token's time is up                               token_expired
    │   ├── BadToken              the token of an `authenticate` cannot be taken       invalid_token
    │   ├── NotJoined             publishing needs membership here                     not_joined
    │   ├── Refused               a hook of this server refuses it                     refused
    │   └── OverLimit             a client that is over a limit again and again is closed
    │       ├── TooLarge            over a limit in bytes or characters                  too_large
    │       ├── TooManyTopics       channels that one frame names                        too_many_topics
    │       ├── TooManyChannels     channels that one connection is in                   too_many_channels
    │       └── RateLimited         frames a second of one connection                    rate_limited
    ├── HandshakeRefused        $connect is answered with its status; the log says why
    │   ├── Unauthenticated       no token, or one that cannot be taken                (401)
    │   └── NotAllowed            an origin, or a token, that may not connect          (403)
    ├── ConfigurationError      the operator can mend it: the log says how           misconfigured
    │   ├── MissingSetting
    │   ├── InvalidSetting
    │   └── Misconfigured         anything else that only the deployment can mend
    ├── AlreadySent             another run of the publish function sends this already   (never sent to a client)
    └── UpstreamError           AWS did not do what it was asked                     unavailable
        ├── NotHandedOn           what one invocation could not finish, no other was given
        ├── PartlyDelivered       it failed in mid-broadcast: some have the message    partly_delivered
        ├── StoreError            DynamoDB
        └── PostError             a post to @connections                               (never sent to a client)
            ├── ConnectionGone      410: gone, or its $connect has not returned yet
            ├── Throttled           429: the account's quota, or this client's buffer is full
            ├── NotWritten          failed before the request was written: safe to repeat
            └── PostFailed          anything else: it may have been delivered, never repeat it

An exception carries data; its text lives in `__str__` and says what was expected, what came, and what to do. A client
is shown the text of a `ClientError` only: the others may name what is none of its business.
"""

from __future__ import annotations

from typing import Any

SHOWN_CHARACTERS = 64
"""How much of a client's own value an error repeats."""


class ChannelsError(Exception):
    """The root: whatever Channels raises on purpose."""

    code = "internal"


class ClientError(ChannelsError):
    """The frame cannot be acted on as it is, and its sender can mend it."""


class OverLimit(ClientError):
    """Over a limit. A client that does not heed it is closed."""


class UnknownAction(ClientError):
    code = "unknown_action"

    def __init__(self, field: str, value: str, known: tuple[str, ...]) -> None:
        self.field, self.value, self.known = field, value, known

    def __str__(self) -> str:
        known = ", ".join(self.known)
        return f"No frame here has {self.field!r} {shown(self.value)}; {self.field!r} may be one of: {known}."


class UnknownName(ClientError):
    code = "unknown_name"

    def __init__(self, what: str, name: str, known: tuple[str, ...]) -> None:
        self.what, self.name, self.known = what, name, known

    def __str__(self) -> str:
        return f"There is no {self.what} {shown(self.name)} here; there is: {', '.join(self.known)}."


class MissingField(ClientError):
    code = "missing_field"

    def __init__(self, field: str, expected: str) -> None:
        self.field, self.expected = field, expected

    def __str__(self) -> str:
        return f"{self.field!r} is missing; expected {self.expected}."


class WrongType(ClientError):
    code = "wrong_type"

    def __init__(self, field: str | None, expected: str, value: Any) -> None:
        self.field, self.expected, self.value = field, expected, value

    def __str__(self) -> str:
        what = "The frame" if self.field is None else f"{self.field!r}"
        return f"{what} must be {self.expected}, not {json_type(self.value)}."


class InvalidNumber(ClientError):
    code = "invalid_number"

    def __init__(self, literal: str) -> None:
        self.literal = literal

    def __str__(self) -> str:
        return f"The number {shown(self.literal)} is out of range; send it as a string."


class TooDeep(ClientError):
    code = "too_deep"

    def __str__(self) -> str:
        return "The frame's arrays and objects are nested too deeply; send them flatter, or as a string."


class TooLarge(OverLimit):
    code = "too_large"

    def __init__(self, what: str, size: int, limit: int, unit: str) -> None:
        self.what, self.size, self.limit, self.unit = what, size, limit, unit

    def __str__(self) -> str:
        return f"{self.what} is {self.size:,} {self.unit}; the limit is {self.limit:,}."


class NoHomeChannel(ClientError):
    code = "no_home_channel"

    def __str__(self) -> str:
        return (
            "The frame names no channel and this connection has no home channel; "
            "name one in the frame, or connect with ?channel=NAME."
        )


class Superseded(ClientError):
    code = "superseded"

    def __str__(self) -> str:
        return "A later leave of this channel was handled before this join; the connection is not in the channel."


class Forbidden(ClientError):
    code = "forbidden"

    def __init__(self, operation: str, channel: str) -> None:
        self.operation, self.channel = operation, channel

    def __str__(self) -> str:
        return f"This connection may not {self.operation} to {shown(self.channel)}."


class TokenExpired(ClientError):
    code = "token_expired"

    def __str__(self) -> str:
        return 'The token has expired; send {"action":"authenticate","token":…} with a new one, or connect again.'


class BadToken(ClientError):
    code = "invalid_token"

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"The token cannot be taken: {self.reason}."


class NotJoined(ClientError):
    code = "not_joined"

    def __init__(self, channel: str) -> None:
        self.channel = channel

    def __str__(self) -> str:
        return f"Join {shown(self.channel)} before you publish to it."


class TooManyChannels(OverLimit):
    code = "too_many_channels"

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __str__(self) -> str:
        return f"A connection may be in {self.limit:,} channels at once; leave one before you join another."


class TooManyTopics(OverLimit):
    code = "too_many_topics"

    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit

    def __str__(self) -> str:
        return f"The frame names {self.count:,} channels; the limit is {self.limit:,} a frame."


class RateLimited(OverLimit):
    code = "rate_limited"

    def __init__(self, per_second: int) -> None:
        self.per_second = per_second

    def __str__(self) -> str:
        return f"A connection may send {self.per_second:,} frames a second; this one was not acted on. Send it later."


class Refused(ClientError):
    code = "refused"

    def __init__(self, reason: str = "This server does not accept it.") -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class HandshakeRefused(ChannelsError):
    """A connection that is not let in. The client sees the status alone; the reason is for the log."""

    status = 403

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Unauthenticated(HandshakeRefused):
    status = 401


class NotAllowed(HandshakeRefused):
    pass


class ConfigurationError(ChannelsError):
    """The deployment is wrong: only its operator can mend it."""

    code = "misconfigured"


class MissingSetting(ConfigurationError):
    def __init__(self, name: str, meaning: str) -> None:
        self.name, self.meaning = name, meaning

    def __str__(self) -> str:
        return (
            f"The environment variable {self.name} is not set; it must hold {self.meaning}. "
            f"Set it under stages.<stage>.environment_variables in .chalice/config.json."
        )


class InvalidSetting(ConfigurationError):
    def __init__(self, name: str, expected: str, value: str) -> None:
        self.name, self.expected, self.value = name, expected, value

    def __str__(self) -> str:
        return f"The environment variable {self.name} must be {self.expected}, not {shown(self.value)}."


class Misconfigured(ConfigurationError):
    def __init__(self, what: str) -> None:
        self.what = what

    def __str__(self) -> str:
        return self.what


class AlreadySent(ChannelsError):
    """Lambda, or whoever asks, runs an invocation a second time."""

    def __init__(self, message_id: str) -> None:
        self.message_id = message_id

    def __str__(self) -> str:
        return f"The message {shown(self.message_id)} is sent by another run already."


class UpstreamError(ChannelsError):
    """AWS refused, failed or did not answer."""

    code = "unavailable"

    def __init__(self, operation: str, reason: str) -> None:
        self.operation, self.reason = operation, reason

    def __str__(self) -> str:
        return f"{self.operation} failed: {self.reason}"


class StoreError(UpstreamError):
    """A DynamoDB request failed, its retries included."""


class PartlyDelivered(UpstreamError):
    """A broadcast ended before its end: some members have the message, others do not."""

    code = "partly_delivered"


class NotHandedOn(UpstreamError):
    """The invocation's time is up, and the rest of its receivers could not be handed to another."""


class PostError(UpstreamError):
    """A post to @connections failed."""


class ConnectionGone(PostError):
    """410: the connection is gone, or its $connect has not returned yet."""


class Throttled(PostError):
    """429: over the account's request quota, or this one client's buffer is full."""


class NotWritten(PostError):
    """The request never left this process, so repeating it cannot deliver twice."""


class PostFailed(PostError):
    """The request may have been delivered, or can never be: it is not repeated."""


_SHOWN_TO_CLIENTS = {
    "internal": "The server failed, and may have acted all the same; its log says why.",
    "misconfigured": "The server is not configured; its log says what is missing.",
    "unavailable": "The server could not reach a service that it needs; nothing was sent. Try again in a moment.",
    "partly_delivered": (
        "The server could not finish sending; some members may have the message, and a repeat would reach them twice."
    ),
}


def to_frame(error: Exception, frame_id: str | None = None, request_id: str = "") -> dict[str, Any]:
    """The error frame for `error`: `{"type": "error", "code": …, "message": …}`, with the client's own `id` where it
    gave one.

    Only a `ClientError` speaks for itself. Of every other exception the client learns its code, a fixed sentence and,
    as `requestId`, by which name the log's line says more: the one that API Gateway's own error frames have.
    """
    code = error.code if isinstance(error, ChannelsError) else "internal"
    message = str(error) if isinstance(error, ClientError) else _SHOWN_TO_CLIENTS[code]
    frame = {"type": "error", "code": code, "message": message}
    if request_id and not isinstance(error, ClientError):
        frame["requestId"] = request_id
    return frame if frame_id is None else {**frame, "id": frame_id}


def shown(value: str) -> str:
    """`value` as it may stand in an error or a log: quoted, on one line, ASCII only, at most 64 characters of it."""
    return ascii(value) if len(value) <= SHOWN_CHARACTERS else f"{value[:SHOWN_CHARACTERS]!a}…"


def json_type(value: Any) -> str:
    """The JSON name of a value's type, as in "not a number"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, bytes):
        return "binary data"
    return "an array" if isinstance(value, list) else "an object"
