"""Handing the rest of a broadcast on fails, and the store too: nobody gets a message twice, and whoever may have missed
it, its sender is told so.
"""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest

from .deployment import OK, SENDER, Deployment, Lines, Told, one_deployment
from .operations import CROWD, SHARED, crowded, crowded_and_slow
from .store import DONE, REPEATED, THROTTLED, Fault

FRAME = {"action": "sendmessage", "channel": "news", "message": "hi", "ack": True}
EVENT = {"channel": "news", "message": "hi"}

REFUSED, LOST = "refused", "lost"
"""Lambda has not taken it; or it has, and its answer is lost."""

ENDINGS = (None, REFUSED, LOST)


def received(deployment: Deployment) -> Counter[str]:
    return Counter(name for name, text in deployment.heard().elements() if text == "hi")


def everyone_once(counted: Counter[str]) -> bool:
    return counted == Counter(CROWD)


def acks(deployment: Deployment) -> list[str]:
    return [text for name, text in deployment.heard() if name == SENDER and '"ack"' in text]


def published(deployment: Deployment, by_function: bool) -> Told:
    return deployment.publish(EVENT) if by_function else deployment.send(SENDER, FRAME)


@pytest.mark.parametrize("by_function", [False, True])
@pytest.mark.parametrize("endings", [*product(ENDINGS, repeat=3)], ids=str)
def test_shares_that_cannot_be_handed_on_are_sent_from_here_and_none_twice(
    lines: Lines, endings: tuple[str | None, ...], by_function: bool
) -> None:
    with one_deployment(lines, **SHARED) as deployment:
        crowded(deployment)
        deployment.hand_on_failures = [*endings]
        told = published(deployment, by_function)
        warned = [line for line in deployment.complaints() if line.startswith("not handed on, sent from here")]
        assert told.outcome == OK
        failing = [ending for ending in endings if ending is not None]
        # What is sent from here ends the handing on: the shares before it are sent from here with it.
        assert len(warned) == min(len(failing), 1)
        for invoked in deployment.invoke_what_is_handed_on():
            assert invoked.outcome == OK
        assert everyone_once(received(deployment))


@pytest.mark.parametrize("by_function", [False, True])
@pytest.mark.parametrize("fault", [THROTTLED, DONE, REPEATED], ids=lambda fault: fault.name)
@pytest.mark.parametrize("endings", [*product(ENDINGS, repeat=2)], ids=str)
def test_when_the_store_fails_too_the_sender_is_told_whether_anyone_may_have_it(
    lines: Lines, endings: tuple[str | None, ...], fault: Fault, by_function: bool
) -> None:
    """Each request of the sending itself, and all from it on."""
    for at, lasting in product(range(100), (False, True)):
        with one_deployment(lines, **SHARED) as deployment:
            crowded(deployment)
            deployment.hand_on_failures = [*endings]
            before = len(deployment.store.requests)
            deployment.store.fail(fault, at, lasting=lasting)
            told = published(deployment, by_function)
            complaints = deployment.complaints()
            deployment.store.recover()
            reached = at < len(deployment.store.requests) - before
            # Of what could not be handed on, nobody here knows whether it was.
            may_be_sent = bool(received(deployment) or len(deployment.hand_on_failures) < len(endings))
            assert all(invoked.outcome == OK for invoked in deployment.invoke_what_is_handed_on())
            counted = received(deployment)
            assert counted <= Counter(CROWD)
            if told.outcome == OK:
                assert everyone_once(counted)
            else:
                assert complaints
                assert told.outcome == ("partly_delivered" if may_be_sent else "unavailable")
                assert not acks(deployment)
        if not reached:
            return


@pytest.mark.parametrize("ending", [REFUSED, LOST])
def test_what_takes_too_long_and_cannot_be_handed_on_is_told_as_partly_delivered(lines: Lines, ending: str) -> None:
    with one_deployment(lines) as deployment:
        crowded_and_slow(deployment)
        deployment.hand_on_failures = [ending]
        assert deployment.send(SENDER, FRAME).outcome == "partly_delivered"
        assert deployment.complaints()
        counted = received(deployment)
        assert 0 < counted.total() < len(CROWD)
        deployment.invoke_what_is_handed_on()
        assert received(deployment) <= Counter(CROWD)
        assert everyone_once(received(deployment)) == (ending == LOST)


def test_an_invocation_that_is_run_twice_sends_once(lines: Lines) -> None:
    with one_deployment(lines, **SHARED) as deployment:
        crowded(deployment)
        deployment.send(SENDER, FRAME)
        deployment.handed_on *= 2
        assert all(invoked.outcome == OK for invoked in deployment.invoke_what_is_handed_on())
        assert everyone_once(received(deployment))
