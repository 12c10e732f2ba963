"""One message to a channel's members: read page by page, written once for each kind of member, sent within one
invocation and, where that is not enough, beyond it.

Members stand in the order of a hash. When an invocation's time is up, what comes after the last one drawn is handed on,
as a range of keys, to another invocation, and so on. Where the account's rate is more than one invocation reaches, the
range is cut into several that are served side by side. A claim in the table sees to it that a range is sent to once,
although Lambda may run an invocation twice.

Knows neither what an event looks like (publishing.py) nor how a post is sent (broadcast.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias

from . import logs, rendezvous
from .broadcast import Broadcast, Delivery, Result
from .budget import Budget
from .clock import Clock
from .dialects import Encoded
from .errors import AlreadySent, NotHandedOn, PartlyDelivered, StoreError
from .model import ConnectionId, KeyRange, Member, Message, Page, Position
from .ranges import cut, position_of
from .settings import Settings
from .table import Table

log = logs.logger("channels.fanout")


@dataclass(frozen=True, slots=True)
class Sending:
    """A message, whom it is for, and which part of them is meant.

    `id` names the message among all others. `announcer` is the sender of a y-webrtc announce, which members that came
    later get later. `clients` is how many members the channel has, where that is known already; `rate` is this part's
    share of the posts a second, where parts are sent to side by side.
    """

    id: str
    message: Message
    exclude: frozenset[ConnectionId] = frozenset()
    announcer: Member | None = None
    within: KeyRange = KeyRange()  # noqa: RUF009  it is frozen
    clients: int | None = None
    rate: float | None = None


HandOver: TypeAlias = Callable[[Sending], None]
"""Lets another invocation do a sending; raises NotHandedOn."""

Claim: TypeAlias = tuple[Position | None, str]
"""Where the members begin that it is for, and the name that gives it back."""


@dataclass(frozen=True)
class Fanout:
    """Sends to the members in `table` through `broadcast`; `readers` are threads that read the next page meanwhile.

    Safe to use from several threads.
    """

    settings: Settings
    table: Table
    broadcast: Broadcast
    hand_over: HandOver
    readers: Executor
    clock: Clock

    def send(self, sending: Sending, budget: Budget, *, claim: bool = False) -> Result:
        """Sends, and returns how this invocation's posts ended.

        Raises TooLarge, StoreError and, with `claim`, AlreadySent before anything is sent; PartlyDelivered if something
        was. What could not be sent at all is left to a repeat.
        """
        claimed: list[Claim] = []
        try:
            return self._send(sending, budget, claimed, claim=claim)
        except StoreError:
            # Free for a repeat under the same name alone: a part that arrives late would be a second message otherwise.
            for start, owner in claimed if claim else ():
                with suppress(StoreError):
                    self.table.give_back(sending.id, start, owner)
            raise

    def _send(self, sending: Sending, budget: Budget, claimed: list[Claim], *, claim: bool) -> Result:
        """Sends. Each claim that it takes is added to `claimed`."""
        channel = sending.message.channel
        pages = self.table.members(channel, sending.within)
        first = next(pages)
        goes_on = sending.clients is not None
        clients = first.size if sending.clients is None else sending.clients
        encoded = Encoded(sending.message, clients)
        if claim and not self._claim(sending, claimed):
            raise AlreadySent(sending.id)
        handed_on: list[KeyRange] = []
        if first.last is not None:
            sending = self._share(replace(sending, clients=clients), first.last, handed_on, claimed)
            pages = self._read_ahead(self.table.members(channel, KeyRange(first.last, sending.within.up_to)))
        result = self.broadcast.send(
            self._deliveries(sending, chain((first,), pages), encoded, budget, handed_on),
            prune=lambda connection_ids: self.table.prune(channel, connection_ids),
            expected=first.size,
            rate=sending.rate,
            burst=not goes_on,
            give_up_at=budget.retry_until,
        )
        result.handed_on = len(handed_on)
        counts = " ".join(f"{name}={number}" for name, number in result.counts().items())
        log.info("published message=%a connection=%s %s", sending.id, sending.message.sender, counts)
        if result.interrupted is not None:
            if isinstance(result.interrupted, StoreError) and not result.may_have_reached_some:
                raise result.interrupted
            raise PartlyDelivered("Broadcast", str(result.interrupted)) from result.interrupted
        return result

    def _claim(self, sending: Sending, claimed: list[Claim]) -> bool:
        start = sending.within.after
        owner = self.table.claim(sending.id, start)
        if owner is not None:
            claimed.append((start, owner))
        return owner is not None

    def _share(self, sending: Sending, read: Position, handed_on: list[KeyRange], claimed: list[Claim]) -> Sending:
        """This invocation's part of the sending, once others have been handed theirs, the last part first.

        Raises PartlyDelivered where it cannot be told who is to send a part.
        """
        rate = self.settings.broadcast_rate
        parts = math.ceil(rate / self.settings.invocation_rate)
        if sending.rate is not None or parts == 1 or self.settings.publish_function is None:
            return sending
        ranges = cut(sending.within, read, parts)
        sending = replace(sending, rate=rate / len(ranges))
        while len(ranges) > 1:
            part = replace(sending, within=ranges[-1])
            try:
                self.hand_over(part)
            except NotHandedOn as error:
                log.warning("not handed on, sent from here message=%a cause=%s", sending.id, error)
                # It may have been handed on, and only the answer lost. Who claims the range first sends to it.
                try:
                    if self._claim(part, claimed):
                        break
                except StoreError as failure:
                    raise PartlyDelivered("Broadcast", str(failure)) from failure
            handed_on.append(ranges.pop())
        return replace(sending, within=KeyRange(sending.within.after, ranges[-1].up_to))

    def _deliveries(
        self,
        sending: Sending,
        pages: Iterator[Page],
        encoded: Encoded,
        budget: Budget,
        handed_on: list[KeyRange],
    ) -> Iterator[Delivery]:
        last: ConnectionId | None = None
        for page in pages:
            for member in page.members:
                now = self.clock.now_ms()
                # Not before the first: each invocation must come further than the one before it.
                if last is not None and now >= budget.draw_until:
                    rest = KeyRange(position_of(last), sending.within.up_to)
                    self.hand_over(replace(sending, within=rest))
                    handed_on.append(rest)
                    return
                last = member.connection_id
                if last not in sending.exclude:
                    text = encoded.text_for(member.dialect)
                    yield Delivery(last, text, member.joined_at, rendezvous.announce_at(sending.announcer, member, now))

    def _read_ahead(self, pages: Iterator[Page]) -> Iterator[Page]:
        """Reads each page while the one before it is sent, the first at once."""
        coming = self.readers.submit(next, pages)

        def read() -> Iterator[Page]:
            nonlocal coming
            while True:
                page = coming.result()
                if page.last is not None:
                    coming = self.readers.submit(next, pages)
                yield page
                if page.last is None:
                    return

        return read()
