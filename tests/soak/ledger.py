"""The faults that the server says it has put in, found by connection and message.

The server's answer to GET /_faults/hits is where they come from. Knows nothing of what they do to a client.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from localaws.faults import Hit

from .history import marked

_ANSWERS = ('{"type":"ack"', '{"type":"error"')


_POST_FAILURES = (
    ("delivery", "throttle"),
    ("delivery", "fail"),
    ("delivery", "forget"),
    ("socket", "freeze"),
    ("socket", "cut"),
)


class Ledger:
    """All faults so far."""

    def __init__(self, hits: Iterable[Hit] = ()) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        """By place and deed."""
        self.sockets: defaultdict[str, set[str]] = defaultdict(set)
        """Connections whose socket was frozen or cut."""
        self.lost_disconnects: set[str] = set()
        self.failed_frames: Counter[str] = Counter()
        """Frames of each connection whose function never ran."""
        self.kills: Counter[str | None] = Counter()
        """Invocations for a frame that were killed, by connection; by None those for a backend."""
        self.failed_posts: Counter[int] = Counter()
        """Posts of each message that were answered with an error of the gateway's, or not at all."""
        self.kills_at_an_end: set[str] = set()
        """Connections whose $connect or $disconnect was killed."""
        self._deliveries: defaultdict[tuple[str, int], Counter[str]] = defaultdict(Counter)
        self._answers: defaultdict[tuple[str, int | None], Counter[str]] = defaultdict(Counter)
        self._frames: set[tuple[str, int]] = set()
        self.add(hits)

    @property
    def store_failures(self) -> int:
        """How many requests to the store failed, or were left undone in part."""
        return sum(times for (at, do), times in self.counts.items() if at == "store" and do != "delay")

    @property
    def post_failures(self) -> int:
        """How many posts failed, and sockets on which they may hang."""
        return sum(self.counts[what] for what in _POST_FAILURES)

    def add(self, hits: Iterable[Hit]) -> None:
        """Takes further hits."""
        for hit in hits:
            self.counts[hit.at, hit.do] += 1
            if hit.at == "invocation" and hit.connection and hit.detail.endswith("connect"):
                self.kills_at_an_end.add(hit.connection)
            elif hit.at == "invocation":
                self.kills[hit.connection] += 1
            elif hit.connection is not None:
                self._add(hit, hit.connection)

    def _add(self, hit: Hit, connection: str) -> None:
        number = marked(hit.detail)
        if hit.at == "socket":
            self.sockets[connection].add(hit.do)
        elif hit.at == "disconnect":
            self.lost_disconnects.add(connection)
        elif hit.at == "delivery" and hit.detail.startswith(_ANSWERS):
            self._answers[connection, number][hit.do] += 1
        elif hit.at == "delivery" and number is not None:
            self._deliveries[connection, number][hit.do] += 1
            self.failed_posts[number] += hit.do in {"fail", "forget"}
        elif hit.at == "frame" and hit.do == "fail":
            self.failed_frames[connection] += 1
            if number is not None:
                self._frames.add((connection, number))

    def of_delivery(self, connection: str | None, number: int) -> Counter[str]:
        """What was done to a message on its way to that connection."""
        return self._deliveries.get((connection or "", number), Counter())

    def of_answer(self, connection: str | None, number: int | None) -> Counter[str]:
        """What was done to the answer to that message's frame; None: to answers that name no frame."""
        return self._answers.get((connection or "", number), Counter())

    def frame_failed(self, connection: str | None, number: int) -> bool:
        """Whether no function ran for that message's frame."""
        return (connection or "", number) in self._frames
