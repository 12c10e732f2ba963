"""What is told at the end of a soak, and which rules were broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from .footprint import Memory, posts_allowed, rest_allowed, store_allowed
from .run import Outcome

K = TypeVar("K")

MEGABYTE = 1_000_000

GROWTH_SHARE, GROWTH_BYTES = 0.15, 20 * MEGABYTE
"""From a third into the busy time to its end, with as many clients and as much to do, memory may grow by both together:
an interpreter's heap comes to rest slowly, and not at the same size each time.
"""


def broken(outcome: Outcome) -> list[str]:
    """The rules that were broken, each in a sentence with examples."""
    verdict, left = outcome.verdict, outcome.leftovers
    found = [
        "\n".join([f"{rule}: {verdict.times[rule]} times", *(f"    {example}" for example in examples)])
        for rule, examples in verdict.broken.items()
    ]
    if left.unexplained:
        found.append("\n".join([f"rows that nothing explains: {len(left.unexplained)}", *_some(left.unexplained)]))
    for process, early, late in zip(Memory._fields, outcome.early.memory, outcome.late.memory, strict=True):
        found += _growth(process, early, late)
    after = outcome.after
    if after.outside:
        found.append(f"{after.outside} connections with others are open, and nobody is there")
    if after.posts > posts_allowed(after):
        found.append(f"connections of posts are {after.posts}, and may be {posts_allowed(after)} once all is at rest")
    to_store = store_allowed(outcome.plan.size.clients, after)
    if after.store > to_store:
        found.append(f"connections to the store are {after.store}, and may be {to_store}")
    if after.rest > rest_allowed(outcome.before, after):
        found.append(f"descriptors besides connections grew from {outcome.before.rest} to {after.rest}")
    if outcome.tracebacks:
        found.append(
            "\n".join([f"tracebacks in the server's log: {len(outcome.tracebacks)}", *_some(outcome.tracebacks)])
        )
    return found


def _growth(what: str, early: int, late: int) -> list[str]:
    if late <= early * (1 + GROWTH_SHARE) + GROWTH_BYTES:
        return []
    return [
        f"the memory of the {what} grew from {early / MEGABYTE:,.0f} to {late / MEGABYTE:,.0f} MB under the same load"
    ]


def _some(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines[:10]]


def table(outcome: Outcome) -> Iterator[str]:
    """Lines of the report."""
    verdict, history, plan = outcome.verdict, outcome.history, outcome.plan
    yield (
        f"{plan.size.clients:,} clients, here after {outcome.filling_s:,.0f} s, busy for {plan.seconds:,.0f} s, "
        f"{outcome.seconds:,.0f} s in all, seed {plan.seed}"
    )
    yield ""
    talked_s = outcome.filling_s + plan.seconds
    opened = len(history.connections) - history.refused.total()
    yield from _rows(
        ("connections", f"{opened:,} opened{_counts(history.refused, ', refused ')}"),
        ("frames", f"{history.frames:,} sent"),
        ("messages", f"{verdict.messages:,} published"),
        ("deliveries", f"{verdict.deliveries:,}, {verdict.deliveries / talked_s:,.0f} a second"),
        ("due", f"{verdict.due:,}, of which came {verdict.made:,}"),
        ("lost", f"{verdict.lost.total():,}"),
        *((f"  {cause}", f"{times:,}") for cause, times in verdict.lost.most_common()),
        ("twice", f"{verdict.times[_TWICE]:,} (and {verdict.doubled:,} that a fault doubled)"),
        ("errors told", _counts(history.codes) or "none"),
        ("faults", f"{outcome.ledger.counts.total():,}"),
        *((f"  {at} {do}", f"{times:,}") for (at, do), times in sorted(outcome.ledger.counts.items())),
        ("rows left", f"{outcome.leftovers.reasons.total() + len(outcome.leftovers.unexplained):,}"),
        *((f"  {kind}", f"{times:,}  {reason}") for (kind, reason), times in sorted(outcome.leftovers.reasons.items())),
    )
    yield ""
    yield f"{'':22}{'before':>10}{'a third in':>12}{'at the end':>12}{'all gone':>10}"
    moments = (outcome.before, outcome.early, outcome.late, outcome.after)
    for place, process in enumerate(Memory._fields):
        yield _footprints(f"{process}, MB", [f"{each.memory[place] / MEGABYTE:,.0f}" for each in moments])
    yield _footprints("workers", [f"{each.workers:,}" for each in moments])
    yield _footprints("clients' connections", [f"{each.outside:,}" for each in moments])
    yield _footprints("connections of posts", [f"{each.posts:,}" for each in moments])
    yield _footprints("  to the store", [f"{each.store:,}" for each in moments])
    yield _footprints("other descriptors", [f"{each.rest:,}" for each in moments])


_TWICE = "came twice"


def _rows(*rows: tuple[str, str]) -> Iterator[str]:
    return (f"{name:34}{value}" for name, value in rows)


def _footprints(name: str, values: list[str]) -> str:
    return f"{name:22}" + "".join(f"{value:>{width}}" for value, width in zip(values, (10, 12, 12, 10), strict=True))


def _counts(counter: Counter[K], before: str = "") -> str:
    return (before if counter else "") + ", ".join(f"{name} {times:,}" for name, times in counter.most_common())
