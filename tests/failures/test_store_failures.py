"""Each request of each operation fails in each way: the client is told, others notice nothing, and a repeat heals it.

An operation is first run undisturbed, to learn what it asks for, whom it reaches and what it leaves. Then it is run
anew for each of its requests and each fault, with the store well again afterwards or down from there on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from chalicelib.table import EXPIRY_SECONDS
from tests.fakes import NOW
from tests.fuzz.store import Item, Key

from .deployment import OK, SENDER, Deployment, Lines, Told, kind_of, one_deployment
from .operations import CHANNELS, DISCONNECTS, FRAMES, PUBLISHES, Operation
from .store import BATCH, FAULTS, Fault

Heard = Counter[tuple[str, str]]
Rows = dict[Key, Item]

OPERATIONS = (*FRAMES, *DISCONNECTS, *PUBLISHES)

CHANGING = ("at", "joined_at", "owner")
"""What another run of an operation writes anew."""


@dataclass(frozen=True)
class Run:
    """What an operation came to: who was told what, who has heard what, and which requests were its own, not those of
    what it has handed on.
    """

    told: Told
    complaints: list[str]
    invoked: list[Told]
    heard: Heard
    requests: list[str]
    own_requests: int
    rows: Rows


def run(deployment: Deployment, operation: Operation) -> Run:
    heard, requests = deployment.heard(), len(deployment.store.requests)
    told = operation.act(deployment)
    complaints, own = deployment.complaints(), len(deployment.store.requests) - requests
    invoked = deployment.invoke_what_is_handed_on()
    return Run(
        told,
        complaints,
        invoked,
        deployment.heard() - heard,
        deployment.store.requests[requests:],
        own,
        deployment.store.items(),
    )


def prepared(deployment: Deployment, operation: Operation) -> Rows:
    """All is ready for the operation; what is in the table."""
    operation.before(deployment)
    if operation.cold:
        deployment.start_over()
    return deployment.store.items()


def seen(item: Item | None, now_s: int) -> Any:
    """What others can see of an item, which must be whole. A tombstone is nothing."""
    if item is None:
        return None
    kind = kind_of(item)
    if kind == "address":
        return item
    assert now_s < int(item["expires_at"]["N"]), item
    if kind in {"tombstone", "claim"}:
        return None
    assert int(item["expires_at"]["N"]) <= NOW // 1_000 + EXPIRY_SECONDS, item
    return {name: value for name, value in item.items() if name not in CHANGING}


def visible(rows: Rows) -> dict[Key, Any]:
    """What others can see of a table."""
    return {key: item for key in rows if (item := seen(rows[key], 0))}


class Watch:
    """Looks at the table after each request: every item is as it was before the operation, or as it is after it."""

    def __init__(self, deployment: Deployment, before: Rows, after: Rows) -> None:
        self._deployment = deployment
        self._allowed = {
            # Who subscribes to its home channel leaves it first: in no moment it is there in both forms.
            key: [*(seen(rows.get(key), 0) for rows in (before, after)), *[None] * ("at_home" in before.get(key, ()))]
            for key in {*before, *after}
        }

    def __call__(self) -> None:
        rows, now_s = self._deployment.store.items(), self._deployment.clock.now // 1_000
        for key in {*rows, *self._allowed}:
            assert seen(rows.get(key), now_s) in self._allowed.get(key, (None,)), key
        at_home, objects_only = set(), set()
        for item in rows.values():
            if item.get("dialect") == {"S": "ywebrtc"}:
                objects_only.add(item["connection_id"]["S"])
            elif "at_home" in item and "dialect" in item:
                at_home.add(item["connection_id"]["S"])
        assert not at_home & objects_only, "a y-webrtc client can be sent raw text"


@dataclass(frozen=True)
class Undisturbed:
    """An operation, what was there before, what it comes to when nothing fails, and who is in which channel then."""

    operation: Operation
    before: Rows
    run: Run
    members: Heard


def undisturbed(operation: Operation, lines: Lines) -> Undisturbed:
    with one_deployment(lines, **operation.settings) as deployment:
        before = prepared(deployment, operation)
        done = run(deployment, operation)
        assert not done.complaints
        return Undisturbed(operation, before, done, deployment.probe(CHANNELS))


def assert_told(meant: Undisturbed, failed: Run, at: int) -> None:
    """Whom it concerns is told, by a code that says whether a repeat is safe, and the log says why."""
    operation, request = meant.operation, meant.run.requests[at]
    if failed.told == meant.run.told:
        if any(told.outcome != OK for told in failed.invoked):
            assert failed.heard <= meant.run.heard
            return
        assert request in operation.tolerates
        assert failed.complaints or visible(failed.rows) == visible(meant.run.rows)
        assert failed.heard == meant.run.heard
        return
    assert failed.complaints
    if operation.claims and failed.told.outcome not in {"unavailable", "partly_delivered"}:
        assert set(failed.told.outcome.split()) <= operation.claims.keys()  # the messages of SQS that failed
        return
    something_sent = bool(failed.heard or failed.invoked)
    assert failed.told.outcome == ("partly_delivered" if something_sent else "unavailable")
    assert failed.heard <= meant.run.heard


def assert_healed(deployment: Deployment, meant: Undisturbed, failed: Run) -> None:
    """A repeat comes to what an undisturbed run comes to."""
    claims = [(key[0], row) for key, row in failed.rows.items() if key[0].startswith("@claim#")]
    claimed = [name.removeprefix("@claim#") for name, row in claims if row["owner"]["S"] != "nobody"]
    texts = [text for name, text in meant.operation.claims.items() if name in claimed]
    deployment.store.after_each = Watch(deployment, meant.before, meant.run.rows)
    again = run(deployment, meant.operation)
    deployment.store.after_each = lambda: None
    assert again.told.outcome == meant.run.told.outcome
    assert not again.complaints or texts
    # What was claimed, and could not be given back, is not sent again: it reaches nobody rather than somebody twice.
    left = {heard: times for heard, times in meant.run.heard.items() if not any(text in heard[1] for text in texts)}
    assert again.heard == Counter(left)
    now_s = deployment.clock.now // 1_000
    for key in {*again.rows, *meant.run.rows}:
        item, expected = again.rows.get(key), meant.run.rows.get(key)
        allowed = [expected]
        if meant.operation.misses_long_names and key[0].startswith("@name#"):
            allowed.append(meant.before[key])
        assert seen(item, now_s) in [seen(one, 0) for one in allowed], key
        assert item or not expected or kind_of(expected) != "tombstone", key
    assert deployment.probe(CHANNELS) == meant.members


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_failure_is_told_and_seen_by_nobody_else_and_a_repeat_heals_it(operation: Operation, lines: Lines) -> None:
    meant = undisturbed(operation, lines)
    assert meant.run.requests
    for at, request in enumerate(meant.run.requests):
        for fault in FAULTS:
            if fault.batches and request != BATCH:
                continue
            for lasting in (False, True):
                with one_deployment(lines, **operation.settings) as deployment, told_of(request, at, fault, lasting):
                    prepared(deployment, operation)
                    deployment.store.after_each = Watch(deployment, meant.before, meant.run.rows)
                    deployment.store.fail(fault, at, lasting=lasting)
                    failed = run(deployment, operation)
                    deployment.store.recover()
                    deployment.store.after_each = lambda: None
                    if fault.is_noticed(lasting=lasting):
                        assert_told(meant, failed, at)
                        assert_healed(deployment, meant, failed)
                    else:
                        assert (failed.told, failed.heard) == (meant.run.told, meant.run.heard)
                        assert not failed.complaints
                        assert visible(failed.rows) == visible(meant.run.rows)
                        assert deployment.probe(CHANNELS) == meant.members


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_leave_that_failed_and_was_repeated_still_wins_over_the_join_that_it_overtook(
    fault: Fault, lines: Lines
) -> None:
    leave, join = {"action": "leavechannel", "channel": "news"}, {"action": "joinchannel", "channel": "news"}
    for at, lasting in product(range(2), (False, True)):
        with one_deployment(lines) as deployment:
            deployment.enter(SENDER)
            joined_at = deployment.clock.now
            deployment.store.fail(fault, at, lasting=lasting)
            deployment.send(SENDER, leave)
            deployment.store.recover()
            assert deployment.send(SENDER, leave).outcome == OK
            assert deployment.send(SENDER, join, at=joined_at).outcome == "superseded"
            assert deployment.probe(["news"]).total() == 0
            assert deployment.send(SENDER, join).outcome == OK
            assert deployment.probe(["news"]) == Counter({(SENDER, "probe of news"): 1})


@contextmanager
def told_of(request: str, at: int, fault: Fault, lasting: bool) -> Iterator[None]:
    """Says in which of many cases it has failed."""
    try:
        yield
    except AssertionError as error:
        error.args = (f"{request} (request {at}) {fault.name}{' from there on' if lasting else ''}: {error}",)
        raise
