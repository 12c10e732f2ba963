"""The rules: what a connect, a frame and a disconnect do to the table and whom they reach.

Knows no event format, no frame text, no key and no AWS request.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeAlias, TypeVar

from . import dialects, hooks, logs, rendezvous
from .actions import ACTIONS
from .auth import Gate
from .broadcast import RETRY_MS, Delivery, Result
from .budget import Budget
from .capability import Capability
from .conduct import Conduct
from .dialects import Authenticate, Frame, Join, Leave, Publish, Reply, Run
from .errors import (
    BadToken,
    ClientError,
    NotAllowed,
    NotJoined,
    OverLimit,
    PartlyDelivered,
    StoreError,
    Superseded,
    TokenExpired,
    TooManyChannels,
    TooManyTopics,
    UnknownAction,
    UpstreamError,
    to_frame,
)
from .events import Connect, Disconnect, MessageEvent
from .fanout import Fanout, Sending
from .hooks import Connecting, Joining, Publishing
from .identity import Identity
from .jsontext import compact
from .model import JSON, TEXT, Address, ChannelName, ConnectionId, Message
from .sender import Sender, capability_of

T = TypeVar("T")

Close: TypeAlias = Callable[[ConnectionId], None]
"""Ends a connection; raises nothing."""

log = logs.logger("channels.service")

ROOM_PARAMETERS = ("room", "channel")
"""Parameters of the URL that name a connection's home channel; the first one that is there counts."""

WRITES_AT_ONCE = 8
"""Joins or leaves of one frame under way at once."""


class Service:
    """The rules over a table, a broadcast and a fan-out; `writers` are threads for a frame's many joins and leaves,
    `gate` lets connections in, `close` ends one.

    Safe to use from several threads.
    """

    def __init__(self, fanout: Fanout, writers: Executor, gate: Gate, close: Close) -> None:
        self.fanout = fanout
        self.settings = fanout.settings
        self.table = fanout.table
        self.broadcast = fanout.broadcast
        self.clock = fanout.clock
        self._writers = writers
        self._gate = gate
        self._close = close
        self._conduct = Conduct(self.settings.frames_per_second, self.settings.strikes, self.clock)
        self._remembered: Address | None = None

    def connect(self, event: Connect) -> str | None:
        """Records the connection and makes it a member of its home channel: `HOME_CHANNEL`, or ?room= / ?channel= of
        its URL. Returns the subprotocol to be echoed.

        An empty name means no home channel; so does a `HOME_CHANNEL` that its token does not let it subscribe to.
        Raises HandshakeRefused, and StoreError where it cannot be recorded: then the handshake is to be refused too.
        """
        identity, subprotocol = self._gate.admit(event)
        home = self._home_for(event, identity)
        principal = identity and identity.principal
        try:
            hooks.ask(hooks.ON_CONNECT, Connecting(event.connection_id, principal, home, event.query, event.source_ip))
            if home is not None:
                hooks.ask(hooks.ON_JOIN, Joining(event.connection_id, principal, home))
        except ClientError as error:
            raise NotAllowed(f"a hook refuses it: {str(error)!a}") from error
        # Once in this process: the publish function finds its way by it.
        address = None if event.address == self._remembered else event.address
        self.table.connect(event.connection_id, event.connected_at, home, address, identity)
        self._remembered = event.address
        log.info("connected connection=%s%s", event.connection_id, f" principal={principal!a}" if principal else "")
        return subprotocol

    def address(self) -> Address | None:
        """Where connections are posted to, as a connect has told this process or the table. Raises StoreError."""
        if self._remembered is None:
            self._remembered = self.table.address()
        return self._remembered

    def disconnect(self, event: Disconnect) -> None:
        """Removes all that the connection has. Raises StoreError."""
        removed = self.table.disconnect(event.connection_id)
        log.info(
            "disconnected connection=%s code=%s reason=%a items=%d",
            event.connection_id,
            event.code,
            event.reason,
            removed,
        )

    def message(self, event: MessageEvent, budget: Budget) -> None:
        """Acts on a frame, in time. Whatever goes wrong is answered with an error frame; nothing is raised."""
        frame_id = None
        try:
            self._conduct.frame(event.connection_id)
            dialects.check_size(event.body, "The frame", self.settings.max_message_bytes)
            frame, decoder = dialects.route(event.body)
            frame_id = frame.id
            sender = Sender(event, self.settings, self.table, self.clock)
            for command in decoder(frame, event.connection_id):
                self._carry_out(command, frame, sender, budget)
        except ClientError as error:
            self.reply(event.connection_id, to_frame(error, frame_id))
            if isinstance(error, OverLimit) and self._conduct.strike(event.connection_id):
                log.warning("closed for being over a limit again and again connection=%s", event.connection_id)
                self._close(event.connection_id)
        except Exception as error:
            # AWS's failures explain themselves in a line; of anything else the traceback is the explanation.
            log.error(
                "frame failed connection=%s cause=%a",
                event.connection_id,
                str(error) or type(error).__name__,
                exc_info=not isinstance(error, UpstreamError),
            )
            self.reply(event.connection_id, to_frame(error, frame_id, event.request_id))

    def reply(self, connection_id: ConnectionId, body: JSON) -> None:
        """Sends JSON to one connection. If it is gone, there is no one to tell."""
        self.reply_text(connection_id, compact(body))

    def reply_text(self, connection_id: ConnectionId, text: str) -> None:
        """Sends text to one connection. One that does not read holds nobody up for longer than RETRY_MS."""
        self.broadcast.send(
            [Delivery(connection_id, text, joined_at=0)],
            prune=lambda _gone: None,
            give_up_at=self.clock.now_ms() + RETRY_MS,
        )

    def join(
        self, channels: tuple[ChannelName, ...], dialect: str, sender: Sender, *, leaves_home: bool = False
    ) -> None:
        """Makes the sender a member of each channel that it may subscribe to; returns once all are written. With
        `leaves_home` the membership that connecting made ends first, if there is one of these channels to join.

        Raises Forbidden for the first that it may not, once the others are written; TokenExpired, TooManyChannels, or
        what a hook raises, before any is; Superseded.
        """
        allowed = tuple(channel for channel in channels if sender.may("subscribe", channel))
        for channel in allowed:
            hooks.ask(hooks.ON_JOIN, Joining(sender.id, sender.principal, channel))
        left = sender.at_home if leaves_home and allowed else None
        most = self.settings.max_channels
        if most and allowed:
            others = self.table.channels_of(sender.id, besides=allowed if left is None else (*allowed, left))
            if others + len(allowed) > most:
                raise TooManyChannels(most)
        if left is not None:
            self.table.leave_home(sender.id, left)

        def join_one(channel: ChannelName) -> bool:
            event = sender.event
            return self.table.join(channel, sender.id, dialect, event.at, event.connected_at, until=sender.expires_at)

        joined = all(self._each(join_one, allowed))
        for channel in channels:
            sender.require("subscribe", channel)
        if not joined:
            raise Superseded

    def leave(self, channels: tuple[ChannelName, ...], sender: Sender) -> None:
        """Ends the sender's memberships, unless a later frame has joined again. That needs no right."""
        self._each(lambda channel: self.table.leave(channel, sender.id, sender.event.at), channels)

    def publish(self, publish: Publish, sender: Sender, budget: Budget) -> Result:
        """Sends a message to a channel's members, each in its own dialect.

        Raises Forbidden, TokenExpired, NotJoined, TooLarge or what a hook raises before anything is sent, StoreError if
        nothing was sent, PartlyDelivered if something was.
        """
        channel = sender.home if publish.channel is None else publish.channel
        sender.require("publish", channel)
        body = hooks.body_of(Publishing(sender.id, sender.principal, channel, publish.body, publish.dialect))
        membership = None
        if publish.after_join and sender.may("subscribe", channel):
            membership = rendezvous.await_membership(
                self.table, self.clock, channel, sender.id, self.settings.rendezvous_ms
            )
            sender.require("publish", channel)  # the wait may have outlasted the token
        elif not self.settings.publish_unjoined:
            membership = self.table.membership(channel, sender.id)
        if membership is None and not self.settings.publish_unjoined:
            raise NotJoined(channel)
        sending = Sending(
            secrets.token_hex(8),
            Message(channel, body, publish.dialect, sender.id, sender.event.at),
            exclude=frozenset() if publish.to_sender else frozenset((sender.id,)),
            announcer=membership if publish.announces else None,
        )
        return self.fanout.send(sending, budget)

    def authenticate(self, token: str, sender: Sender) -> int | None:
        """Gives the sender the rights of another token of the same principal, to its memberships the same expiry, and
        ends those that it no longer has the right to. Returns when the new rights end (s since 1970).

        Raises BadToken; TokenExpired where the connection's record is gone, which only connecting again makes anew.
        """
        identity = self._gate.renew(token)
        if identity is None:
            return None
        record = sender.record
        if record is None:
            raise TokenExpired
        if identity.principal != record.principal:
            raise BadToken("it is another user's; connect again with it")
        capability = self._capability_of(identity)
        unchanged = capability == capability_of(record.capability, self.settings)

        def keeps(channel: ChannelName | None) -> bool:
            return unchanged if channel is None else capability.allows("subscribe", channel)

        if not self.table.renew(sender.id, sender.event.connected_at, identity, keeps, record.expires_at):
            raise TokenExpired
        log.info("authenticated connection=%s principal=%a", sender.id, identity.principal)
        return identity.expires_at

    def _home_for(self, event: Connect, identity: Identity | None) -> ChannelName | None:
        named = [event.query[name] for name in ROOM_PARAMETERS if name in event.query]
        home = (ChannelName(named[0]) if named[0] else None) if named else self.settings.home_channel
        if home is None or identity is None:
            return home
        if self._capability_of(identity).allows("subscribe", home):
            return home
        if named:
            raise NotAllowed("its token gives no right to subscribe to the channel that its URL names")
        return None

    def _capability_of(self, identity: Identity) -> Capability:
        return self.settings.default_capability if identity.capability is None else identity.capability

    def _carry_out(self, command: dialects.Command, frame: Frame, sender: Sender, budget: Budget) -> None:
        match command:
            case Reply(text):
                self.reply_text(sender.id, text)
            case Join(channels, dialect, ack, leaves_home):
                self._check_count(channels)
                answer = _ack_text(ack)
                self.join(channels, dialect, sender, leaves_home=leaves_home)
                self._reply_if(answer, sender)
            case Leave(channels, ack):
                self._check_count(channels)
                answer = _ack_text(ack)
                self.leave(channels, sender)
                self._reply_if(answer, sender)
            case Publish():
                result = self.publish(command, sender, budget)
                if command.ack:
                    self._acknowledge(result, frame, sender)
            case Run(name):
                self._run(name, frame, sender, budget)
            case Authenticate(token):
                expires_at = self.authenticate(token, sender)
                self.reply(sender.id, frame.answer({"action": "authenticate", "expiresAt": expires_at}))

    def _run(self, name: str, frame: Frame, sender: Sender, budget: Budget) -> None:
        if name not in ACTIONS:
            known = tuple(sorted({*dialects.BUILT_IN_ACTIONS, *ACTIONS}))
            raise UnknownAction("action", name, known)
        wants_ack = frame.flag("ack")
        call = _Call(self, frame, sender, budget)
        try:
            ACTIONS[name](call)
        except StoreError as error:
            if call.result.may_have_reached_some:
                raise PartlyDelivered(f"The action {name!r}", str(error)) from error
            raise
        if wants_ack:
            self._acknowledge(call.result, frame, sender)

    def _check_count(self, channels: Sequence[ChannelName]) -> None:
        if len(channels) > self.settings.max_topics:
            raise TooManyTopics(len(channels), self.settings.max_topics)

    def _each(self, act: Callable[[ChannelName], T], channels: Sequence[ChannelName]) -> list[T]:
        """Runs `act` for each channel, a few at a time: a frame with thousands must not fill the pool that posts
        use.
        """
        if len(channels) == 1:
            return [act(channels[0])]
        slices = (channels[start : start + WRITES_AT_ONCE] for start in range(0, len(channels), WRITES_AT_ONCE))
        return [result for some in slices for result in self._writers.map(act, some)]

    def _acknowledge(self, result: Result, frame: Frame, sender: Sender) -> None:
        ack = {"type": "ack", "delivered": result.delivered, "stale": result.stale}
        failed = result.not_open + result.throttled + result.failed
        ack |= {name: number for name, number in (("failed", failed), ("handed_on", result.handed_on)) if number}
        self.reply(sender.id, frame.answer(ack))

    def _reply_if(self, text: str | None, sender: Sender) -> None:
        if text is not None:
            self.reply_text(sender.id, text)


def _ack_text(ack: JSON) -> str | None:
    """The ack's text, measured before the command that it acknowledges is carried out."""
    if ack is None:
        return None
    text = compact(ack)
    dialects.check_size(text, "The answer to this frame")
    return text


class _Call:
    """One run of a custom action (actions.Call)."""

    def __init__(self, service: Service, frame: Frame, sender: Sender, budget: Budget) -> None:
        self.frame = frame
        self.sender = sender.id
        self.principal = sender.principal  # an action is not begun once the token has ended
        self.result = Result()
        self._service = service
        self._sender = sender
        self._budget = budget

    def channel(self, field: str = "channel") -> ChannelName:
        named = self.frame.channel(field)
        return self._sender.home if named is None else named

    def publish(self, channel: ChannelName, body: JSON, *, to_sender: bool = False) -> None:
        publish = Publish(channel, body, "actions", to_sender)
        self.result.add(self._service.publish(publish, self._sender, self._budget))

    def reply(self, body: JSON) -> None:
        text = compact(self.frame.answer(body) if isinstance(body, dict) else body)
        dialects.check_size(text, "The reply")
        self._service.reply_text(self.sender, text)

    def join(self, channel: ChannelName) -> None:
        self._service.join((channel,), TEXT, self._sender)

    def leave(self, channel: ChannelName) -> None:
        self._service.leave((channel,), self._sender)
