"""The rules: what a connect, a frame and a disconnect do to the table and whom they reach.

Knows no event format, no frame text, no key and no AWS request.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

from . import dialects, rendezvous
from .actions import ACTIONS
from .broadcast import Delivery, Result
from .budget import Budget
from .dialects import Frame, Join, Leave, Publish, Reply, Run
from .errors import ClientError, NoHomeChannel, Superseded, UnknownAction, UpstreamError, to_frame
from .events import Connect, Disconnect, MessageEvent
from .fanout import Fanout, Sending
from .jsontext import compact
from .model import JSON, TEXT, Address, ChannelName, ConnectionId, Message

T = TypeVar("T")

log = logging.getLogger("channels.service")

ROOM_PARAMETERS = ("room", "channel")
"""Parameters of the URL that name a connection's home channel; the first one that is there counts."""

WRITES_AT_ONCE = 8
"""Joins or leaves of one frame under way at once."""


class Service:
    """The rules over a table, a broadcast and a fan-out; `writers` are threads for a frame's many joins and leaves.

    Safe to use from several threads.
    """

    def __init__(self, fanout: Fanout, writers: Executor) -> None:
        self.fanout = fanout
        self.settings = fanout.settings
        self.table = fanout.table
        self.broadcast = fanout.broadcast
        self.clock = fanout.clock
        self._writers = writers
        self._remembered: Address | None = None

    def connect(self, event: Connect) -> None:
        """Records the connection and makes it a member of its home channel: `HOME_CHANNEL`, or ?room= / ?channel= of
        its URL.

        An empty name means no home channel. Raises StoreError, and then the handshake is to be refused.
        """
        named = [event.query[name] for name in ROOM_PARAMETERS if name in event.query]
        home = (ChannelName(named[0]) if named[0] else None) if named else self.settings.home_channel
        # Once in this process: the publish function finds its way by it.
        address = None if event.address == self._remembered else event.address
        self.table.connect(event.connection_id, event.connected_at, home, address)
        self._remembered = event.address
        log.info("connected connection=%s", event.connection_id)

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
        request_id = None
        try:
            frame, decoder = dialects.route(event.body)
            request_id = frame.id
            for command in decoder(frame, event.connection_id):
                self._carry_out(command, frame, event, budget)
        except ClientError as error:
            self.reply(event.connection_id, to_frame(error, request_id))
        except Exception as error:
            # AWS's failures explain themselves in a line; of anything else the traceback is the explanation.
            log.error(
                "frame failed connection=%s request=%s cause=%s",
                event.connection_id,
                event.request_id,
                str(error) or type(error).__name__,
                exc_info=not isinstance(error, UpstreamError),
            )
            self.reply(event.connection_id, to_frame(error, request_id))

    def reply(self, connection_id: ConnectionId, body: JSON) -> None:
        """Sends JSON to one connection. If it is gone, there is no one to tell."""
        self.reply_text(connection_id, compact(body))

    def reply_text(self, connection_id: ConnectionId, text: str) -> None:
        """Sends text to one connection."""
        self.broadcast.send([Delivery(connection_id, text, joined_at=0)], prune=lambda _gone: None)

    def join(self, channels: tuple[ChannelName, ...], dialect: str, event: MessageEvent) -> None:
        """Makes the sender a member of each channel; returns once all are written. Raises Superseded."""

        def join_one(channel: ChannelName) -> bool:
            return self.table.join(channel, event.connection_id, dialect, event.at, event.connected_at)

        if not all(self._each(join_one, channels)):
            raise Superseded

    def leave(self, channels: tuple[ChannelName, ...], event: MessageEvent) -> None:
        """Ends the sender's memberships, unless a later frame has joined again."""
        self._each(lambda channel: self.table.leave(channel, event.connection_id, event.at), channels)

    def home_of(self, connection_id: ConnectionId) -> ChannelName:
        """The connection's home channel; raises NoHomeChannel."""
        connection = self.table.connection(connection_id)
        if connection is None or connection.home is None:
            raise NoHomeChannel
        return connection.home

    def publish(self, publish: Publish, event: MessageEvent, budget: Budget) -> Result:
        """Sends a message to a channel's members, each in its own dialect.

        Raises TooLarge before anything is sent, StoreError if nothing was sent, PartlyDelivered if something was.
        """
        sender_id = event.connection_id
        channel = self.home_of(sender_id) if publish.channel is None else publish.channel
        sender = None
        if publish.after_join:
            sender = rendezvous.await_membership(
                self.table, self.clock, channel, sender_id, self.settings.rendezvous_ms
            )
        sending = Sending(
            secrets.token_hex(8),
            Message(channel, publish.body, publish.dialect, sender_id, event.at),
            exclude=frozenset() if publish.to_sender else frozenset((sender_id,)),
            announcer=sender if publish.announces else None,
        )
        return self.fanout.send(sending, budget)

    def _carry_out(self, command: dialects.Command, frame: Frame, event: MessageEvent, budget: Budget) -> None:
        match command:
            case Reply(text):
                self.reply_text(event.connection_id, text)
            case Join(channels, dialect, ack, leaves_home):
                answer = _ack_text(ack)
                if leaves_home and channels:
                    self._leave_home(event.connection_id)
                self.join(channels, dialect, event)
                self._reply_if(answer, event)
            case Leave(channels, ack):
                answer = _ack_text(ack)
                self.leave(channels, event)
                self._reply_if(answer, event)
            case Publish():
                result = self.publish(command, event, budget)
                if command.ack:
                    self._acknowledge(result, frame, event)
            case Run(name):
                self._run(name, frame, event, budget)

    def _run(self, name: str, frame: Frame, event: MessageEvent, budget: Budget) -> None:
        if name not in ACTIONS:
            known = tuple(sorted({*dialects.BUILT_IN_ACTIONS, *ACTIONS}))
            raise UnknownAction("action", name, known)
        wants_ack = frame.flag("ack")
        call = _Call(self, frame, event, budget)
        ACTIONS[name](call)
        if wants_ack:
            self._acknowledge(call.result, frame, event)

    def _leave_home(self, connection_id: ConnectionId) -> None:
        connection = self.table.connection(connection_id)
        if connection is not None and connection.at_home and connection.home is not None:
            self.table.leave_home(connection_id, connection.home)

    def _each(self, act: Callable[[ChannelName], T], channels: Sequence[ChannelName]) -> list[T]:
        """Runs `act` for each channel, a few at a time: a frame with thousands must not fill the pool that posts
        use.
        """
        if len(channels) == 1:
            return [act(channels[0])]
        slices = (channels[start : start + WRITES_AT_ONCE] for start in range(0, len(channels), WRITES_AT_ONCE))
        return [result for some in slices for result in self._writers.map(act, some)]

    def _acknowledge(self, result: Result, frame: Frame, event: MessageEvent) -> None:
        ack = {"type": "ack", "delivered": result.delivered, "stale": result.stale}
        failed = result.not_open + result.throttled + result.failed
        ack |= {name: number for name, number in (("failed", failed), ("handed_on", result.handed_on)) if number}
        self.reply(event.connection_id, frame.answer(ack))

    def _reply_if(self, text: str | None, event: MessageEvent) -> None:
        if text is not None:
            self.reply_text(event.connection_id, text)


def _ack_text(ack: JSON) -> str | None:
    """The ack's text, measured before the command that it acknowledges is carried out."""
    if ack is None:
        return None
    text = compact(ack)
    dialects.check_size(text, "The answer to this frame")
    return text


class _Call:
    """One run of a custom action (actions.Call)."""

    def __init__(self, service: Service, frame: Frame, event: MessageEvent, budget: Budget) -> None:
        self.frame = frame
        self.sender = event.connection_id
        self.result = Result()
        self._service = service
        self._event = event
        self._budget = budget

    def channel(self, field: str = "channel") -> ChannelName:
        named = self.frame.channel(field)
        return self._service.home_of(self.sender) if named is None else named

    def publish(self, channel: ChannelName, body: JSON, *, to_sender: bool = False) -> None:
        publish = Publish(channel, body, "actions", to_sender)
        self.result.add(self._service.publish(publish, self._event, self._budget))

    def reply(self, body: JSON) -> None:
        text = compact(self.frame.answer(body) if isinstance(body, dict) else body)
        dialects.check_size(text, "The reply")
        self._service.reply_text(self.sender, text)

    def join(self, channel: ChannelName) -> None:
        self._service.join((channel,), TEXT, self._event)

    def leave(self, channel: ChannelName) -> None:
        self._service.leave((channel,), self._event)
