"""A handshake that cannot be recorded, and a $disconnect that cannot be carried out: nobody else notices, and what is
left behind ends by itself.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.tokens import HS256

from .deployment import OK, SENDER, Deployment, Lines, kind_of, one_deployment
from .operations import DISCONNECTS, RIGHTS, everywhere
from .store import FAULTS, Fault
from .test_store_failures import Rows, Watch, visible

REFUSED, AGAIN = "refused", "again"

KINDS: dict[str, dict[str, Any]] = {
    "first of all": {"first": True},
    "with a home": {},
    "with another home": {"query": {"room": "lobby"}},
    "without a home": {"query": {"room": ""}},
    "with a token": {"settings": HS256},
    "with a token for another channel": {"settings": HS256, "capability": {"elsewhere": ["*"]}},
}


def renamed(rows: Rows) -> Rows:
    """With the second name for the first one, wherever its bucket may put it."""
    found = {}
    for (channel, member), item in rows.items():
        if item.get("connection_id") == {"S": REFUSED}:
            key = channel.replace(REFUSED, AGAIN), member.rpartition("#")[2].replace(REFUSED, AGAIN)
            found[key] = {**item, "connection_id": {"S": AGAIN}, "channel": {"S": key[0]}, "member": {"S": key[1]}}
    return found


def without_buckets(rows: Rows) -> Rows:
    found = {}
    for (channel, member), item in rows.items():
        if item.get("connection_id") == {"S": AGAIN}:
            key = channel, member.rpartition("#")[2]
            found[key] = {**item, "member": {"S": key[1]}}
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_handshake_that_cannot_be_recorded_is_refused_and_another_one_heals_it(lines: Lines, kind: str) -> None:
    asked = KINDS[kind]
    settings, query = asked.get("settings", {}), asked.get("query", {})

    def prepare(deployment: Deployment) -> Rows:
        if "first" not in asked:
            assert deployment.connect("other", RIGHTS).outcome == OK
            deployment.send("other", {"action": "joinchannel", "channel": "lobby"})
        return deployment.store.items()

    def handshake(deployment: Deployment, name: str) -> str:
        return deployment.connect(name, asked.get("capability", RIGHTS), **query).outcome

    with one_deployment(lines, **settings) as deployment:
        before = prepare(deployment)
        sent = len(deployment.store.requests)
        assert handshake(deployment, REFUSED) == OK
        after = deployment.store.items()
        assert len(deployment.store.requests) - sent == 1

    for fault, lasting in product(FAULTS, (False, True)):
        with one_deployment(lines, **settings) as deployment:
            prepare(deployment)
            deployment.store.after_each = Watch(deployment, before, after)
            deployment.store.fail(fault, 0, lasting=lasting)
            outcome, posts, heard = handshake(deployment, REFUSED), len(deployment.gateway.posts), deployment.heard()
            deployment.store.recover()
            if not fault.is_noticed(lasting=lasting):
                assert (outcome, deployment.complaints()) == (OK, [])
                assert visible(deployment.store.items()) == visible(after)
                continue
            assert outcome == "500"
            assert any(line.startswith(f"connect refused connection={REFUSED}") for line in deployment.complaints())
            assert posts == ("first" not in asked)  # the ack to the other one, before
            deployment.store.after_each = lambda: None
            assert handshake(deployment, AGAIN) == OK
            rows = deployment.store.items()
            assert visible(without_buckets(rows)) == visible(renamed(after))
            assert ("@address", "@") in rows
            # A minute later nobody is taken for one that is connecting still.
            found = deployment.probe(["default", "lobby", "elsewhere"])
            assert REFUSED not in {name for name, _text in found}
            assert found[("other", "probe of lobby")] == ("first" not in asked)
            left = [item for item in deployment.store.items().values() if item.get("connection_id") == {"S": REFUSED}]
            assert {kind_of(item) for item in left} <= {"record"}
            assert heard <= deployment.heard()


@pytest.mark.parametrize("number", [1, 30])
def test_what_a_disconnect_leaves_behind_is_pruned_by_the_next_publish(lines: Lines, number: int) -> None:
    [operation] = [each for each in DISCONNECTS if each.name == f"disconnect from {number}"]
    channels = [f"c{each}" for each in range(number)]
    faults: list[Fault] = [fault for fault in FAULTS if fault.is_noticed(lasting=True)]
    for fault, at in product(faults, range(3)):
        with one_deployment(lines) as deployment:
            everywhere(number)(deployment)
            deployment.store.fail(fault, at, lasting=True)
            assert operation.act(deployment).outcome == OK
            deployment.store.recover()
            assert deployment.probe(channels).total() == 0
            left = [item for item in deployment.store.items().values() if item.get("connection_id") == {"S": SENDER}]
            assert {kind_of(item) for item in left} <= {"record"}
