"""What a soak finds left behind, and what it makes of it: rows, memory, descriptors, tracebacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from localaws.faults import Hit

from .soak.accounts import Verdict
from .soak.crowd import Size
from .soak.footprint import POSTS_AT_REST, WORKER_DESCRIPTORS, Footprint, Memory
from .soak.history import Connection, History, Message
from .soak.ledger import Ledger
from .soak.leftovers import (
    ADDRESS,
    CLAIM,
    HANDED_ON,
    INCOMPLETE,
    LATE,
    LOST,
    TOMBSTONE,
    UNKNOWN,
    Leftovers,
    explain,
)
from .soak.report import broken, table
from .soak.run import Outcome, Plan
from .soak.serverlog import incomplete_disconnects, parts_given_up, unforeseen
from .soak.story import hit

BEN, CAT = "ben", "cat"


@pytest.fixture(name="ben")
def a_connection(history: History) -> Connection:
    ben = history.connecting()
    ben.id = BEN
    return ben


@pytest.fixture(name="history")
def a_history() -> History:
    return History()


def row(channel: str, owner: str | None = None, **more: Any) -> dict[str, Any]:
    return {"channel": {"S": channel}, **({"connection_id": {"S": owner}} if owner else {}), **more}


def membership(owner: str, joined_at: int = 5_000) -> dict[str, Any]:
    return row("news", owner, joined_at={"N": str(joined_at)})


def reasons(history: History, *items: dict[str, Any], hits: Sequence[Hit] = (), log: str = "") -> tuple[list[str], int]:
    left = explain(items, history, Ledger(hits), incomplete_disconnects(log))
    return [reason for _kind, reason in left.reasons.elements()], len(left.unexplained)


def test_a_row_of_a_connection_that_went_as_it_should_is_not_explained(history: History) -> None:
    assert reasons(history, row("@connection#ben", BEN), membership(BEN)) == ([], 2)


def test_a_row_is_explained_by_what_became_of_its_disconnect(history: History, ben: Connection) -> None:
    rows = (row("@connection#ben", BEN), membership(BEN))
    assert reasons(history, *rows, hits=[hit("disconnect", "lose", BEN)]) == ([LOST] * 2, 0)
    assert reasons(history, *rows, log="disconnect incomplete connection=ben cause=x") == ([INCOMPLETE] * 2, 0)
    killed = hit("invocation", "kill", BEN, "channels-dev-websocket_disconnect")
    assert reasons(history, *rows, hits=[killed]) == ([INCOMPLETE] * 2, 0)
    assert reasons(history, *rows, hits=[hit("disconnect", "lose", CAT)]) == ([], 2)
    assert reasons(history, *rows, hits=[replace(killed, detail="channels-dev-websocket_message")]) == ([], 2)
    ben.unsure = True
    assert reasons(history, *rows) == ([LATE], 1)


def test_what_the_table_remembers_for_a_time_is_explained(history: History, ben: Connection) -> None:
    history.published(Message(7, "news", "~7~", ben))
    history.published(Message(8, "news", "~8~", None))
    claims = row("@claim#~8~"), row("@claim#0211c0e4605cdfc2"), row("@claim#~7~"), row("@claim#other")
    assert reasons(history, row("@address"), *claims, row("news", BEN)) == ([ADDRESS, CLAIM, HANDED_ON, TOMBSTONE], 2)


def test_a_connection_that_no_client_knows_was_refused_or_its_client_had_gone(
    history: History,
) -> None:
    strangers = row("@connection#x", "x"), membership("x"), row("@connection#y", "y")
    assert reasons(history, *strangers) == ([], 3)
    history.refused["500"] = 1
    assert reasons(history, *strangers) == ([UNKNOWN] * 2, 1)
    history.refused["401"] = 9
    assert reasons(history, *strangers) == ([UNKNOWN] * 2, 1)
    history.connecting()
    assert reasons(history, *strangers) == ([UNKNOWN] * 2, 1)
    history.connections[-1].unsure = True
    assert reasons(history, *strangers) == ([UNKNOWN] * 3, 0)


def test_channels_with_members_left_are_known_and_when_the_youngest_joined(history: History) -> None:
    left = explain([membership(BEN, 5), membership(CAT, 9)], history, Ledger(), frozenset())
    assert (left.channels, left.joined_at) == ({"news"}, 9)


def test_a_traceback_of_an_error_that_nobody_raises_on_purpose_is_found() -> None:
    head = "Traceback (most recent call last):\n  File x, line 1, in f\n    g()\n"
    cause = "\nThe above exception was the direct cause of the following exception:\n\n"
    foreseen = f"{head}botocore.errors.X: no\n{cause}{head}chalicelib.errors.StoreError: Query failed\nother line\n"
    assert unforeseen(foreseen) == []
    assert unforeseen(f"line\n{head}KeyError: 'x'\n{foreseen}") == ["KeyError: 'x'"]
    assert unforeseen(f"{head}KeyError: 'x'\n{cause}{head}ValueError: y\n") == ["ValueError: y"]


def test_parts_that_were_given_up_are_counted() -> None:
    line = "ERROR The asynchronous invocation 5-a of channels-dev-publish failed 3 times and is given up.\n"
    assert parts_given_up(f"other\n{line}{line}") == 2


# What the report makes of it.

BEFORE = Footprint(Memory(100_000_000, 0, 50_000_000), workers=0, outside=0, posts=16, store=100, rest=20)
TO_STORE = 200
"""Four ends for each of ten clients and forty acts."""

OUTCOME = Outcome(
    Plan(seed=1, seconds=10, size=Size(10, 10, 10), prunes=False),
    History(),
    Ledger(),
    Verdict(),
    Leftovers(),
    BEFORE,
    BEFORE,
    BEFORE,
    BEFORE,
    tracebacks=[],
    filling_s=1,
    seconds=20,
)


def test_a_soak_that_ends_as_it_began_breaks_no_rule() -> None:
    assert broken(OUTCOME) == []
    assert any("seed 1" in line for line in table(OUTCOME))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"late": BEFORE._replace(memory=Memory(136_000_000, 0, 0))}, "memory of the server grew from 100 to 136 MB"),
        ({"late": BEFORE._replace(memory=Memory(0, 0, 78_000_000))}, "memory of the store grew from 50 to 78 MB"),
        ({"after": BEFORE._replace(posts=POSTS_AT_REST + 1)}, "connections of posts are 17, and may be 16"),
        ({"after": BEFORE._replace(workers=2, posts=33)}, "connections of posts are 33, and may be 32"),
        ({"after": BEFORE._replace(store=TO_STORE + 1)}, "connections to the store are 201, and may be 200"),
        ({"after": BEFORE._replace(outside=1)}, "1 connections with others are open, and nobody is there"),
        ({"after": BEFORE._replace(rest=21)}, "descriptors besides connections grew from 20 to 21"),
        ({"after": BEFORE._replace(workers=1, rest=21 + WORKER_DESCRIPTORS)}, "grew from 20 to 37"),
        ({"tracebacks": ["KeyError: 'x'"]}, "tracebacks in the server's log: 1\n    KeyError: 'x'"),
        ({"leftovers": Leftovers(unexplained=["a row"])}, "rows that nothing explains: 1\n    a row"),
        ({"verdict": Verdict(broken={"a rule": ["once"]}, times=Counter({"a rule": 3}))}, "a rule: 3 times\n    once"),
    ],
)
def test_each_rule_that_is_broken_is_told(change: dict[str, Any], told: str) -> None:
    (sentence,) = broken(replace(OUTCOME, **change))
    assert told in sentence


def test_growth_within_its_bounds_is_borne() -> None:
    late = BEFORE._replace(memory=Memory(134_000_000, 0, 77_000_000), posts=2_000)  # at rest they count
    after = BEFORE._replace(workers=2, posts=2 * POSTS_AT_REST, store=TO_STORE, rest=20 + 2 * WORKER_DESCRIPTORS)
    assert broken(replace(OUTCOME, late=late, after=after)) == []
