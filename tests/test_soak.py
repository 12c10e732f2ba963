"""The short form of `make soak`: a smaller crowd for some seconds, under the same faults and with every check."""

from __future__ import annotations

import asyncio

from .server import running_server
from .soak import faults
from .soak.crowd import Size
from .soak.report import broken, table
from .soak.run import Outcome, Plan, Soak

SIZE = Size(clients=120, deliveries_per_second=250, life_s=20)
PLAN = Plan(seed=6, seconds=12, size=SIZE, prunes=False, storms=(0.5,))

KILLED = Plan(6, 10, Size(40, 100, 15), prunes=False, storms=(), rules=[*faults.CALM, *faults.KILLS])


def soaked(plan: Plan, workers: int = 0) -> Outcome:
    """What a soak comes to, in which no rule was broken."""
    with running_server(env=faults.environment(workers)) as server:
        outcome = asyncio.run(Soak(server, plan, lambda _progress: None).run())
        failures = broken(outcome)
    print(*table(outcome), sep="\n")
    assert not failures, "\n".join(failures)
    return outcome


def test_what_is_lost_is_explained_nothing_comes_twice_and_nothing_is_left_behind() -> None:
    outcome = soaked(PLAN)
    # It has been a soak: messages came and were lost, places changed hands, faults of all kinds were put in.
    assert outcome.verdict.made > 100
    assert outcome.verdict.lost.total() > 0
    assert len(outcome.history.connections) > SIZE.clients
    assert outcome.history.codes["unavailable"] > 0
    assert {at for at, _do in outcome.ledger.counts} == {"frame", "delivery", "store", "disconnect", "socket"}


def test_so_is_what_is_lost_to_invocations_that_are_killed() -> None:
    outcome = soaked(KILLED, workers=4)
    assert outcome.verdict.made > 50
    assert outcome.ledger.counts["invocation", "kill"] > 0
