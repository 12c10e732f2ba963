"""A round: all events of one seed to one server. What fails is run again without one event after the other, until each
that is left is needed for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from chalicelib import handlers, hooks, service
from chalicelib.actions import ACTIONS
from chalicelib.hooks import Connecting, Joining, Publishing, Refused
from chalicelib.model import JSON
from tests.captured import event
from tests.frames import CUSTOM

from .generators import Scene, Step, steps_of
from .server import Failure, Lines, Server, Store
from .store import MemoryStore
from .tally import Tally
from .texts import BARRED

MOST_RUNS = 500
"""How often a round that fails is run again, at most."""

SHOWN_CHARACTERS, SHOWN_STEPS = 2_000, 20
"""Of an event, and how many events."""

MakeStore = Callable[[], Store]


@dataclass(frozen=True)
class Finding:
    """What has failed, with which variables, and the fewest events that were found to make it fail. `events` is after
    how many frames and handshakes in all.
    """

    seed: int
    events: int
    failure: Failure
    variables: dict[str, str]
    steps: Sequence[Step]

    def __str__(self) -> str:
        told = [_told(step) for step in self.steps]
        lines = [
            text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}… {len(text):,}" for text in told
        ]
        omitted = [f"… {len(lines) - SHOWN_STEPS} more before"] if len(lines) > SHOWN_STEPS else []
        variables = " ".join(f"{name}={value!r}" for name, value in self.variables.items())
        again = f"SEED={self.seed} FUZZ=1 make fuzz"
        return "\n".join((again, "", str(self.failure), "", variables, *omitted, *lines[-SHOWN_STEPS:]))


def _told(step: Step) -> str:
    """The event on one line, without what is the same in all of them."""
    usual = event(step.handler)
    context = step.event.get("requestContext")
    if isinstance(context, dict):
        context = {name: said for name, said in context.items() if usual["requestContext"].get(name) != said}
    rest = {name: said for name, said in step.event.items() if usual.get(name) != said and name != "requestContext"}
    return f"{step.at} {step.handler} {json.dumps(context)} {json.dumps(rest)}"


def play(seed: int, tally: Tally, make_store: MakeStore = MemoryStore) -> Finding | None:
    """Runs the round of that seed; what it has found, if anything."""
    scene, steps = steps_of(seed)
    failed = _run(scene, steps, make_store, tally)
    if failed is None:
        return None
    number, failure = failed
    least, failure = _shrunk(scene, steps[: number + 1], failure, make_store)
    return Finding(seed, tally.events, failure, dict(scene.variables), least)


def _run(scene: Scene, steps: Sequence[Step], make_store: MakeStore, tally: Tally) -> tuple[int, Failure] | None:
    """The first event that fails, by its number, and how."""
    number = -1
    with _lines() as lines, _extended(scene):
        server = Server(scene, make_store(), lines, tally)
        with patch.object(handlers, "_service", lambda _api: server.service):
            try:
                for number, step in enumerate(steps):  # noqa: B007  the last is needed
                    server.take(step)
                server.check_whole_table()
            except Failure as failure:
                return number, failure
    return None


def _shrunk(
    scene: Scene, steps: Sequence[Step], failure: Failure, make_store: MakeStore
) -> tuple[Sequence[Step], Failure]:
    """Fewer events that fail in the same way: without ever smaller parts of them."""
    part, runs = len(steps) // 2, 0
    while part and runs < MOST_RUNS:
        start, before = 0, len(steps)
        while start < len(steps) and runs < MOST_RUNS:
            fewer, runs = [*steps[:start], *steps[start + part :]], runs + 1
            failed = _run(scene, fewer, make_store, Tally())
            if failed is not None and failed[1].check == failure.check:
                steps, failure = fewer[: failed[0] + 1], failed[1]
            else:
                start += part
        if part > 1 or len(steps) == before:
            part //= 2
    return steps, failure


@contextmanager
def _lines() -> Iterator[Lines]:
    """What is logged goes nowhere else."""
    log, lines = logging.getLogger("channels"), Lines()
    with ExitStack() as after:
        after.enter_context(patch.object(log, "propagate", new=False))
        after.callback(log.setLevel, log.level)
        log.setLevel(logging.INFO)
        log.addHandler(lines)
        after.callback(log.removeHandler, lines)
        yield lines


@contextmanager
def _extended(scene: Scene) -> Iterator[None]:
    """An action for each thing that an action may do and, where the scene has them, hooks that refuse one channel."""
    with ExitStack() as after:
        after.enter_context(patch.object(service, "ACTIONS", {**ACTIONS, **CUSTOM}))
        if scene.hooked:
            after.enter_context(patch.object(hooks, "ON_CONNECT", (_ask_on_connect,)))
            after.enter_context(patch.object(hooks, "ON_JOIN", (_ask_on_join,)))
            after.enter_context(patch.object(hooks, "ON_PUBLISH", (_ask_on_publish,)))
        yield


def _ask_on_connect(connecting: Connecting) -> None:
    if connecting.home == BARRED:
        raise Refused("Not there.")


def _ask_on_join(joining: Joining) -> None:
    if joining.channel == BARRED:
        raise Refused


def _ask_on_publish(publishing: Publishing) -> JSON:
    if publishing.channel == BARRED:
        raise Refused("Members only.\n")
    return publishing.body
