"""What a connection may do: a token's `capability`, channel patterns to operations, by the rules of Ably.

    {"orders:*": ["subscribe"], "lobby": ["subscribe", "publish"]}

A pattern is cut at its colons. A segment that is `*` and nothing else matches any one segment; as the last one it
matches whatever follows, nothing included: `orders:*` matches `orders`, `orders:7` and `orders:7:notes`, and `*` every
channel. Any other text stands for itself: `orders*` is the channel of that name. Every pattern that matches a channel
adds its operations. https://ably.com/docs/auth/capabilities; that `orders:*` matches `orders` too is what Ably's own
server does: https://github.com/ably/ably-server/blob/main/internal/auth/capability.go.

Patterns stand in tokens only: a channel's name is never read as one, whatever it holds. So nothing but the whole of
`*` matches a channel called `*`, and who makes tokens of names that users choose must not make them of such.

Left out of Ably's: queues, metachannels and other resources in brackets (`[meta]log`, `[*]*`). Channels here may have
such names, so brackets are plain text, and `*` matches them as well. Operations that are not known here (`presence`,
`history`) have no effect: one token may serve several systems.

Knows nothing of tokens, and not where a capability is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias, get_args

from .errors import ClientError, json_type, shown
from .jsontext import NotJSON, compact, parse
from .model import JSON, ChannelName

Operation: TypeAlias = Literal["subscribe", "publish"]

ANY = "*"
"""As a segment, any one; as the last one, any number; as an operation, each there is."""

MOST_BYTES = 4_096
"""The longest capability, as JSON: it is a part of every connection's record, and is read with it."""

_EXPECTED = f"""\
a capability must be a JSON object of at most {MOST_BYTES:,} bytes that gives each channel pattern an array of \
operations, such as {{"orders:*":["subscribe"],"lobby":["subscribe","publish"]}}"""

_NOT_JSON = "this is not JSON, or nested too deeply"


class _Pattern(NamedTuple):
    """A pattern with a wildcard: its segments, without the `*` at its end where it is open."""

    segments: tuple[str, ...]
    open: bool

    def matches(self, name: list[str]) -> bool:
        if self.open:
            name = name[: len(self.segments)]
        return len(name) == len(self.segments) and all(
            mine in (ANY, its) for mine, its in zip(self.segments, name, strict=True)
        )


class _Right(NamedTuple):
    """The channels of one operation: those called by their names, and patterns of others."""

    names: frozenset[str]
    patterns: tuple[_Pattern, ...]

    def covers(self, channel: ChannelName) -> bool:
        if channel in self.names:
            return True
        segments = channel.split(":")
        return any(pattern.matches(segments) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class Capability:
    """A set of rights. Two that were given in the same words, whatever their order, are equal."""

    text: str
    """As compact JSON that UTF-8 can carry, in one order, without what has no effect. `parse` reads it again."""

    _rights: dict[Operation, _Right] = field(compare=False, repr=False)

    @classmethod
    def parse(cls, value: object) -> Capability:
        """Reads a claim: a dict, or the JSON text of one, as Ably's tokens and an authorizer's context give it.

        Raises ValueError, which says in one clause what was expected and what came.
        """
        if isinstance(value, str):
            return _parse(value)
        if not isinstance(value, dict):
            raise _not_one(f"this is {json_type(value)}")
        try:
            text = compact(value)
        except (ClientError, TypeError, ValueError):
            raise _not_one(_NOT_JSON) from None
        return _parse(text)

    def allows(self, operation: Operation, channel: ChannelName) -> bool:
        return self._rights[operation].covers(channel)


@lru_cache(maxsize=256)
def _parse(text: str) -> Capability:
    if len(text) > MOST_BYTES:
        raise _not_one("this is longer")
    try:
        claim = parse(text)
    except (NotJSON, ClientError):
        raise _not_one(_NOT_JSON) from None
    if not isinstance(claim, dict):
        raise _not_one(f"this is {json_type(claim)}")
    granted = {pattern: known for pattern in sorted(claim) if (known := _known(pattern, claim[pattern]))}
    canonical = compact(granted)
    if len(canonical.encode()) > MOST_BYTES:
        raise _not_one("this is longer")
    return Capability(
        canonical,
        {
            operation: _right(pattern for pattern, known in granted.items() if operation in known or ANY in known)
            for operation in get_args(Operation)
        },
    )


def _known(pattern: str, operations: JSON) -> list[str]:
    """What of `operations` there is here, in one order."""
    if not isinstance(operations, list):
        raise _not_one(f"{shown(pattern)} has {json_type(operations)}")
    for operation in operations:
        if not isinstance(operation, str):
            raise _not_one(f"among the operations of {shown(pattern)} is {json_type(operation)}")
    return [ANY] if ANY in operations else [known for known in get_args(Operation) if known in operations]


def _right(patterns: Iterable[str]) -> _Right:
    names, wildcards = set(), []
    for pattern in patterns:
        segments = tuple(pattern.split(":"))
        if ANY not in segments:
            names.add(pattern)
        elif segments[-1] == ANY:
            wildcards.append(_Pattern(segments[:-1], open=True))
        else:
            wildcards.append(_Pattern(segments, open=False))
    return _Right(frozenset(names), tuple(wildcards))


def _not_one(came: str) -> ValueError:
    return ValueError(f"{_EXPECTED}; {came}")


EVERYTHING = Capability.parse({ANY: [ANY]})
"""Every operation on every channel."""
