"""A broadcast over a fake gateway, and what it pruned."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

from chalicelib.broadcast import (
    YOUNG_MS,
    Broadcast,
    Delivery,
    Post,
    Result,
)
from chalicelib.clock import Clock
from chalicelib.errors import PostError
from chalicelib.model import ConnectionId
from chalicelib.pacing import Pacer

from .fakes import NOW, FakeClock, FakeGateway, InlineExecutor

OLD = NOW - YOUNG_MS
YOUNG = OLD + 1


class Sending:
    """A broadcast over a fake gateway, and what it pruned."""

    def __init__(self, window: int = 4, executor: Executor | None = None, clock: Clock | None = None) -> None:
        self.gateway = FakeGateway()
        self.clock = clock or FakeClock()
        self.broadcast = new_broadcast(self.gateway.post, executor or InlineExecutor(), window, self.clock)
        self.pruned: list[Sequence[ConnectionId]] = []

    def send(self, *names: str, joined_at: int = OLD) -> Result:
        return self.broadcast.send([delivery(name, joined_at) for name in names], self.pruned.append)


def new_broadcast(post: Post, executor: Executor, window: int, clock: Clock) -> Broadcast:
    return Broadcast(post, executor, window, rate=1_000_000, clock=clock, pacer=Pacer(clock))


def delivery(name: str, joined_at: int = OLD) -> Delivery:
    return Delivery(ConnectionId(name), "hello", joined_at)


def failed(kind: type[PostError]) -> PostError:
    return kind("PostToConnection", "refused")
