"""Who should have got what, who got it, and the cause of each loss.

A connection that was surely a member from before a message was sent until it was done with must have it once, or the
ledger has a fault that explains why not. Nobody else may have it, and nobody twice unless a fault doubled it. Where the
history leaves it open whether a connection was a member, nothing is demanded and nothing is forbidden. No I/O.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from .history import Connection, History, Message, Stay
from .ledger import Ledger

UNANSWERED_S = 60.0
"""A message whose sender was not told is done with so long after it was sent: a function has 29 s, and a laptop with
many of them under way takes longer to begin one.
"""

TRAVEL_S = 20.0
"""How long what is posted may be on its way: what has not come when its receiver goes is not lost before that."""

EXAMPLES = 5
"""How many broken rules of a kind are told in full."""

UNAVAILABLE, PARTLY = "unavailable", "partly_delivered"
UPSTREAM = frozenset({UNAVAILABLE, PARTLY})
"""What a client may be told when AWS fails. A backend is told the error's class: see backend.py."""

STORE_TOLD = "store failed, sender told"

UNEXPLAINED, TWICE, NOT_FOR_IT, UNANSWERED, SENT_ALL_THE_SAME, ODD, NOTICE, CODE = (
    "lost without a cause",
    "came twice",
    "came to one that it was not for",
    "sender never told",
    "sent although its sender was told that it was not",
    "not as it was published",
    "API Gateway's own error without a cause",
    "an error that nothing explains",
)


@dataclass
class Verdict:
    """What the account comes to. `broken` has, by rule, how often and some examples."""

    messages: int = 0
    due: int = 0
    """Deliveries that had to happen."""
    made: int = 0
    """Of those, the ones that did."""
    deliveries: int = 0
    """All that came, the ones that did not have to be included."""
    lost: Counter[str] = field(default_factory=Counter)
    """Due and not made, by cause."""
    doubled: int = 0
    """What came twice because a fault doubled it."""
    broken: dict[str, list[str]] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)

    def breaks(self, rule: str, example: str) -> None:
        """That rule is broken."""
        self.times[rule] += 1
        examples = self.broken.setdefault(rule, [])
        if len(examples) < EXAMPLES:
            examples.append(example)


def judge(history: History, ledger: Ledger, expected_codes: frozenset[str] = frozenset()) -> Verdict:
    """The account of a history that is over. `expected_codes` are errors that clients provoked on purpose."""
    verdict = Verdict(messages=len(history.messages), deliveries=history.deliveries)
    stays: defaultdict[str, list[tuple[Connection, Stay]]] = defaultdict(list)
    reached: Counter[int] = Counter()
    for connection in history.connections:
        reached.update(connection.received.keys())
        for stay in connection.stays:
            stays[stay.channel].append((connection, stay))
    for message in history.messages.values():
        _judge_losses(verdict, ledger, message, stays[message.channel], reached[message.number])
        _judge_answer(verdict, ledger, message, reached[message.number])
    for connection in history.connections:
        _judge_receipts(verdict, ledger, connection, history)
        faults = ledger.failed_frames[connection.id or ""] + ledger.kills[connection.id]
        if connection.id is not None and connection.notices > faults:
            verdict.breaks(NOTICE, f"connection {connection.id}: {connection.notices} of them, and {faults} faults")
    for oddity in history.oddities:
        verdict.breaks(ODD, oddity)
    for code in history.codes.keys() - expected_codes - UPSTREAM:
        verdict.breaks(CODE, f"{code}, {history.codes[code]} times")
    return verdict


def _judge_losses(
    verdict: Verdict, ledger: Ledger, message: Message, stays: list[tuple[Connection, Stay]], reached: int
) -> None:
    done_at = message.answered_at if message.answered_at < inf else message.sent_at + UNANSWERED_S
    for connection, stay in stays:
        if connection.id is None or not _concerns(message, connection):
            continue
        if not (stay.joined_at < message.sent_at and stay.leaving_at > done_at):
            continue
        if connection.ending_at <= done_at + TRAVEL_S:
            continue
        verdict.due += 1
        if connection.received[message.number]:
            verdict.made += 1
            continue
        cause = _cause(ledger, message, connection) or _cause_of_all(ledger, message, reached)
        verdict.lost[cause or UNEXPLAINED] += 1
        if cause is None:
            verdict.breaks(UNEXPLAINED, f"{_told(message)} to connection {connection.id}, a member")


def _concerns(message: Message, connection: Connection) -> bool:
    if connection is message.excluded:
        return False
    return message.to_sender or connection is not message.sender


def _cause(ledger: Ledger, message: Message, connection: Connection) -> str | None:
    """Why this one did not get it."""
    faults = ledger.of_delivery(connection.id, message.number)
    return _first(
        ("delivery dropped", faults["drop"]),
        ("post answered 500", faults["fail"]),
        ("post answered 429 again and again", faults["throttle"] > 1),  # after the first it is tried again
        ("socket frozen or cut", ledger.sockets.get(connection.id or "")),
        ("invocation killed", _killed(ledger, message)),
        ("broadcast ended early", message.code == PARTLY),
    )


def _cause_of_all(ledger: Ledger, message: Message, reached: int) -> str | None:
    """Why nobody got it. A failure that comes before the first post explains no loss of some."""
    if reached or message.acked:
        return None
    if message.sender is None:
        return _first((STORE_TOLD, message.code == UNAVAILABLE))
    sender, told, lost = message.sender, message.code == UNAVAILABLE, _answer_lost(ledger, message, message.sender)
    if not message.wants_answer:
        told = any(message.sent_at < at < message.sent_at + UNANSWERED_S for at in sender.errors)
        lost = _was_lost(ledger.of_answer(sender.id, None))
    return _first(
        (STORE_TOLD, told),
        ("no function ran", ledger.frame_failed(sender.id, message.number)),
        ("sender gone", _gone(ledger, message, sender)),
        ("store failed, answer lost", lost),
    )


def _first(*causes: tuple[str, object]) -> str | None:
    return next((cause for cause, holds in causes if holds), None)


def _killed(ledger: Ledger, message: Message) -> bool:
    return not message.acked and bool(ledger.kills[message.sender.id if message.sender else None])


def _gone(ledger: Ledger, message: Message, sender: Connection) -> bool:
    """Whether the sender's end, or its socket's fault, may have kept the frame or its answer."""
    return sender.ending_at < message.sent_at + UNANSWERED_S or bool(ledger.sockets.get(sender.id or ""))


def _answer_lost(ledger: Ledger, message: Message, sender: Connection) -> bool:
    return message.answered_at == inf and _was_lost(ledger.of_answer(sender.id, message.number))


def _was_lost(faults: Counter[str]) -> bool:
    return bool(faults["drop"] or faults["fail"]) or faults["throttle"] > 1


def _judge_answer(verdict: Verdict, ledger: Ledger, message: Message, reached: int) -> None:
    if message.code == UNAVAILABLE and reached:
        verdict.breaks(SENT_ALL_THE_SAME, f"{_told(message)} came to {reached}")
    if not message.wants_answer or message.answered_at < inf or _killed(ledger, message):
        return
    sender = message.sender
    if sender is not None and (
        ledger.frame_failed(sender.id, message.number)
        or _gone(ledger, message, sender)
        or _answer_lost(ledger, message, sender)
    ):
        return
    verdict.breaks(UNANSWERED, _told(message))


def _judge_receipts(verdict: Verdict, ledger: Ledger, connection: Connection, history: History) -> None:
    for number, times in connection.received.items():
        message = history.messages[number]
        doubled = ledger.of_delivery(connection.id, number)["double"]
        verdict.doubled += min(times - 1, doubled)
        if times > 1 + doubled and connection.id is not None:
            verdict.breaks(TWICE, f"{_told(message)} came {times} times to connection {connection.id}")
        if not _concerns(message, connection) or not any(_may_get(message, stay) for stay in _of(connection, message)):
            verdict.breaks(NOT_FOR_IT, f"{_told(message)} to connection {connection.id}")


def _of(connection: Connection, message: Message) -> Iterator[Stay]:
    return (stay for stay in connection.stays if stay.channel == message.channel)


def _may_get(message: Message, stay: Stay) -> bool:
    return stay.asked_at < message.answered_at and stay.left_at > message.sent_at


def _told(message: Message) -> str:
    sender = "a backend" if message.sender is None else f"connection {message.sender.id}"
    became = message.code or ("acked" if message.acked else "unanswered")
    return f"message {message.number} of {sender} in {message.channel} ({became}, {message.given_up} posts given up)"
