"""What became of the publishes that pages sent, judged from their frames as Chromium recorded them.

y-webrtc repairs nothing: a signal that comes twice, or not at all, can cost two pages each other for good. So each
publish has to come to each subscriber once. Knows nothing of y-webrtc's own state, and nothing of faults but what has
been injected.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from localaws.faults import DETAIL_CHARACTERS, Hit
from tests.faults import Faults

from .pages import ClientPage, Frame

SETTLED_S = 3.0
"""What is published so shortly before one of its two sockets closes may or may not come."""


class Copy(NamedTuple):
    """One page's copy of a publish."""

    page: int
    publish: str


def assert_each_publish_came_once(pages: Sequence[ClientPage], faults: Faults) -> None:
    """Waits until no copy is missing but those whose loss was injected, and asserts that none came twice."""
    try:
        pages[0].wait_for("every publish at every subscriber", lambda: not missing(pages, faults.hits()))
    except AssertionError as error:
        raise AssertionError(f"lost without a fault: {missing(pages, faults.hits())}") from error
    assert not doubled(pages), f"came twice: {doubled(pages)}"


def missing(pages: Sequence[ClientPage], injected: Sequence[Hit] = ()) -> Counter[Copy]:
    """The copies that have to come and have not, by how often; without those whose loss was injected.

    A page certainly is a subscriber from the first publish that came to a socket of its until that socket closes. It
    may have been one before, so that more may come than has to.
    """
    refused = [hit for hit in injected if (hit.at, hit.do) == ("frame", "fail")]
    undelivered = [hit for hit in injected if hit.at == "delivery" and hit.do in {"drop", "fail"}]
    sent = [
        (sender, frame)
        for sender in pages
        for frame in _publishes(sender, "sent")
        if not any(frame.text.startswith(hit.detail) for hit in refused)
    ]
    has_to_come = Counter(
        Copy(number, _content(frame))
        for number, receiver in enumerate(pages)
        for sender, frame in sent
        if _stays_open(sender, frame.socket, frame.at) and _is_subscribed(receiver, frame.at)
    )
    left = has_to_come - _came(pages)
    for hit in undelivered:
        begin = hit.detail if len(hit.detail) == DETAIL_CHARACTERS else _content_of_text(hit.detail)
        copy = next((copy for copy in left if copy.publish.startswith(begin)), None)
        left -= Counter([copy] if copy else ())
    return left


def doubled(pages: Sequence[ClientPage]) -> Counter[Copy]:
    """The copies that came, by how often each came more often than the publish was sent."""
    sent = Counter(_content(frame) for page in pages for frame in _publishes(page, "sent"))
    may_come = Counter({Copy(page, publish): sent[publish] for page in range(len(pages)) for publish in sent})
    return _came(pages) - may_come


def _came(pages: Sequence[ClientPage]) -> Counter[Copy]:
    return Counter(
        Copy(number, _content(frame)) for number, page in enumerate(pages) for frame in _publishes(page, "received")
    )


def _is_subscribed(page: ClientPage, at: float) -> bool:
    came = {frame.socket for frame in _publishes(page, "received") if frame.at < at}
    return any(_stays_open(page, socket, at) for socket in came)


def _stays_open(page: ClientPage, socket: int, at: float) -> bool:
    return page.closed_at.get(socket, math.inf) > at + SETTLED_S


def _publishes(page: ClientPage, direction: str) -> list[Frame]:
    return [frame for frame in page.frames if frame.direction == direction and '"type":"publish"' in frame.text]


def _content(frame: Frame) -> str:
    return _content_of_text(frame.text)


def _content_of_text(text: str) -> str:
    """A publish as its sender wrote it: without the number of clients, which the server adds."""
    fields = json.loads(text)
    fields.pop("clients", None)
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
