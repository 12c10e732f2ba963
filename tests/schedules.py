"""Every order in which concurrent invocations may take their steps: stateless model checking of real code.

Actors are greenlets that run the code under test. Each gives way before every request to the store and whenever it
sleeps; a schedule says who goes on. `every_schedule` runs a scenario again and again, each time with another schedule,
until it has tried them all.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from botocore.exceptions import ClientError
from greenlet import getcurrent, greenlet
from ministack.services import dynamodb as ministack

from chalicelib.clock import Clock
from localaws.dynamodb import load_definition

from .conftest import ROOT
from .fakes import NOW

TABLE = "channels"


class World:
    """Actors, the time they share, and the schedule that decides between them.

    A step takes `tick_ms`. Where all actors sleep, time goes on to the first that wakes. `skews_ms` is how far each
    actor's own clock is off.
    """

    def __init__(self, prefix: list[int], tick_ms: int) -> None:
        self.now = NOW
        self.tick_ms = tick_ms
        self.skews_ms: dict[greenlet, int] = {}
        self.wakes: dict[greenlet, int] = {}
        self.begun: frozenset[greenlet] = frozenset()
        self.prefix = prefix
        self.choices: list[tuple[int, int]] = []
        """What was chosen at each fork, of how many."""

    def add(self, act: Callable[[], object], skew_ms: int = 0) -> None:
        actor = greenlet(act)
        self.skews_ms[actor] = skew_ms
        self.wakes[actor] = self.now

    def run(self) -> None:
        """Lets the actors take their steps until all have ended."""
        while actors := [actor for actor in self.wakes if not actor.dead]:
            ready = [actor for actor in actors if self.wakes[actor] <= self.now]
            if not ready:
                self.now = min(self.wakes[actor] for actor in actors)
                continue
            ready[self._choose(len(ready))].switch()
            self.now += self.tick_ms

    def give_way(self, until: int = 0) -> None:
        """Called by an actor: the others may go first; it goes on at `until` at the earliest."""
        actor = getcurrent()
        self.wakes[actor] = until
        assert actor.parent is not None
        actor.parent.switch()

    def begins(self) -> bool:
        """Whether the running actor takes its first step: it was its turn already."""
        actor = getcurrent()
        begins, self.begun = actor not in self.begun, self.begun | {actor}
        return begins

    def _choose(self, alternatives: int) -> int:
        if alternatives == 1:
            return 0
        fork = len(self.choices)
        choice = self.prefix[fork] % alternatives if fork < len(self.prefix) else 0
        self.choices.append((choice, alternatives))
        return choice


def every_schedule(scenario: Callable[[World], None], tick_ms: int) -> Iterator[World]:
    """Runs `scenario`, which adds actors to a world, under each schedule there is; yields each world at its end."""
    prefix: list[int] | None = []
    while prefix is not None:
        world = World(prefix, tick_ms)
        scenario(world)
        world.run()
        yield world
        prefix = _next_prefix(world.choices)


def some_schedules(scenario: Callable[[World], None], tick_ms: int, number: int, seed: int) -> Iterator[World]:
    """The same for schedules drawn at random, where there are too many to try them all."""
    dice = random.Random(seed)
    for _ in range(number):
        world = World([dice.randrange(12) for _ in range(64)], tick_ms)  # 12: divisible by 2, 3 and 4 actors
        scenario(world)
        world.run()
        yield world


def _next_prefix(choices: list[tuple[int, int]]) -> list[int] | None:
    """The choices that lead to the next schedule, depth first; None after the last."""
    for fork in reversed(range(len(choices))):
        choice, alternatives = choices[fork]
        if choice + 1 < alternatives:
            return [*(chosen for chosen, _ in choices[:fork]), choice + 1]
    return None


class WorldClock(Clock):
    """Each actor's own clock: the world's, off by the actor's skew."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now_ms(self) -> int:
        return self._world.now + self._world.skews_ms[getcurrent()]

    def elapsed_ms(self) -> float:
        return float(self._world.now)

    def sleep(self, milliseconds: float) -> None:
        self._world.give_way(self._world.now + max(0, round(milliseconds)))


class WorldStore:
    """A DynamoDB client whose every request is a step, answered by ministack's own code in this process.

    A read that does not ask for consistency may be as old as it likes: here it sees nothing at all.
    """

    def __init__(self, world: World) -> None:
        self.world = world

    def update_item(self, **request: Any) -> Any:
        return self._step("UpdateItem", request)

    def delete_item(self, **request: Any) -> Any:
        return self._step("DeleteItem", request)

    def put_item(self, **request: Any) -> Any:
        return self._step("PutItem", request)

    def get_item(self, **request: Any) -> Any:
        return self._step("GetItem", request) if request.get("ConsistentRead") else {}

    def query(self, **request: Any) -> Any:
        return self._step("Query", request) if request.get("ConsistentRead") else {"Items": []}

    def _step(self, operation: str, request: dict[str, Any]) -> Any:
        if not self.world.begins():
            self.world.give_way()
        return request_in_process(operation, request)


def request_in_process(operation: str, request: dict[str, Any]) -> Any:
    """One request to ministack's DynamoDB, without a process or a socket between: some 0.1 ms."""
    headers = {"x-amz-target": f"DynamoDB_20120810.{operation}"}
    try:
        ministack.handle_request("POST", "/", headers, json.dumps(request).encode(), {}).send(None)
    except StopIteration as answered:
        status, _headers, body = answered.value
    answer = json.loads(body)
    if status != 200:
        error = {"Code": answer["__type"].partition("#")[2] or answer["__type"], "Message": answer.get("message", "")}
        raise ClientError({"Error": error}, operation)  # type: ignore[typeddict-item]
    return answer


def make_table() -> None:
    """Makes the project's table in this process, empty."""
    with suppress(ClientError):
        request_in_process("DeleteTable", {"TableName": TABLE})
    definition = load_definition(ROOT / ".chalice/resources.json")
    shape = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
    request_in_process("CreateTable", {"TableName": TABLE, **{name: definition[name] for name in shape}})
