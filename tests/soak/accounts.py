"""Who should have got what, who got it, and the cause of each loss.

A connection that was surely a member from before a message was sent until it was done with must have it once, or the
ledger has a fault that explains why not. Nobody else may have it, and nobody twice unless a fault doubled it. Where the
history leaves it open whether a connection was a member, nothing is demanded and nothing is forbidden. No I/O.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from math import inf

from chalicelib.transport import ANSWER_SECONDS

from .history import Connection, History, Message, Stay
from .ledger import Ledger

UNANSWERED_S = 120.0
"""A message whose sender was not told is done with so long after it was sent: a function has 29 s, and a laptop with
many of them under way takes longer to begin one.
"""

TRAVEL_S = 30.0
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


def judge(
    history: History, ledger: Ledger, expected_codes: frozenset[str] = frozenset(), parts_given_up: int = 0
) -> Verdict:
    """The account of a history that is over. `expected_codes` are errors that clients provoked on purpose. Of so many
    messages a part may have been handed on to an invocation that failed again and again.
    """
    return _Account(history, ledger, parts_given_up).verdict(expected_codes)


class _Account:
    def __init__(self, history: History, ledger: Ledger, parts_given_up: int) -> None:
        self._history = history
        self._ledger = ledger
        self._parts_given_up = parts_given_up
        self._given_up_in_part: set[int] = set()
        self._killed: defaultdict[Connection | None, set[int]] = defaultdict(set)
        """Messages that a kill of an invocation of that sender's stands for."""
        self._given_up: Counter[int] = Counter()
        """Losses of each message that its ack stands for."""
        self._verdict = Verdict(messages=len(history.messages), deliveries=history.deliveries)

    def verdict(self, expected_codes: frozenset[str]) -> Verdict:
        stays: defaultdict[str, list[tuple[Connection, Stay]]] = defaultdict(list)
        reached: Counter[int] = Counter()
        for connection in self._history.connections:
            reached.update(connection.received.keys())
            for stay in connection.stays:
                stays[stay.channel].append((connection, stay))
        for message in self._history.messages.values():
            self._judge_losses(message, stays[message.channel], reached[message.number])
            self._judge_answer(message, reached[message.number])
        for connection in self._history.connections:
            self._judge_receipts(connection)
            self._judge_notices(connection)
        for oddity in self._history.oddities:
            self._verdict.breaks(ODD, oddity)
        self._judge_codes(expected_codes)
        return self._verdict

    def _judge_codes(self, expected_codes: frozenset[str]) -> None:
        """What fails is tried again, so each error that is told has had at least one fault of its own."""
        store = self._ledger.store_failures
        faults = {UNAVAILABLE: store, PARTLY: store + self._ledger.post_failures}
        for code in self._history.codes.keys() - expected_codes:
            told, may_be = self._history.codes[code], faults.get(code, 0)
            if told > may_be:
                self._verdict.breaks(CODE, f"{code}, {told} times, and {may_be} faults that may bring it about")

    def _judge_losses(self, message: Message, stays: list[tuple[Connection, Stay]], reached: int) -> None:
        at_the_latest = self._history.at_the_latest
        done_at = at_the_latest(message, min(message.done_at, message.sent_at + UNANSWERED_S))
        there_at = at_the_latest(message, done_at + TRAVEL_S)
        for connection, stay in stays:
            if connection.id is None or not _concerns(message, connection):
                continue
            if not (stay.joined_at < message.sent_at and stay.leaving_at > done_at and connection.ending_at > there_at):
                continue
            self._verdict.due += 1
            if connection.received[message.number]:
                self._verdict.made += 1
                continue
            cause = (
                self._cause(message, connection)
                or self._cause_of_all(message, reached)
                or _first(("invocation killed", self._was_killed(message)))
                or self._cause_of_a_part(message)
                or _first(("post given up, sender told", self._was_given_up(message)))
            )
            self._verdict.lost[cause or UNEXPLAINED] += 1
            if cause is None:
                self._verdict.breaks(UNEXPLAINED, f"{_told(message)} to connection {connection.id}, a member")

    def _cause(self, message: Message, connection: Connection) -> str | None:
        """Why this one did not get it."""
        faults = self._ledger.of_delivery(connection.id, message.number)
        return _first(
            ("delivery dropped", faults["drop"]),
            ("post answered 500", faults["fail"]),
            ("post answered 429 again and again", faults["throttle"] > 1),  # after the first it is tried again
            ("socket frozen or cut", self._ledger.sockets.get(connection.id or "")),
            ("broadcast ended early, sender told", _was_told(message, PARTLY)),
        )

    def _cause_of_all(self, message: Message, reached: int) -> str | None:
        """Why nobody got it. A failure that comes before the first post explains no loss of some."""
        if reached or message.acked:
            return None
        sender = message.sender
        if sender is None:
            return _first((STORE_TOLD, message.code == UNAVAILABLE))
        lost = self._answer_lost(message, sender)
        if not message.wants_answer:
            lost = _was_lost(self._ledger.of_answer(sender.id, None))
        return _first(
            (STORE_TOLD, _was_told(message, UNAVAILABLE)),
            ("no function ran", self._ledger.frame_failed(sender.id, message.number)),
            ("sender gone", self._gone(message, sender)),
            ("store failed, answer lost", lost),
        )

    def _cause_of_a_part(self, message: Message) -> str | None:
        """Whether the invocation that was to send a part may have been given up. An ack says if there was one."""
        if message.done_at < inf:
            return None
        told_of = self._given_up_in_part | {message.number}
        if len(told_of) > self._parts_given_up:
            return None
        self._given_up_in_part = told_of
        return "handed on, and given up there"

    def _was_killed(self, message: Message) -> bool:
        """Whether a kill may have ended its invocation. Each kill stands for one message of that sender, so ask this
        only where nothing else explains what became of it.
        """
        if message.acked:
            return False
        stood_for = self._killed[message.sender] | {message.number}
        if len(stood_for) > self._ledger.kills[message.sender.id if message.sender else None]:
            return False
        self._killed[message.sender] = stood_for
        return True

    def _was_given_up(self, message: Message) -> bool:
        """Whether a post of it may have hung until its time was up, as it does on a machine that has too much to do:
        its ack counts those, and came no sooner. What a fault did to a post is among them.
        """
        if not message.acked or message.answered_at - message.sent_at < ANSWER_SECONDS:
            return False
        if self._given_up[message.number] + self._ledger.failed_posts[message.number] >= message.given_up:
            return False
        self._given_up[message.number] += 1
        return True

    def _gone(self, message: Message, sender: Connection) -> bool:
        """Whether the sender's end, or its socket's fault, may have kept the frame or its answer."""
        until = self._history.at_the_latest(message, message.sent_at + UNANSWERED_S)
        return sender.ending_at < until or bool(self._ledger.sockets.get(sender.id or ""))

    def _answer_lost(self, message: Message, sender: Connection) -> bool:
        return message.answered_at == inf and _was_lost(self._ledger.of_answer(sender.id, message.number))

    def _judge_answer(self, message: Message, reached: int) -> None:
        if message.code == UNAVAILABLE and reached:
            self._verdict.breaks(SENT_ALL_THE_SAME, f"{_told(message)} came to {reached}")
        if not message.wants_answer or message.answered_at < inf:
            return
        sender = message.sender
        lost = sender is not None and (
            self._ledger.frame_failed(sender.id, message.number)
            or self._gone(message, sender)
            or self._answer_lost(message, sender)
        )
        if not lost and not self._was_killed(message):
            self._verdict.breaks(UNANSWERED, _told(message))

    def _judge_receipts(self, connection: Connection) -> None:
        for number, times in connection.received.items():
            message = self._history.messages[number]
            doubled = self._ledger.of_delivery(connection.id, number)["double"]
            self._verdict.doubled += min(times - 1, doubled)
            if times > 1 + doubled and connection.id is not None:
                self._verdict.breaks(TWICE, f"{_told(message)} came {times} times to connection {connection.id}")
            stays = (stay for stay in connection.stays if stay.channel == message.channel)
            if not _concerns(message, connection) or not any(_may_get(message, stay) for stay in stays):
                self._verdict.breaks(NOT_FOR_IT, f"{_told(message)} to connection {connection.id}")

    def _judge_notices(self, connection: Connection) -> None:
        if connection.id is None:
            return
        faults = self._ledger.failed_frames[connection.id] + self._ledger.kills[connection.id]
        if connection.notices > faults:
            told = f"connection {connection.id}: {connection.notices} of them, and {faults} faults"
            self._verdict.breaks(NOTICE, told)


def _concerns(message: Message, connection: Connection) -> bool:
    if connection is message.excluded:
        return False
    return message.to_sender or connection is not message.sender


def _was_told(message: Message, code: str) -> bool:
    """Whether its sender was told that; one of y-webrtc is not told which of its messages is meant."""
    if message.wants_answer or message.sender is None:
        return message.code == code
    since, until = message.sent_at, message.sent_at + UNANSWERED_S
    return any(since < at < until and told == code for at, told in message.sender.errors)


def _may_get(message: Message, stay: Stay) -> bool:
    return stay.asked_at < message.done_at and stay.left_at > message.sent_at


def _was_lost(faults: Counter[str]) -> bool:
    return bool(faults["drop"] or faults["fail"]) or faults["throttle"] > 1


def _first(*causes: tuple[str, object]) -> str | None:
    return next((cause for cause, holds in causes if holds), None)


def _told(message: Message) -> str:
    sender = "a backend" if message.sender is None else f"connection {message.sender.id}"
    became = message.code or ("acked" if message.acked else "unanswered")
    return f"message {message.number} of {sender} in {message.channel} ({became}, {message.given_up} posts given up)"
