"""(c) A broadcast under a quota of half of what one invocation reaches: its time against the bound, and who got what.

The app's own publish function, its members in a real table, a sink that answers 429 beyond the quota; in one invocation
and handed on by several, without faults and with them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING

from bench.functions import Function, Invocation
from bench.gateway import Gateway, Receiver, running_gateway
from bench.members import TABLE, Members, store_beside_sink
from bench.report import Measured, Table
from bench.rounds import with_noise
from bench.sink import Rules, Totals
from bench.store import Store

if TYPE_CHECKING:
    from rich.progress import Progress

LATENCY_MS = 8.0
MESSAGE = "x" * 2_048

LIFETIME_MS = 900_000
"""A Lambda's longest timeout: all is sent in one invocation."""

HANDED_ON = 2
"""About so many invocations share a broadcast that is handed on: each has little time."""

BUDGET_OF_REMAINING = 2 / 3
"""How much of its time an invocation sends for before it hands on."""

THROTTLED, CUT, STALE, LEAVING = 0.01, 0.001, 0.01, 0.01
"""The faults, as shares of all posts and receivers."""

HAMMERED = 0.1
"""More 429s than this share of the receivers, where posts are paced at the quota, is hammering."""

FEWEST, FEW, MANY = 1_000, 20_000, 100_000
QUICK_FEW = 15_000
"""Receivers. A quick run has neither time for many, nor a bound to speak of for fewer: the burst is some 3,000."""

FAST_STORE = "dynalite"

RATE_RUNS = 3
UNLIMITED = 100_000
WARM = "warm"

UNDELIVERED = ("stale", "not_open", "throttled", "failed")
"""What the function calls posts that did not arrive, or may not have."""


@dataclass(frozen=True)
class Quota:
    """What the gateway lets through; the ratio of its two figures is AWS's."""

    rate: float

    @property
    def burst(self) -> float:
        return self.rate / 2

    def bound(self, receivers: int) -> float:
        """The seconds that no broadcast to so many can fall short of."""
        return (receivers - self.burst) / self.rate


@dataclass(frozen=True)
class Case:
    """A row: how many receivers, how they are sent to, and what goes wrong meanwhile."""

    receivers: int
    hands_on: bool = False
    """Whether each invocation has so little time that it has further ones do the rest."""
    over_quota: int = 1
    """How many times the quota the function is told it may send at."""
    faults: bool = False
    twice: bool = False
    """Whether Lambda runs twice what is handed on."""
    runs: int = 1

    @property
    def how(self) -> str:
        kinds = ["handed on" if self.hands_on else "one invocation"]
        kinds += [f"told {self.over_quota} x the quota"] * (self.over_quota > 1) + ["faults"] * self.faults
        kinds += ["each run twice"] * self.twice
        return ", ".join(kinds)

    @property
    def is_plain(self) -> bool:
        return self.over_quota == 1 and not self.faults and not self.twice


@dataclass(frozen=True)
class Run:
    """A broadcast, as its invocations and the sink tell of it."""

    invocations: Sequence[Invocation]
    totals: Totals
    lost: int
    twice: int

    @property
    def seconds(self) -> float:
        """From the invocation to the last post that was accepted; to the end of all where none was."""
        end = self.totals.last_accepted or max(invocation.ended for invocation in self.invocations)
        return end - self.invocations[0].began

    @property
    def given_up(self) -> int:
        return sum(map(self.count, ("not_open", "throttled", "failed")))

    @property
    def peak_mb(self) -> float:
        return max(invocation.peak_mb for invocation in self.invocations)

    def count(self, what: str) -> int:
        """What the invocations say of their posts, summed up."""
        return sum(invocation.result.get(what, 0) for invocation in self.invocations)


@dataclass(frozen=True)
class Stage:
    """What all runs share: the sink, the store, and the members of each channel, which is named for their number."""

    gateway: Gateway
    store: Store
    members: Members
    ids: dict[int, list[str]]

    def function(self, case: Case, rate: float, reached: float, remaining_ms: float) -> Function:
        """The app's, told to send at `rate`, and that one invocation reaches `reached`."""
        env = {
            **self.gateway.env(),
            "AWS_ENDPOINT_URL_DYNAMODB": self.store.endpoint,
            "TABLE_NAME": TABLE,
            "BROADCAST_RATE": f"{rate:.0f}",
            "INVOCATION_RATE": f"{reached:.0f}",
        }
        return Function(env, remaining_ms=round(remaining_ms), twice=case.twice)

    def broadcast(self, function: Function, case: Case, rules: Rules) -> Run:
        """One message to the channel with so many members, in environments that had an invocation before."""
        receivers, ids = case.receivers, self.ids[case.receivers]
        function.warm(2 if case.hands_on else 1, {"channel": WARM, "message": MESSAGE})
        self.gateway.rule(rules)
        with _leaving(self.members, ids, rules):
            invocations = function.invoke({"channel": str(receivers), "message": MESSAGE})
        got = self.gateway.receivers()
        gone = {name for name in ids if rules.is_stale(name) or rules.leaves_at(name) is not None}
        self.ids[receivers] = [name for name in ids if name not in gone]
        lost, twice = settle(ids, got, rules, [invocation.result for invocation in invocations])
        return Run(invocations, self.gateway.totals(), lost, twice)


def settle(
    ids: Sequence[str], got: Mapping[str, Receiver], rules: Rules, results: Sequence[Mapping[str, int]]
) -> tuple[int, int]:
    """How many receivers were lost, and how many posts came once too often.

    Lost is who got nothing and is in none of the counts of those that cannot have it. Those counts hold, beside them,
    posts that were accepted and whose answer was cut off; and who had left before its turn is in no count.
    """
    empty_handed = sum(1 for name in ids if name not in got or not got[name].accepted)
    counted = sum(result.get(what, 0) for result in results for what in UNDELIVERED)
    counted -= sum(receiver.unanswered for receiver in got.values())
    had_left = sum(1 for name in ids if name not in got and rules.leaves_at(name) is not None)
    lost = max(0, empty_handed - counted - had_left)
    return lost, sum(receiver.accepted - 1 for receiver in got.values() if receiver.accepted > 1)


def cases(quick: bool) -> list[Case]:
    """In the order in which they are run: those that leave fewer members behind come last."""
    if quick:
        return [Case(QUICK_FEW), Case(QUICK_FEW, hands_on=True), Case(QUICK_FEW, faults=True)]
    return [
        Case(FEWEST),
        Case(FEW, runs=3),
        Case(FEW, hands_on=True, runs=3),
        Case(MANY),
        Case(MANY, hands_on=True),
        Case(FEW, over_quota=2, runs=3),
        Case(FEW, hands_on=True, twice=True),
        Case(FEW, faults=True),
        Case(MANY, hands_on=True, faults=True),
    ]


def measure(quick: bool, progress: Progress) -> Measured:
    """The rate of one invocation first, then each case under half of it."""
    with running_gateway() as gateway, store_beside_sink() as store:
        rows = cases(quick or store.name != FAST_STORE)
        sizes = {case.receivers for case in rows}
        loading = progress.add_task("quota: members join", total=sum(sizes))
        members = Members(store.endpoint)
        ids = {size: members.join(f"{size}", size, lambda joined: progress.advance(loading, joined)) for size in sizes}
        members.join(WARM, 2, lambda _joined: None)
        stage = Stage(gateway, store, members, ids)
        rate_runs = 1 if quick else RATE_RUNS
        sending = progress.add_task("quota: broadcasts", total=rate_runs + sum(case.runs for case in rows))
        reached = []
        for _ in range(rate_runs):
            reached.append(_unlimited(stage, min(sizes - {FEWEST})))
            progress.advance(sending)
        quota = Quota(median(reached) / 2)
        runs: dict[Case, list[Run]] = {case: [] for case in rows}
        for case in rows:
            for _ in range(case.runs):
                runs[case].append(_run(stage, case, quota))
                progress.advance(sending)
    return _measured(runs, quota, reached, store)


def _unlimited(stage: Stage, receivers: int) -> float:
    """The receivers a second that one invocation reaches where nothing holds it back."""
    case = Case(receivers)
    with stage.function(case, UNLIMITED, UNLIMITED, LIFETIME_MS) as function:
        return receivers / stage.broadcast(function, case, Rules(LATENCY_MS)).seconds


def _run(stage: Stage, case: Case, quota: Quota) -> Run:
    bound = quota.bound(case.receivers)
    remaining_ms = bound / HANDED_ON / BUDGET_OF_REMAINING * 1_000 if case.hands_on else LIFETIME_MS
    rules = Rules(LATENCY_MS, quota.rate, quota.burst)
    if case.faults:
        rules = replace(rules, throttled=THROTTLED, cut=CUT, stale=STALE, leaving=LEAVING, leaving_seconds=bound)
    with stage.function(case, quota.rate * case.over_quota, 2 * quota.rate, remaining_ms) as function:
        return stage.broadcast(function, case, rules)


@contextmanager
def _leaving(members: Members, ids: Sequence[str], rules: Rules) -> Iterator[None]:
    """Meanwhile those who leave are taken out of the table too, about when the sink has them gone."""
    over, began = threading.Event(), time.monotonic()
    leavers = sorted((at, name) for name in ids if (at := rules.leaves_at(name)) is not None)

    def leave() -> None:
        for at, name in leavers:
            if over.wait(max(0.0, at - (time.monotonic() - began))):
                return
            members.disconnect(name)

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _measured(runs: Mapping[Case, Sequence[Run]], quota: Quota, reached: Sequence[float], store: Store) -> Measured:
    figures: dict[str, object] = {
        "quota_over_bound": max(median(_over_bound(case, quota, runs[case])) for case in runs if case.is_plain),
        "lost": sum(run.lost for each in runs.values() for run in each),
        "twice": sum(run.twice for each in runs.values() for run in each),
    }
    if store.name != FAST_STORE:
        figures["quota_over_bound"] = None
    for receivers in (FEWEST, MANY):
        peaks = [run.peak_mb for run in runs.get(Case(receivers), ())]
        figures[f"rss_mb_{receivers}"] = median(peaks) if peaks else None
    failures = [failure for case, each in runs.items() for run in each for failure in _failures(case, run)]
    return Measured([_table(runs, quota, reached, store)], figures, failures)


def _over_bound(case: Case, quota: Quota, runs: Sequence[Run]) -> list[float]:
    return [run.seconds / quota.bound(case.receivers) for run in runs]


def _failures(case: Case, run: Run) -> Iterator[str]:
    row = f"quota, {case.receivers:,} receivers, {case.how}"
    yield from (f"{row}: {invocation.error}" for invocation in run.invocations if invocation.error)
    if run.lost or run.twice:
        yield f"{row}: {run.lost} lost, {run.twice} twice"
    if case.hands_on and len(run.invocations) == 1:
        yield f"{row}: nothing was handed on"
    if case.is_plain and run.given_up:
        yield f"{row}: {run.given_up} posts were given up"
    if case.is_plain and run.totals.over_quota > HAMMERED * case.receivers:
        yield f"{row}: {run.totals.over_quota:,} posts were answered 429"


def _table(runs: Mapping[Case, Sequence[Run]], quota: Quota, reached: Sequence[float], store: Store) -> Table:
    columns = ("receivers", "how", "invocations", "bound s", "time s", "time/bound", "429s", "delivered", "stale")
    notes = [
        f"one invocation reaches {with_noise(reached)} receivers/s without a quota; the quota is half of that, "
        f"{quota.rate:,.0f}/s with a burst of {quota.burst:,.0f}; the bound is (receivers - burst) / rate",
        f"2 KB over TLS, {LATENCY_MS:.0f} ms, one core; members in {store.name}; environments are warm, sockets new",
        "time: from the invocation to the last post that the sink accepted. 429s: posts beyond the quota",
        f"faults: {THROTTLED:.0%} of the answers are 429, {CUT:.1%} of the sockets die, at any byte, {STALE:.0%} of "
        f"the receivers are stale, {LEAVING:.0%} leave meanwhile; what is given up are posts whose socket died",
        "lost: got nothing, and in no count of those that cannot have it. Rows of several runs show medians",
    ]
    if store.name != FAST_STORE:
        notes.append(f"the times are {store.name}'s, whose pages are slow: {FAST_STORE} needs Node and `make bench`")
    rows = [_row(case, quota, each) for case, each in runs.items()]
    return Table("A broadcast under a simulated quota", (*columns, "given up", "lost", "twice", "peak MB"), rows, notes)


def _row(case: Case, quota: Quota, runs: Sequence[Run]) -> tuple[str, ...]:
    bound = quota.bound(case.receivers)

    def middle(count: Callable[[Run], float]) -> str:
        return f"{median(map(count, runs)):,.0f}"

    return (
        f"{case.receivers:,}",
        case.how,
        middle(lambda run: len(run.invocations)),
        f"{bound:.2f}" if bound > 0 else "-",
        f"{median(run.seconds for run in runs):.2f}",
        with_noise(_over_bound(case, quota, runs), 2) if bound > 0 else "-",
        middle(lambda run: run.totals.over_quota),
        middle(lambda run: run.count("delivered")),
        middle(lambda run: run.count("stale")),
        middle(lambda run: run.given_up),
        f"{sum(run.lost for run in runs):,}",
        f"{sum(run.twice for run in runs):,}",
        f"{max(run.peak_mb for run in runs):,.0f}",
    )
