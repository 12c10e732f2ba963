"""Who may do what, and so what each event must come to: a model of the rules of README.md and docs/security.md.

It is small because it is slow and simple: no pages, no threads, no requests; patterns are regular expressions. It
shares no code with chalicelib, and reads the same environment variables by itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .reading import Meaning
from .rights import Rights
from .texts import BARRED
from .wallet import Credential, Wallet

LIFE_S = 7_800
"""How long a record is kept at most: two hours and ten minutes."""

OVER_A_LIMIT = frozenset(("too_large", "too_many_topics", "too_many_channels", "rate_limited"))


@dataclass
class Peer:
    """A connection. One that is not `recorded` has never been let in, or is gone."""

    principal: str | None = None
    rights: Rights | None = None
    ends: int = 0
    home: str | None = None
    at_home: bool = False
    recorded: bool = False


@dataclass
class Seat:
    """A membership, or, where `kind` is None, what a leave has left behind."""

    at: int
    kind: str | None
    ends: int = 0
    by_home: bool = False

    def is_taken(self, now: int) -> bool:
        """Whether it is a membership, and has not ended."""
        return self.kind is not None and now // 1_000 < self.ends


@dataclass(frozen=True)
class Handshake:
    """What its generator knows of a $connect: its tokens, and whether what carries them is `malformed`; `origin` is
    "none", "empty", "good", "bad" or "several"; `authorizer` is what one says, "bad" where that cannot be taken.
    """

    connection_id: str
    connected_at: int
    origin: str = "none"
    tokens: tuple[str, ...] = ()
    malformed: bool = False
    authorizer: Credential | str | None = None
    room: str | None = None
    echoes: bool = False


@dataclass(frozen=True)
class Sent:
    """A frame of the connection `name`, and when it was received, its sender connected, and what time it is (ms)."""

    meaning: Meaning
    name: str
    at: int
    connected_at: int
    now: int


@dataclass(frozen=True)
class Outcome:
    """What must come of a frame: a refusal with one of these codes, if there are any; who receives what it published,
    and how many answers its sender is given.
    """

    codes: frozenset[str] = frozenset()
    heard: tuple[str, ...] = ()
    replies: int = 1


def refusal(code: str) -> Outcome:
    return Outcome(frozenset((code,)))


@dataclass
class Model:
    """The rules of a server with these variables, and what they have come to so far. `seats` are by the channel's key
    and the connection; `changed` are the keys of what the last event has changed.
    """

    variables: Mapping[str, str]
    wallet: Wallet
    hooked: bool
    peers: dict[str, Peer] = field(default_factory=dict)
    seats: dict[tuple[str, str], Seat] = field(default_factory=dict)
    changed: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.authentication = self.variables.get("AUTHENTICATION", "none")
        self.open = self.authentication == "none"
        self.default = Rights(json.loads(self.variables.get("DEFAULT_CAPABILITY", '{"*":["*"]}')))
        self.max_bytes = self._number("MAX_MESSAGE_BYTES", 131_072)
        self.max_topics = self._number("MAX_TOPICS", 2_000)
        self.max_channels = self._number("MAX_CHANNELS", 0)
        self.members_only = self.variables.get("PUBLISH_UNJOINED") == "refuse"

    # --- handshakes

    def connect(self, handshake: Handshake, now: int) -> int:
        """The status that it must be answered with."""
        refused = self._origin_refused(handshake.origin)
        credential = None if self.open else self._credential(handshake, now)
        if refused:
            return 403
        if not self.open and credential is None:
            return 401
        rights = self._rights(credential)
        home = self.variables.get("HOME_CHANNEL", "default") if handshake.room is None else handshake.room
        if home and rights is not None and not rights.cover("subscribe", home):
            if handshake.room is not None:
                return 403
            home = ""
        if self._barred(home):
            return 403
        ends = _end(handshake.connected_at, credential.expires_at if credential else None)
        name, principal = handshake.connection_id, credential.principal if credential else None
        self.peers[name] = Peer(principal, rights, ends, home or None, bool(home), recorded=True)
        self.changed.add((f"@connection#{name}", name))
        if home:
            self._seat(home, name, Seat(handshake.connected_at, "text", ends, by_home=True))
        return 200

    def _origin_refused(self, origin: str) -> bool:
        refused = {"several"}
        if "ALLOWED_ORIGINS" in self.variables:
            refused |= {"bad", "empty"}
        if self.variables.get("MISSING_ORIGIN") == "refuse":
            refused |= {"none", "empty"}
        return origin in refused

    def _credential(self, handshake: Handshake, now: int) -> Credential | None:
        if handshake.authorizer is not None:
            found = handshake.authorizer if isinstance(handshake.authorizer, Credential) else None
        elif self.authentication == "authorizer" or handshake.malformed or len(handshake.tokens) != 1:
            return None
        else:
            found = self.wallet.credential(handshake.tokens[0])
        return found if found is not None and found.holds(now) else None

    def _rights(self, credential: Credential | None) -> Rights | None:
        if credential is None:
            return None
        return self.default if credential.claim is None else Rights(credential.claim)

    def disconnect(self, name: str) -> None:
        if name in self.peers:
            self.peers[name].recorded = False
        self.changed.add((f"@connection#{name}", name))
        for key in [key for key in self.seats if key[1] == name]:
            self._unseat(key)

    # --- frames

    def message(self, sent: Sent, answered: str | None) -> Outcome:
        """What must come of it; `answered` is the code of the error that the sender has got."""
        meaning, peer = sent.meaning, self.peers.get(sent.name) or Peer()
        doubts = meaning.doubts | ({"rate_limited"} if "FRAMES_PER_SECOND" in self.variables else set())
        if answered is not None and answered in doubts:
            return refusal(answered)
        if meaning.command == "Run" and self._ended(peer, sent.now):
            return Outcome(frozenset(meaning.faults | {"token_expired"}))
        home = peer.home if peer.recorded else None
        code = "no_home_channel" if peer.recorded or self.open else "token_expired"
        homeless = {code} if meaning.at_home and home is None else set()
        if meaning.faults or homeless:
            return Outcome(frozenset(meaning.faults | homeless))
        channels = (home,) if meaning.at_home and home is not None else meaning.channels
        if meaning.command in ("Join", "Leave") and len(channels) > self.max_topics:
            return refusal("too_many_topics")
        return self._carried_out(sent, peer, channels)

    def _carried_out(self, sent: Sent, peer: Peer, channels: tuple[str, ...]) -> Outcome:
        match sent.meaning.does:
            case "join":
                code = self._join(sent, peer, channels)
            case "publish":
                return self._publish(sent, peer, channels[0])
            case "authenticate":
                code = None if self.open else self._authenticate(sent, peer)
            case "leave":
                code = None
                for channel in channels:
                    self._leave(sent, channel)
            case _:
                code = None
        return refusal(code) if code else Outcome(replies=sent.meaning.replies)

    def _join(self, sent: Sent, peer: Peer, channels: tuple[str, ...]) -> str | None:
        """The code that it is refused with, in part or as a whole."""
        if channels and self._ended(peer, sent.now):
            return "token_expired"
        allowed = [channel for channel in channels if self._may(peer, "subscribe", channel)]
        if any(map(self._barred, allowed)):
            return "refused"
        left = self._left_home(sent, peer) if allowed else None
        if self.max_channels and allowed:
            kept = {*map(key_of, allowed), left}
            others = sum(name == sent.name and channel not in kept for channel, name in self.seats)
            if others + len(allowed) > self.max_channels:
                return "too_many_channels"
        if left is not None:
            peer.at_home = False
            self.changed.add((f"@connection#{sent.name}", sent.name))
            if (left, sent.name) in self.seats and self.seats[left, sent.name].by_home:
                self._unseat((left, sent.name))
        ends = _end(sent.connected_at, None if self.open else peer.ends)
        seated = [self._sit(sent, channel, ends) for channel in allowed]
        if len(allowed) < len(channels):
            return "forbidden"
        return None if all(seated) else "superseded"

    def _left_home(self, sent: Sent, peer: Peer) -> str | None:
        """The key of the home channel, where joining in this dialect ends the membership of having connected."""
        leaves = sent.meaning.leaves_home and peer.recorded and peer.at_home
        return key_of(peer.home) if leaves and peer.home is not None else None

    def _sit(self, sent: Sent, channel: str, ends: int) -> bool:
        """Whether the connection is a member then."""
        before = self.seats.get((key_of(channel), sent.name))
        if before is None or before.at <= sent.at:
            self._seat(channel, sent.name, Seat(sent.at, sent.meaning.member, ends))
            return True
        return before.is_taken(sent.now)

    def _leave(self, sent: Sent, channel: str) -> None:
        key = key_of(channel), sent.name
        before = self.seats.get(key)
        if before is None or (before.kind is None and before.at < sent.at):
            self._seat(channel, sent.name, Seat(sent.at, None))
        elif before.at < sent.at:
            self._unseat(key)

    def _publish(self, sent: Sent, peer: Peer, channel: str) -> Outcome:
        if self._ended(peer, sent.now):
            return refusal("token_expired")
        if not self._may(peer, "publish", channel):
            return refusal("forbidden")
        if self._barred(channel):
            return refusal("refused")
        here = [name for (key, name), seat in self.seats.items() if key == key_of(channel) and seat.is_taken(sent.now)]
        if self.members_only and sent.name not in here:
            return refusal("not_joined")
        heard = [name for name in here if self.is_open(name) and (sent.meaning.to_sender or name != sent.name)]
        return Outcome(heard=tuple(sorted(heard)), replies=sent.meaning.replies)

    def _authenticate(self, sent: Sent, peer: Peer) -> str | None:
        """The code that it is refused with."""
        credential = None if self.authentication == "authorizer" else self.wallet.credential(sent.meaning.token)
        if credential is None or not credential.holds(sent.now):
            return "invalid_token"
        if not peer.recorded:
            return "token_expired"
        rights = self._rights(credential)
        if credential.principal != peer.principal or peer.rights is None or rights is None:
            return "invalid_token"
        unchanged = rights.words == peer.rights.words
        before, peer.rights, peer.ends = peer.ends, rights, _end(sent.connected_at, credential.expires_at)
        self.changed.add((f"@connection#{sent.name}", sent.name))
        for key in [key for key, seat in self.seats.items() if key[1] == sent.name and seat.kind]:
            hashed = key[0].startswith("@name#")  # what that name was is not known any more
            if not (unchanged if hashed else rights.cover("subscribe", key[0])):
                self._unseat(key)
            elif not hashed or self.seats[key].ends == before:
                self.seats[key].ends = peer.ends
                self.changed.add(key)
        return None

    def _ended(self, peer: Peer, now: int) -> bool:
        return not self.open and not (peer.recorded and peer.principal is not None and now < peer.ends * 1_000)

    def _may(self, peer: Peer, operation: str, channel: str) -> bool:
        return self.open or (peer.rights is not None and peer.rights.cover(operation, channel))

    def _barred(self, channel: str) -> bool:
        return self.hooked and channel == BARRED

    def is_open(self, name: str) -> bool:
        """Whether that connection is."""
        return name in self.peers and self.peers[name].recorded

    def _seat(self, channel: str, name: str, seat: Seat) -> None:
        self.seats[key_of(channel), name] = seat
        self.changed.add((key_of(channel), name))

    def _unseat(self, key: tuple[str, str]) -> None:
        del self.seats[key]
        self.changed.add(key)

    def _number(self, variable: str, default: int) -> int:
        return int(self.variables.get(variable, default))

    # --- the table

    def row(self, key: tuple[str, str]) -> Any:
        """What of the item with that key matters, None where there must be none."""
        channel, name = key
        if channel == f"@connection#{name}":
            peer = self.peers.get(name)
            if peer is None or not peer.recorded:
                return None
            return peer.principal, peer.ends, peer.home, peer.at_home
        seat = self.seats.get(key)
        if seat is None or seat.kind is None:
            return seat and seat.at
        return seat.at, seat.kind, seat.ends, seat.by_home

    def rows(self) -> Iterable[tuple[str, str]]:
        return [*((f"@connection#{name}", name) for name, peer in self.peers.items() if peer.recorded), *self.seats]


def _end(connected_at: int, until: int | None) -> int:
    longest = connected_at // 1_000 + LIFE_S
    return longest if until is None else min(longest, until)


def key_of(channel: str) -> str:
    """The channel's partition key: its name, or a hash of names that are empty, long, like keys or not UTF-8."""
    encoded = channel.encode("utf-8", "surrogatepass")
    plain = 1 <= len(encoded) <= 255 and encoded[:1] != b"@" and not re.search("[\ud800-\udfff]", channel)
    return channel if plain else f"@name#{hashlib.sha256(encoded).hexdigest()}"
