"""Who connects, talks, joins, leaves and vanishes, and when.

Each place in the crowd is taken by one client after another. What is said and by whom is drawn from one seed; how it is
interleaved is the machine's. Load is offered no faster than it is taken: so many messages may be under way at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass

from .backend import Backend
from .client import ODD_FRAMES, Client, enter
from .history import ENVELOPE, YWEBRTC, History
from .messages import Said, say

ENTERING_AT_ONCE = 8
UNDER_WAY_AT_MOST = 32
REFUSED_PAUSE_S = 1.0
"""Before a place whose handshake was refused is filled again."""

BACKENDS, ODD, JOINS, LEAVES, STRANGERS = 0.05, 0.02, 0.04, 0.03, 0.1
"""How many of the acts are a backend's, odd frames, joins, leaves, or messages of one who is no member there."""

POPULAR = 0.08
"""How many of the joins are of the one channel that is much larger than the others."""

KINDS = {"rooms": 3, "everyone": 2, "pubsub": 3, ENVELOPE: 2, YWEBRTC: 3}
"""What kinds of clients there are, and how many of each."""


@dataclass(frozen=True)
class Size:
    """How large a crowd is, and how busy."""

    clients: int
    deliveries_per_second: float
    life_s: float
    """How long a client stays, on average."""

    @property
    def rooms(self) -> int:
        """Home channels, and as many channels to join: some ten members in each."""
        return max(2, self.clients // 12)


@dataclass(eq=False)
class _Guest:
    """A client that has settled in, and the channels that it has joined."""

    client: Client
    kind: str
    home: str
    channels: list[str]


class Crowd:
    """The clients of one soak."""

    def __init__(self, url: str, backend: Backend, size: Size, seed: int, history: History) -> None:
        self._url = url
        self._backend = backend
        self._size = size
        self._history = history
        self._dice = random.Random(seed)
        self._guests: list[_Guest] = []
        self._members: Counter[str] = Counter()
        self._door = asyncio.Semaphore(ENTERING_AT_ONCE)
        self._room_to_talk = asyncio.Semaphore(UNDER_WAY_AT_MOST)
        self._under_way: set[asyncio.Task[None]] = set()
        self._come_and_go = asyncio.Event()
        self._stay_put = False
        self._hush: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._places: list[asyncio.Task[None]] = []

    @property
    def present(self) -> int:
        """How many have settled in."""
        return len(self._guests)

    def gather(self) -> None:
        """The places begin to be filled."""
        self._places = [asyncio.create_task(self._fill()) for _ in range(self._size.clients)]

    async def be_busy(self, enough: asyncio.Event) -> None:
        """Talk, joins and leaves until it is enough. Raises what a task of the crowd has raised."""
        while not enough.is_set():
            self._raise_failures()
            await self._room_to_talk.acquire()
            if not self._guests:
                self._room_to_talk.release()
                await asyncio.sleep(0.05)
                continue
            audience = self._act()
            await asyncio.sleep(audience / self._size.deliveries_per_second)

    def come_and_go(self) -> None:
        """From now on clients go, each after its time, and others come. Before that they come only."""
        self._come_and_go.set()

    def stay_put(self) -> None:
        """Nobody goes any more by itself."""
        self._stay_put = True

    async def hush(self) -> None:
        """What has not been answered so far is waited for no longer. Returns once no act is under way."""
        self._hush.set_result(None)
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._raise_failures()

    async def go(self) -> None:
        """All go."""
        self._over.set()
        await asyncio.gather(*self._places)

    # --- a place

    async def _fill(self) -> None:
        while not self._over.is_set() and not self._hush.done():
            guest = await self._welcome()
            if guest is None:
                await asyncio.sleep(REFUSED_PAUSE_S)
                continue
            self._guests.append(guest)
            await self._stay(guest)
            self._guests.remove(guest)
            self._members.subtract((guest.home, *guest.channels))
            async with guest.client.at_rest:
                await (guest.client.close if self._dice.random() < 0.5 else guest.client.vanish)()

    async def _welcome(self) -> _Guest | None:
        """A new client that has joined its first channel; None if it did not get so far."""
        kind = self._dice.choices([*KINDS], [*KINDS.values()])[0]
        with_home = kind in {"rooms", "everyone"} or (kind == YWEBRTC and self._dice.random() < 0.5)
        home = f"home-{self._dice.randrange(self._size.rooms)}" if with_home else ""
        async with self._door:
            client = await enter(self._url, home, self._history, self._hush)
        if client is None:
            return None
        channel = self._channel()
        if not await client.join(channel, envelope=kind == ENVELOPE):
            await client.vanish()
            return None
        guest = _Guest(client, kind, home, [channel])
        self._members.update((home, channel))
        if kind == YWEBRTC:
            # To another one: a member already, it would hear itself before its subscribe is handled.
            topic = next(other for other in iter(self._channel, "") if other != channel)
            await self._subscribe(guest, topic)
            guest.channels.append(topic)
            self._members[topic] += 1
        return guest

    async def _stay(self, guest: _Guest) -> None:
        """Until its time is over, everyone's is, or its connection is lost."""
        over, may_go = asyncio.create_task(self._over.wait()), asyncio.create_task(self._come_and_go.wait())
        ends = (guest.client.gone, over)
        await asyncio.wait((*ends, may_go), return_when=asyncio.FIRST_COMPLETED)
        life_s = self._dice.expovariate(1 / self._size.life_s)
        await asyncio.wait(ends, timeout=life_s, return_when=asyncio.FIRST_COMPLETED)
        if self._stay_put:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        may_go.cancel()

    # --- acts

    def _act(self) -> int:
        """Begins something; returns how many deliveries it may come to."""
        guest, chance = self._dice.choice(self._guests), self._dice.random()
        if chance < ODD:
            return self._begin(guest.client.say_something_odd(self._dice.choice([*ODD_FRAMES, "Marko?", "hello"])))
        if chance < ODD + JOINS:
            return self._begin(self._join_another(guest))
        if chance < ODD + JOINS + LEAVES:
            return self._begin(self._leave_one(guest))
        if chance < ODD + JOINS + LEAVES + BACKENDS:
            channel = self._dice.choice([guest.home or self._channel(), *guest.channels])
            excluded = guest.client.connection if self._dice.random() < 0.2 else None
            said = say("backend", self._history.next_number(), channel, None, self._dice)
            said.message.excluded = excluded
            return self._begin(self._backend.publish(said.message), self._members[channel])
        stranger = guest.kind in {"pubsub", ENVELOPE} and self._dice.random() < STRANGERS
        kind, channel = guest.kind, self._channel() if stranger else self._dice.choice(guest.channels)
        if guest.home and kind in {"rooms", "everyone"}:
            channel = guest.home
            kind = "chat" if self._dice.random() < 0.3 else kind
        said = self._said(kind, guest, channel)
        return self._begin(guest.client.publish(said.message, said.frame), self._members[channel])

    def _begin(self, act: Coroutine[object, object, None], audience: int = 1) -> int:
        task = asyncio.create_task(act)
        self._under_way.add(task)
        task.add_done_callback(self._end)
        return max(1, audience)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._room_to_talk.release()
        if task.cancelled() or task.exception() is None:
            self._under_way.discard(task)

    def _raise_failures(self) -> None:
        for task in (*self._under_way, *self._places):
            if task.done():
                task.result()

    def _said(self, kind: str, guest: _Guest, channel: str) -> Said:
        return say(kind, self._history.next_number(), channel, guest.client.connection, self._dice)

    async def _join_another(self, guest: _Guest) -> None:
        channel = self._channel()
        async with guest.client.at_rest:
            if channel in guest.channels or not guest.client.is_open:
                return
            if guest.kind == YWEBRTC:
                if any(stay.channel == channel for stay in guest.client.connection.stays):
                    return  # it has left there, and nothing says that this has been handled before it comes back
                await self._subscribe(guest, channel)
            elif not await guest.client.join(channel, envelope=guest.kind == ENVELOPE):
                return
            if guest in self._guests:
                guest.channels.append(channel)
                self._members[channel] += 1

    async def _subscribe(self, guest: _Guest, channel: str) -> None:
        connection = guest.client.connection
        was_unsure, connection.unsure = connection.unsure, True
        await guest.client.subscribe(channel, guest.home)
        said = self._said("announce", guest, channel)
        await guest.client.publish(said.message, said.frame)
        stay = connection.stay(channel)
        if connection.received[said.message.number] and stay is not None:
            connection.unsure = was_unsure
            stay.joined_at = min(stay.joined_at, time.monotonic())

    async def _leave_one(self, guest: _Guest) -> None:
        async with guest.client.at_rest:
            if len(guest.channels) < 2 or not guest.client.is_open or guest.client.connection.unsure:
                return
            channel = guest.channels.pop(self._dice.randrange(len(guest.channels)))
            self._members[channel] -= 1
            if guest.kind == YWEBRTC:
                await guest.client.unsubscribe(channel)
            else:
                await guest.client.leave(channel)

    def _channel(self) -> str:
        return "popular" if self._dice.random() < POPULAR else f"topic-{self._dice.randrange(self._size.rooms)}"
